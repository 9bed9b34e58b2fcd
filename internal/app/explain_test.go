package app

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"agiproxy/agi"
	"agiproxy/config"
)

func TestExplain(t *testing.T) {
	const three = `
pools: {billing: {backends: ["10.0.0.1:4573"]}, night: {backends: ["10.0.0.2:4573"]}, ivr: {backends: ["10.0.0.3:4573"]}}
routes:
  - {match: {script: "billing/*", agi_context: "~^from-"}, pool: billing}
  - {match: {host: pbx2.example.com}, pool: night}
  - {match: {script: "ivr*"}, pool: ivr}
`
	for name, c := range map[string]struct {
		file  string
		env   agi.Environment
		route int
		pool  string
		steps []string
	}{
		"first": {
			three, agi.Environment{Script: "billing/invoice", Context: "from-outside"},
			0, "billing", nil,
		},
		"one condition of two": {
			three, agi.Environment{Script: "billing/invoice", Host: "pbx2.example.com:4577"},
			1, "night", []string{`route 1 to billing: agi_context is "default", not ~^from-`},
		},
		"last": {
			three, agi.Environment{Script: "ivr/menu?x=1"},
			2, "ivr", []string{`route 1 to billing: script is "ivr/menu", not billing/*`, `route 2 to night: host is "localhost", not pbx2.example.com`},
		},
		"none": {
			three, agi.Environment{Script: "other"},
			-1, "", []string{
				`route 1 to billing: script is "other", not billing/*`,
				`route 2 to night: host is "localhost", not pbx2.example.com`,
				`route 3 to ivr: script is "other", not ivr*`,
			},
		},
		"no routes": {
			`pools: {ivr: {backends: ["10.0.0.3:4573"]}}`, agi.Environment{Script: "whatever"},
			0, "ivr", nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := config.Parse("agiproxy.yaml", []byte(c.file))
			if err != nil {
				t.Fatal(err)
			}
			d, err := Explain(cfg, append(c.env.AppendTo(nil), "200 result=1\n"...))
			if err != nil || d.Route != c.route || d.Pool != c.pool || !slices.Equal(d.Steps, c.steps) {
				t.Errorf("Explain() = %+v, %v; want route %d to %q after %q", d, err, c.route, c.pool, c.steps)
			}
		})
	}
}

// What Explain says is what happens to a call with that header.
func TestExplainIsWhatHappens(t *testing.T) {
	billing, ivr := startServer(t, "billing"), startServer(t, "ivr")
	p := serve(t, "listeners: [{address: \"127.0.0.1:0\"}]\nadmin: {address: \"\"}\npools:\n"+
		"  billing: {health: {probe: none}, backends: ["+billing.entry("")+"]}\n"+
		"  ivr: {health: {probe: none}, backends: ["+ivr.entry("")+"]}\n"+
		"routes: [{match: {script: \"billing/*\"}, pool: billing}, {match: {script: \"~^ivr\"}, pool: ivr}]\n")
	for _, script := range []string{"billing/invoice", "billing", "ivr", "menu?ivr"} {
		d, err := Explain(p.opts.Config, (&agi.Environment{Script: script}).AppendTo(nil))
		if err != nil {
			t.Fatal(err)
		}
		if c := place(t, p.addr(0), script); d.Route < 0 {
			c.wantFailure("NOROUTE")
		} else {
			c.wantServed(d.Pool)
		}
	}
	p.wantOutcomes(map[string]uint64{"completed": 2, "no_route": 2})
}

func TestExplainRefuses(t *testing.T) {
	cfg, err := config.Simple("", []string{"10.0.0.1:4573"})
	if err != nil {
		t.Fatal(err)
	}
	for _, header := range []string{"", "agi_network: yes\nagi_request: agi://localhost\n"} {
		if _, err := Explain(cfg, []byte(header)); err == nil || !strings.Contains(err.Error(), "no empty line") {
			t.Errorf("Explain(%q) = %v; want that its empty line is missing", header, err)
		}
	}
	if _, err := Explain(cfg, []byte("GET / HTTP/1.1\n\n")); !errors.Is(err, agi.ErrMalformed) {
		t.Errorf("Explain of a web request = %v; want %v", err, agi.ErrMalformed)
	}
	cfg.Routes = []config.Route{{Pool: "default", Match: []config.Match{{Field: "script", Pattern: "~("}}}}
	if _, err := Explain(cfg, (&agi.Environment{}).AppendTo(nil)); err == nil || !strings.Contains(err.Error(), "route 1") {
		t.Errorf("Explain with a bad pattern = %v; want that it is route 1's", err)
	}
}
