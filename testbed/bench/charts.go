//go:build linux

package main

import (
	"agiproxy/testbed/bench/plot"
	"agiproxy/testbed/bench/stats"
)

// charts returns the page's charts by their files' names; one without groups
// has nothing to show.
func (r *Results) charts() map[string]*plot.Bars {
	cpu := &plot.Bars{Title: "Processor time, as a ratio to HAProxy’s best configuration", Unit: "less is better; medians of the rounds’ ratios, with least and most", Mark: 1}
	for _, g := range []struct {
		name, scenario string
		figure         figure
	}{
		{"a session, set-up", "setup", perSession},
		{"a command, 5,000 a second", "open-5000", perCommand},
		{"a command, saturated", "saturated", perCommand},
	} {
		best := r.best(g.scenario, haproxyFamily, g.figure, false)
		r.group(cpu, g.name, g.scenario, func(p Peer) stats.Summary { return r.relative(g.scenario, p.Name, best, g.figure) })
	}
	latency := &plot.Bars{Title: "Round trip of a command at 5,000 a second over 500 sessions", Unit: "microseconds, less is better; medians of the rounds, with least and most"}
	r.group(latency, "p50", "open-5000", func(p Peer) stats.Summary { return r.summary("open-5000", p.Name, roundTripP50) })
	r.group(latency, "p99", "open-5000", func(p Peer) stats.Summary { return r.summary("open-5000", p.Name, roundTripP99) })
	memory := &plot.Bars{Title: "Memory of the proxy for each idle session", Unit: "bytes, less is better"}
	r.group(memory, "", "idle", func(p Peer) stats.Summary { return r.summary("idle", p.Name, idleRSS) })
	return map[string]*plot.Bars{"cpu": cpu, "latency": latency, "memory": memory}
}

// group adds a group of bars, one for each peer that was measured, if any was.
func (r *Results) group(c *plot.Bars, name, scenario string, of func(Peer) stats.Summary) {
	g := plot.Group{Name: name}
	for _, p := range r.measured(scenario) {
		if s := of(p); s.N > 0 {
			g.Bars = append(g.Bars, plot.Bar{Label: p.Label, Value: s.Median, Min: s.Min, Max: s.Max, Text: value(s.Median), Ours: p.Family == agiproxyFamily})
		}
	}
	if len(g.Bars) > 0 {
		c.Groups = append(c.Groups, g)
	}
}
