package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// object is a JSON object of the document.
type object = map[string]any

// document makes the OpenAPI document from the routes and the types that they
// take and give, so that it can't fall behind them.
//
// Source: https://spec.openapis.org/oas/v3.1.1.html
func document(all []route) json.RawMessage {
	schemas := object{}
	paths := object{}
	for _, rt := range all {
		path, ok := paths[rt.path].(object)
		if !ok {
			path = object{}
			paths[rt.path] = path
		}
		path[strings.ToLower(rt.method)] = rt.operation(schemas)
	}
	reference(reflect.TypeFor[Problem](), schemas)
	doc, err := json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{
			"title":       "agiproxy",
			"version":     "1",
			"description": "What agiproxy's admin port tells and does. Times are RFC 3339, durations are seconds, and no field is ever left out.",
			"license":     object{"name": "Apache 2.0", "identifier": "Apache-2.0"},
		},
		"servers":    []object{{"url": prefix}},
		"paths":      paths,
		"components": object{"schemas": schemas},
	}, "", " ")
	if err != nil {
		panic(err) // it's made of strings and maps alone
	}
	return doc
}

var pathParam = regexp.MustCompile(`\{(\w+)\}`)

// operation describes a route. The schemas that it needs are added to those.
func (rt *route) operation(schemas object) object {
	content := "application/json"
	if rt.stream {
		content = "text/event-stream"
	}
	answer := object{"description": rt.summary + "."}
	if rt.stream {
		answer["description"] = rt.summary + ": server-sent events, each with one such object as its data."
	}
	answer["content"] = object{content: object{"schema": schema(reflect.TypeOf(rt.result), schemas)}}
	responses := object{"200": answer}
	for _, status := range rt.errors {
		responses[strconv.Itoa(status)] = object{
			"description": http.StatusText(status) + ".",
			"content":     object{"application/problem+json": object{"schema": schema(reflect.TypeFor[Problem](), schemas)}},
		}
	}
	op := object{"summary": rt.summary, "responses": responses}
	var params []object
	for _, m := range pathParam.FindAllStringSubmatch(rt.path, -1) {
		params = append(params, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, q := range rt.query {
		params = append(params, object{"name": q.name, "in": "query", "description": q.doc, "schema": object{"type": "string"}})
	}
	if params != nil {
		op["parameters"] = params
	}
	if rt.body != nil {
		op["requestBody"] = object{
			"required": !rt.optional,
			"content":  object{"application/json": object{"schema": schema(reflect.TypeOf(rt.body), schemas)}},
		}
	}
	return op
}

// schema describes a type.
func schema(t reflect.Type, schemas object) object {
	if t == reflect.TypeFor[time.Time]() {
		return object{"type": "string", "format": "date-time"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		inner := schema(t.Elem(), schemas)
		if kind, ok := inner["type"].(string); ok {
			inner["type"] = []string{kind, "null"}
			return inner
		}
		return object{"oneOf": []object{inner, {"type": "null"}}}
	case reflect.Slice:
		return object{"type": "array", "items": schema(t.Elem(), schemas)}
	case reflect.Struct:
		return reference(t, schemas)
	case reflect.Map:
		return object{"type": "object"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.Int, reflect.Uint32, reflect.Uint64:
		return object{"type": "integer"}
	}
	panic(fmt.Sprintf("admin: no schema for %v", t))
}

// reference refers to a struct's schema, and adds it to those if it isn't there.
func reference(t reflect.Type, schemas object) object {
	name := strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
	ref := object{"$ref": "#/components/schemas/" + name}
	if _, ok := schemas[name]; ok {
		return ref
	}
	properties := object{}
	s := object{"type": "object", "properties": properties}
	schemas[name] = s // before its fields, which may refer to it
	var required []string
	for i := range t.NumField() {
		f := t.Field(i)
		field := f.Tag.Get("json")
		property := schema(f.Type, schemas)
		property["description"] = f.Tag.Get("doc")
		if values := f.Tag.Get("enum"); values != "" {
			property["enum"] = strings.Fields(values)
		}
		properties[field] = property
		if !strings.HasSuffix(t.Name(), "Request") || f.Type.Kind() != reflect.Pointer {
			required = append(required, field)
		}
	}
	if required != nil {
		s["required"] = required
	}
	return ref
}
