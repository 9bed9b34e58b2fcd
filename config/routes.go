package config

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"regexp/syntax"
	"strings"

	"gopkg.in/yaml.v3"
)

// route decodes one entry of routes.
func (d *decoder) route(key string, n *yaml.Node) Route {
	var r Route
	before := d.count()
	s := d.item(key, n, d.routeFields(&r))
	if n.Kind == yaml.MappingNode && r.Pool == "" && !s.bad["pool"] {
		d.fault(n, "%s: a route without its pool; want pool: NAME", key)
	}
	d.places.routes = append(d.places.routes, routePlace{s.node, s.at("pool"), d.count() > before})
	return r
}

func (d *decoder) routeFields(r *Route) fields {
	return fields{
		"match": func(key string, n *yaml.Node) { r.Match = d.match(key, n) },
		"pool":  d.text(&r.Pool),
	}
}

// match decodes a route's conditions. Its keys are free, within fieldName; a
// key without a value is a fault here, for a condition that silently vanishes
// would make its route match everything.
func (d *decoder) match(key string, n *yaml.Node) (matches []Match) {
	for entry := range d.entries(key, n) {
		name := dotted(key, entry.key)
		if entry.key != "script" && entry.key != "host" && !fieldName.MatchString(entry.key) {
			d.fault(entry.at, "unknown key %s; want script, host, or a header field such as agi_context", quote(name))
			continue
		}
		if isNull(entry.value) {
			d.fault(entry.value, "%s: no pattern; want a glob, or a regular expression after ~ (a ~ alone is YAML's null)", name)
			continue
		}
		pattern, ok := d.scalar(name, entry.value, "a glob, or a regular expression after ~")
		if !ok {
			continue
		}
		if err := checkPattern(pattern); err != nil {
			d.fault(entry.value, "%s: %s: %v", name, quote(pattern), err)
			continue
		}
		matches = append(matches, Match{entry.key, pattern})
	}
	return matches
}

// fieldName is a header field that a route may look at; Asterisk writes them in
// lower case.
var fieldName = regexp.MustCompile(`^agi_[a-z0-9_]{1,60}$`)

// checkPattern checks that a pattern can be matched with.
func checkPattern(pattern string) error {
	const most = 1000 // bytes; longer ones belong into the scripts
	expression, isExpression := strings.CutPrefix(pattern, "~")
	switch {
	case len(pattern) > most:
		return fmt.Errorf("the pattern is too long; want at most %d bytes", most)
	case !isExpression:
		_, err := path.Match(pattern, "")
		return err
	}
	_, err := regexp.Compile(expression)
	if wrong, ok := errors.AsType[*syntax.Error](err); ok {
		return fmt.Errorf("%s: %s", wrong.Code, quote(wrong.Expr)) // the message of its own may have several lines
	}
	return err
}
