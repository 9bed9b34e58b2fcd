package proxy

import (
	"fmt"
	"regexp"
	"strings"

	"agiproxy/agi"
)

// A Route sends the sessions whose header meets all its conditions to a pool.
type Route struct {
	Pool       string
	conditions []condition
}

// A condition is met by a header in which the field's value matches.
type condition struct {
	field   string
	pattern string // as it was written
	match   *regexp.Regexp
}

// Match names a header field and the pattern that its whole value must match.
// The field is "script", the path in the URL; "host", the URL's host; or a
// header field such as "agi_context". The pattern is a glob, in which * stands
// for any characters, ? for any one and [a-z] for one of a class; after a tilde
// it is a regular expression, which may match any part of the value.
type Match struct {
	Field   string
	Pattern string
}

// NewRoute returns a route to pool for sessions that meet every match; without
// any it takes all sessions. The error is a bad pattern's.
func NewRoute(pool string, matches ...Match) (Route, error) {
	r := Route{Pool: pool}
	for _, m := range matches {
		re, err := compile(m.Pattern, m.Field == "host")
		if err != nil {
			return Route{}, fmt.Errorf("match %s: %w", m.Field, err)
		}
		r.conditions = append(r.conditions, condition{m.Field, m.Pattern, re})
	}
	return r, nil
}

// compile turns a pattern into a regular expression. A glob means what it does
// to path.Match, but that the slash is a character as any other. Names of hosts
// match in any case.
func compile(pattern string, anyCase bool) (*regexp.Regexp, error) {
	fold := ""
	if anyCase {
		fold = "(?i)"
	}
	if expr, ok := strings.CutPrefix(pattern, "~"); ok {
		return regexp.Compile(fold + expr)
	}
	var b strings.Builder
	b.WriteString(fold + "^(?s:")
	inClass, opened, escaped := false, false, false
	for _, c := range pattern {
		first := opened // in its class
		opened = false
		switch {
		case escaped:
			escaped = false
			fmt.Fprintf(&b, `\x{%x}`, c)
		case c == '\\':
			escaped = true
		case inClass && (c == '-' || c == ']' || c == '^' && first):
			b.WriteRune(c)
			inClass = c != ']'
		case !inClass && c == '[':
			b.WriteRune(c)
			inClass, opened = true, true
		case !inClass && c == '*':
			b.WriteString(".*")
		case !inClass && c == '?':
			b.WriteString(".")
		default:
			fmt.Fprintf(&b, `\x{%x}`, c)
		}
	}
	switch {
	case inClass:
		return nil, fmt.Errorf("glob %q: unfinished class", pattern)
	case escaped:
		return nil, fmt.Errorf("glob %q: ends in a backslash", pattern)
	}
	b.WriteString(")$")
	return regexp.Compile(b.String())
}

// value returns what a header has in a field, see [Match].
func value(h *agi.Header, field string) []byte {
	switch field {
	case "script":
		return h.Script()
	case "host":
		return h.Host()
	}
	return h.Field(field)
}

// Miss returns why the route doesn't take a session with that header, and ""
// if it does.
func (r *Route) Miss(h *agi.Header) string {
	for _, c := range r.conditions {
		if v := value(h, c.field); !c.match.Match(v) {
			return fmt.Sprintf("%s is %q, not %s", c.field, v, c.pattern)
		}
	}
	return ""
}

// takes reports whether the route takes a session with that header.
func (r *Route) takes(h *agi.Header) bool {
	for i := range r.conditions {
		if c := &r.conditions[i]; !c.match.Match(value(h, c.field)) {
			return false
		}
	}
	return true
}

// route returns the pool for a session with that header, nil if no route takes
// it.
func (t *Table) route(h *agi.Header) *Pool {
	for i := range t.Routes {
		if t.Routes[i].takes(h) {
			return t.pool(t.Routes[i].Pool)
		}
	}
	return nil
}
