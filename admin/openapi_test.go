package admin

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"agiproxy/proxy"
)

// api31 is what the test reads of an OpenAPI document.
type api31 struct {
	OpenAPI string
	Servers []struct{ URL string }
	Paths   map[string]map[string]struct {
		Summary    string
		Parameters []struct {
			Name, In string
			Required bool
		}
		RequestBody *struct {
			Content map[string]struct{ Schema map[string]any }
		}
		Responses map[string]struct {
			Description string
			Content     map[string]struct{ Schema map[string]any }
		}
	}
	Components struct{ Schemas map[string]map[string]any }
}

func openAPI(t *testing.T) (doc api31) {
	t.Helper()
	w := ask(newFakeControl(), "GET", "/api/v1/openapi.json", "")
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Code != 200 {
		t.Fatalf("openapi.json: %d, %v", w.Code, err)
	}
	return doc
}

// bodies are requests that the fake controller can do.
var bodies = map[string]string{
	"/backends/{pool}/{backend}/drain":  `{"deadline_seconds": 5}`,
	"/backends/{pool}/{backend}/weight": `{"weight": 5}`,
	"/backends/{pool}/{backend}/eject":  `{"duration_seconds": 5}`,
}

// Everything that the document describes is there and answers as described, to
// the last field, and nothing answers that it doesn't describe.
func TestOpenAPI(t *testing.T) {
	doc := openAPI(t)
	if doc.OpenAPI != "3.1.0" || doc.Servers[0].URL != "/api/v1" {
		t.Errorf("OpenAPI %s for %q; want 3.1.0 for /api/v1", doc.OpenAPI, doc.Servers)
	}
	fill := strings.NewReplacer("{pool}", "ivr", "{backend}", "ivr1", "{id}", "7")
	for path, operations := range doc.Paths {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
			op, described := operations[strings.ToLower(method)]
			t.Run(method+" "+path, func(t *testing.T) {
				status, contentType, answer := call(t, method, "/api/v1"+fill.Replace(path), bodies[path])
				if !described {
					if status != http.StatusMethodNotAllowed {
						t.Errorf("%d, and the document doesn't have it; want 405", status)
					}
					return
				}
				response := op.Responses[fmt.Sprint(status)]
				content, ok := response.Content[contentType]
				if status != 200 || !ok {
					t.Fatalf("%d as %q; the document has 200 as %v", status, contentType, slices.Collect(maps.Keys(response.Content)))
				}
				if op.Summary == "" || response.Description == "" {
					t.Error("it has no description")
				}
				doc.check(t, "answer", content.Schema, answer)
				for _, p := range op.Parameters {
					if p.In == "path" && !strings.Contains(path, "{"+p.Name+"}") {
						t.Errorf("the path has no parameter %s", p.Name)
					}
				}
				if body := bodies[path]; (op.RequestBody != nil) != (body != "") {
					t.Errorf("has a body: %v; want %v", op.RequestBody != nil, body != "")
				} else if body != "" {
					var v any
					json.Unmarshal([]byte(body), &v)
					doc.check(t, "body", op.RequestBody.Content["application/json"].Schema, v)
				}
			})
		}
	}
	if status, _, _ := call(t, "GET", "/api/v1/nothing", ""); status != 404 {
		t.Errorf("GET of nothing: %d; want 404", status)
	}
}

// Query parameters that the document has are taken, and others are not.
func TestOpenAPIQueries(t *testing.T) {
	doc := openAPI(t)
	values := map[string]string{"limit": "5", "after": "5", "pool": "ivr"}
	for path, operations := range doc.Paths {
		op, ok := operations["get"]
		if !ok || strings.Contains(path, "{") {
			continue
		}
		for _, p := range op.Parameters {
			value := values[p.Name]
			if value == "" {
				value = "x"
			}
			if status, _, _ := call(t, "GET", "/api/v1"+path+"?"+p.Name+"="+value, ""); status != 200 {
				t.Errorf("GET %s?%s=%s: %d; want 200", path, p.Name, value, status)
			}
		}
		if len(op.Parameters) > 0 {
			if status, _, _ := call(t, "GET", "/api/v1"+path+"?bogus=x", ""); status != 400 {
				t.Errorf("GET %s?bogus=x: %d; want 400", path, status)
			}
		}
	}
}

// call asks for something, and returns the first value of a stream.
func call(t *testing.T, method, path, body string) (status int, contentType string, answer any) {
	t.Helper()
	c := newFakeControl()
	c.trace.lines <- proxy.Line{Time: noon, From: proxy.Backend, Text: "NOOP"}
	server := httptest.NewServer(pages(Options{Registry: registry(), Control: c}))
	defer server.Close()
	request, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	contentType = response.Header.Get("Content-Type")
	var text []byte
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		line := lines.Bytes()
		if contentType == "text/event-stream" {
			data, ok := strings.CutPrefix(string(line), "data: ")
			if !ok {
				continue
			}
			text = []byte(data)
			break
		}
		text = append(text, line...)
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatalf("%s %s: %q: %v", method, path, text, err)
	}
	return response.StatusCode, contentType, answer
}

// check compares a value with its schema, both ways.
func (doc *api31) check(t *testing.T, where string, schema map[string]any, v any) {
	t.Helper()
	if alternatives, ok := schema["oneOf"].([]any); ok {
		if v == nil {
			return
		}
		schema = alternatives[0].(map[string]any)
	}
	if ref, ok := schema["$ref"].(string); ok {
		schema = doc.Components.Schemas[strings.TrimPrefix(ref, "#/components/schemas/")]
		if schema == nil {
			t.Fatalf("%s: no schema %s", where, ref)
		}
	}
	kinds := []any{schema["type"]}
	if list, ok := schema["type"].([]any); ok {
		kinds = list
	}
	kind := map[bool]string{true: "null"}[v == nil]
	switch x := v.(type) {
	case bool:
		kind = "boolean"
	case float64:
		if kind = "number"; x == float64(int64(x)) && slices.Contains(kinds, any("integer")) {
			kind = "integer"
		}
	case string:
		kind = "string"
		if enum, ok := schema["enum"].([]any); ok && !slices.Contains(enum, v) {
			t.Errorf("%s: %q is none of %v", where, x, enum)
		}
		if schema["format"] == "date-time" {
			if _, err := time.Parse(time.RFC3339, x); err != nil {
				t.Errorf("%s: %v", where, err)
			}
		}
	case []any:
		kind = "array"
		for i, item := range x {
			doc.check(t, fmt.Sprint(where, "[", i, "]"), schema["items"].(map[string]any), item)
		}
	case map[string]any:
		kind = "object"
		properties, ok := schema["properties"].(map[string]any)
		if !ok {
			break // of any shape
		}
		for name, item := range x {
			property, ok := properties[name].(map[string]any)
			if !ok {
				t.Errorf("%s.%s isn't in the document", where, name)
				continue
			}
			if property["description"] == "" {
				t.Errorf("%s.%s has no description", where, name)
			}
			doc.check(t, where+"."+name, property, item)
		}
		for name := range properties {
			if _, ok := x[name]; !ok {
				t.Errorf("%s.%s is in the document, and not in the answer", where, name)
			}
		}
	}
	if !slices.Contains(kinds, any(kind)) {
		t.Errorf("%s is %v, of type %s; want %v", where, v, kind, kinds)
	}
}

// The operators' page lists the API's calls, each once.
func TestOperatingPageListsTheCalls(t *testing.T) {
	page, err := os.ReadFile("../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented, want []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Z]+ /api/v1/[^`]*)` \\|").FindAllStringSubmatch(string(page), -1) {
		documented = append(documented, m[1])
	}
	for _, rt := range routes() {
		want = append(want, rt.method+" "+prefix+rt.path)
	}
	if !slices.Equal(documented, want) {
		t.Errorf("docs/operating.md has\n%s\nwant\n%s", strings.Join(documented, "\n"), strings.Join(want, "\n"))
	}
}
