package proxy

import (
	"cmp"
	"strings"
	"testing"

	"agiproxy/agi"
	"agiproxy/balancer"
)

// headerOf returns the header of these lines, without the empty one.
func headerOf(t *testing.T, lines ...string) *agi.Header {
	t.Helper()
	h := agi.NewHeader(64 << 10)
	if _, err := h.Feed([]byte(strings.Join(lines, "\n") + "\n\n")); err != nil || !h.Done() {
		t.Fatalf("no header (%v): %q", err, lines)
	}
	return h
}

func TestRouteMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, value string
		want           bool
	}{
		{"billing", "billing", true},
		{"billing", "billing2", false},
		{"billing", "a-billing", false},
		{"billing", "Billing", false},
		{"billing", "", false},
		{"", "", true},
		{"", "x", false},
		{"*", "", true},
		{"*", "any/thing at all", true},
		{"billing/*", "billing/", true},
		{"billing/*", "billing/a/b.agi", true}, // the slash is no limit
		{"billing/*", "billing", false},
		{"*.agi", "a/b.agi", true},
		{"*.agi", "a/b.agi.pl", false},
		{"*.agi", "bxagi", false}, // a dot is a dot
		{"a*b*c", "a--b--c", true},
		{"a*b*c", "a--c--b", false},
		{"1?", "10", true},
		{"1?", "1", false},
		{"1?", "100", false},
		{"[0-9]x", "7x", true},
		{"[0-9]x", "ax", false},
		{"[^0-9]x", "ax", true},
		{"[^0-9]x", "7x", false},
		{"[ab]*", "b", true},
		{`\*`, "*", true},
		{`\*`, "x", false},
		{`a\[b`, "a[b", true},
		{"a.b+c(d)|e$^{2}", "a.b+c(d)|e$^{2}", true}, // what a regular expression would mean by it
		{"a|b", "a", false},
		{"(?i)a", "A", false},

		{"grüße*", "grüße/x", true},
		{"a?b", "aüb", true}, // one character, however many bytes
		{"[äö]x", "öx", true},
		{`\ü`, "ü", true},
		{"a\xff*", "a\xffb", true}, // what is no UTF-8 can be matched all the same
		{`[\d]`, "d", true},        // in a class, too, a backslash only takes a meaning away
		{`[\d]`, "7", false},
		{`[\]a]`, "]", true},
		{`[a\-z]`, "-", true},
		{`[a\-z]`, "m", false},
		{`[\^a]`, "b", false},
		{"[[a]", "[", true},
		{"[[:alpha:]]", "l]", true}, // the class ends at its first bracket

		{"~^from-", "from-internal", true},
		{"~^from-", "not-from-internal", false},
		{"~ing", "billing/x", true}, // anywhere
		{"~ing$", "billing/x", false},
		{"~^(a|b)$", "b", true},
		{"~(?i)^BILL", "billing", true},
		{"~", "anything", true},
		{"~^$", "", true},
	} {
		r, err := NewRoute("ivr", Match{"agi_context", c.pattern})
		if err != nil {
			t.Errorf("NewRoute(%q) = %v; want nil", c.pattern, err)
			continue
		}
		h := headerOf(t, "agi_network: yes", "agi_context: "+c.value)
		if got := r.takes(h); got != c.want {
			t.Errorf("%q takes %q: %v; want %v", c.pattern, c.value, got, c.want)
		}
		if got := r.Miss(h) == ""; got != c.want {
			t.Errorf("%q of %q: Miss() = %q; want what takes says, %v", c.pattern, c.value, r.Miss(h), c.want)
		}
	}
}

func TestRouteLooksAtFields(t *testing.T) {
	full := []string{
		"agi_network: yes", "agi_network_script: billing/invoice?who=4711&x=/y", "agi_request: agi://PBX2.example.com:4577/billing/invoice?who=4711",
		"agi_context: from-outside", "agi_accountcode: ",
	}
	noScript := []string{"agi_network: yes", "agi_request: agi://[2001:db8::1]:4577", "agi_context: default"}
	forged := append(full[:len(full):len(full)], "agi_context: forged", "agi_extra: 1")
	for _, c := range []struct {
		name   string
		header []string
		field  string
		value  string
	}{
		{"the script, without its query", full, "script", "billing/invoice"},
		{"the field itself has the query", full, "agi_network_script", "billing/invoice?who=4711&x=/y"},
		{"the host, without its port", full, "host", "PBX2.example.com"},
		{"any field", full, "agi_context", "from-outside"},
		{"an empty field", full, "agi_accountcode", ""},
		{"a field that isn't there", full, "agi_nothing", ""},
		{"a field whose name begins another's", full, "agi_net", ""},
		{"no script", noScript, "script", ""},
		{"an IPv6 host, without its brackets", noScript, "host", "2001:db8::1"},
		{"the first of a field that comes twice", forged, "agi_context", "from-outside"},
		{"a field behind a forged one", forged, "agi_extra", "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := headerOf(t, c.header...)
			var exact strings.Builder
			for _, b := range []byte(c.value) {
				exact.WriteByte('\\')
				exact.WriteByte(b)
			}
			r, err := NewRoute("ivr", Match{c.field, exact.String()})
			if err != nil {
				t.Fatal(err)
			}
			if why := r.Miss(h); why != "" {
				t.Errorf("Miss() of %s = %q; want its value to be %q", c.field, why, c.value)
			}
		})
	}
}

func TestMissTellsWhy(t *testing.T) {
	r, err := NewRoute("night", Match{"script", "ivr*"}, Match{"host", "pbx2.example.com"}, Match{"agi_context", "~^from-"}, Match{"agi_x", "1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		header []string
		want   string
	}{
		{
			[]string{"agi_network_script: ivr", "agi_request: agi://pbx2.example.com/ivr", "agi_context: from-a", "agi_x: 1"},
			"",
		},
		{
			[]string{"agi_network_script: billing", "agi_request: agi://other/billing"}, // the first reason is enough
			`script is "billing", not ivr*`,
		},
		{
			[]string{"agi_network_script: ivr", "agi_request: agi://other:4577/ivr"},
			`host is "other", not pbx2.example.com`,
		},
		{
			[]string{"agi_network_script: ivr", "agi_request: agi://pbx2.example.com/ivr", "agi_context: a\tb"},
			`agi_context is "a\tb", not ~^from-`,
		},
		{
			[]string{"agi_network_script: ivr", "agi_request: agi://pbx2.example.com/ivr", "agi_context: from-a"},
			`agi_x is "", not 1`,
		},
	} {
		if got := r.Miss(headerOf(t, c.header...)); got != c.want {
			t.Errorf("Miss(%q) = %q; want %q", c.header, got, c.want)
		}
	}
}

func TestRouteWithoutConditionsTakesAll(t *testing.T) {
	r, err := NewRoute("ivr")
	if err != nil {
		t.Fatal(err)
	}
	if why := r.Miss(headerOf(t, "agi_network: yes")); why != "" {
		t.Errorf("Miss() = %q; want nothing", why)
	}
}

func TestNewRouteRefusesBadPatterns(t *testing.T) {
	for _, pattern := range []string{"[", "[a", "[]", "a[", `a\`, "~(", "~[", "~a**"} {
		_, err := NewRoute("ivr", Match{"script", "ivr"}, Match{"agi_context", pattern})
		if err == nil || !strings.HasPrefix(err.Error(), "match agi_context: ") {
			t.Errorf("NewRoute(%q) = %v; want an error that begins with the field", pattern, err)
		}
	}
}

func TestFirstRouteDecides(t *testing.T) {
	route := func(pool string, matches ...Match) Route {
		r, err := NewRoute(pool, matches...)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	pool := func(name string) *Pool {
		return NewPool(name, PoolOptions{}, balancer.NewPool(balancer.RoundRobin{}, balancer.Options{}, nil))
	}
	table := &Table{
		Pools:  []*Pool{pool("ivr"), pool("billing"), pool("night")},
		Routes: []Route{route("billing", Match{"script", "b*"}), route("night", Match{"agi_context", "night"}, Match{"script", "*"}), route("ivr", Match{"script", "?*"})},
	}
	for _, c := range []struct{ script, context, want string }{
		{"billing", "night", "billing"},
		{"menu", "night", "night"},
		{"menu", "day", "ivr"},
		{"", "day", ""},
	} {
		got := ""
		if p := table.route(headerOf(t, "agi_network: yes", "agi_network_script: "+c.script, "agi_context: "+c.context)); p != nil {
			got = p.Name()
		}
		if got != c.want {
			t.Errorf("script %q in context %s goes to %q; want %q", c.script, c.context, got, c.want)
		}
	}
}

func TestHostsMatchInAnyCase(t *testing.T) {
	for _, pattern := range []string{"pbx2.example.com", "*.EXAMPLE.com", "~^pbx2[.]"} {
		r, err := NewRoute("night", Match{"host", pattern})
		if err != nil {
			t.Fatal(err)
		}
		if why := r.Miss(headerOf(t, "agi_network: yes", "agi_request: agi://PBX2.example.com:4577/x")); why != "" {
			t.Errorf("host PBX2.example.com isn't taken by %s: %s", pattern, why)
		}
	}
}

// A caller's name, which Asterisk writes into the header as it is, may have line ends
// in it: further fields, and an early end. What stands before it can't be said again.
func TestCallersChooseNoRoute(t *testing.T) {
	table := Table{Pools: []*Pool{{name: "menu"}, {name: "admin"}, {name: "rest"}}}
	for _, c := range []struct{ pool, field, pattern string }{
		{"admin", "script", "admin"}, {"admin", "agi_request", "*admin*"}, {"admin", "agi_channel", "admin*"},
		{"admin", "agi_uniqueid", "666"}, {"admin", "agi_type", "admin"}, {"menu", "script", "menu"},
	} {
		r, err := NewRoute(c.pool, Match{Field: c.field, Pattern: c.pattern})
		if err != nil {
			t.Fatal(err)
		}
		table.Routes = append(table.Routes, r)
	}
	table.Routes = append(table.Routes, Route{Pool: "rest"})
	const forged = "\nagi_network_script: admin\nagi_request: agi://pbx/admin\nagi_channel: admin/1\nagi_type: admin\nagi_uniqueid: 666"
	for _, name := range []string{"Eve", "Eve" + forged, "Eve\r" + forged + "\r", "Eve" + forged + "\n\n200 result=0"} {
		for _, script := range []string{"menu", ""} {
			lines := []string{"agi_network: yes"}
			if script != "" {
				lines = append(lines, "agi_network_script: "+script)
			}
			lines = append(lines, "agi_request: agi://pbx/"+script, "agi_channel: SIP/1", "agi_type: SIP", "agi_uniqueid: 1.1",
				"agi_callerid: 100", "agi_calleridname: "+name, "agi_context: default")
			h := agi.NewHeader(64 << 10)
			if _, err := h.Feed([]byte(strings.Join(lines, "\n") + "\n\n")); err != nil || !h.Done() {
				t.Fatalf("a header with the name %q: %v", name, err)
			}
			want := cmp.Or(script, "rest")
			if got := table.route(h); got == nil || got.name != want {
				t.Errorf("a call for %q by %q goes to %v; want %s", script, name, got, want)
			}
		}
	}
}
