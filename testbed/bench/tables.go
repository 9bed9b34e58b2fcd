//go:build linux

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"agiproxy/testbed/bench/stats"
)

// A goal is a figure that must reach something.
type goal struct {
	text      string
	scenario  string
	figure    figure
	highest   bool   // more is better
	to        string // a scenario of agiproxy's own to be compared with; "": HAProxy
	must, aim float64
}

func goals() []goal {
	return []goal{
		{"CPU per session, set-up", "setup", perSession, false, "", 0.85, 0.70},
		{"CPU per command, 5,000/s over 500 sessions", "open-5000", perCommand, false, "", 0.90, 0.75},
		{"CPU per command, saturated", "saturated", perCommand, false, "", 0.95, 0.80},
		{"round trip p50, 5,000/s", "open-5000", roundTripP50, false, "", 1, 0.9},
		{"round trip p99, 5,000/s", "open-5000", roundTripP99, false, "", 1, 0.9},
		{"memory per idle session", "idle", idleRSS, false, "", 0.35, 0.15},
		{"sessions a second, all processors", "all-setup", sessionRate, true, "", 1.1, 1.3},
		{"CPU per command with 8,000 idle sessions beside it, to none", "beside", perCommand, false, "open-5000", 1.2, 1},
		{"CPU per session with 1,000 servers, to 3", "servers-1000", perSession, false, "setup", 1.2, 1},
	}
}

var goalHead = []string{"figure", "agiproxy", "compared with", "ratio", "must", "aim", ""}

// verdict says whether a ratio is good enough.
func (g goal) verdict(ratio stats.Summary) string {
	switch {
	case ratio.Median == g.aim, g.highest == (ratio.Median > g.aim):
		return "aim reached"
	case ratio.Median == g.must, g.highest == (ratio.Median > g.must):
		return "reached"
	}
	return "missed"
}

// ours returns the name of the agiproxy that counts, the first; "" if there is
// none.
func (r *Results) ours() string {
	if i := slices.IndexFunc(r.Peers, func(p Peer) bool { return p.Family == agiproxyFamily }); i >= 0 {
		return r.Peers[i].Name
	}
	return ""
}

// against returns whom a peer is compared with for a goal, and in which
// scenario.
func (r *Results) against(g goal, name string) (to, scenario string) {
	if g.to != "" {
		return name, g.to
	}
	return r.best(g.scenario, haproxyFamily, g.figure, g.highest), g.scenario
}

// goal returns a peer's ratios for a goal, one a round.
func (r *Results) goal(g goal, name string) stats.Summary {
	to, scenario := r.against(g, name)
	return stats.Summarize(stats.Ratios(r.values(g.scenario, name, g.figure), r.values(scenario, to, g.figure)))
}

// goalRows is the table of goals for an agiproxy: ratios of all runs, beside
// what was measured in the one that is shown.
func (all Runs) goalRows(name string) (rows [][]string) {
	r := all.shown()
	for _, g := range goals() {
		ratio, _ := all.medianOf(func(r *Results) stats.Summary { return r.goal(g, name) })
		if ratio.N == 0 {
			continue
		}
		to, scenario := r.against(g, name)
		compared := r.label(to)
		if g.to != "" {
			compared = "itself"
		}
		rows = append(rows, []string{g.text, value(r.summary(g.scenario, name, g.figure).Median),
			compared + ", " + value(r.summary(scenario, to, g.figure).Median),
			spread(ratio), value(g.must), value(g.aim), g.verdict(ratio)})
	}
	return rows
}

func (r *Results) label(name string) string {
	for _, p := range r.Peers {
		if p.Name == name {
			return p.Label
		}
	}
	return name
}

// A column of a table about a scenario.
type column struct {
	head     string
	figure   figure
	relative bool // to HAProxy's best configuration, in a column of its own
	highest  bool // is best
}

func setupColumns() []column {
	return []column{
		{"CPU µs/session", perSession, true, false},
		{"sessions/s", sessionRate, true, true},
		{"first command p50 µs", connectP50, false, false},
		{"p99 µs", connectP99, false, false},
		{"load's core", harness, false, false},
	}
}

func commandColumns() []column {
	return []column{
		{"CPU µs/command", perCommand, true, false},
		{"commands/s", commandRate, false, true},
		{"round trip p50 µs", roundTripP50, true, false},
		{"p99 µs", roundTripP99, true, false},
		{"p99.9 µs", roundTripP999, false, false},
		{"longest µs", roundTripMax, false, false},
		{"load's core", harness, false, false},
	}
}

// sections returns the page's sections by their markers' names; charts lie in
// that directory.
func (all Runs) sections(charts string) map[string]string {
	r := all.shown()
	sections := r.sections(charts)
	sections["machine"] = r.machine(len(all))
	sections["runs"] = all.table()
	sections["summary"] = ""
	if rows := all.goalRows(r.ours()); len(rows) > 0 {
		sections["summary"] = withChart(charts, "cpu", "CPU, as ratios to HAProxy", markdown(goalHead, rows))
	}
	return sections
}

// withChart puts a chart above a text, if there is one.
func withChart(dir, name, alt, text string) string {
	if text == "" {
		return ""
	}
	return fmt.Sprintf("![%s](%s/%s.svg)\n\n%s", alt, dir, name, text)
}

// sections returns the sections that one run's measurements fill.
func (r *Results) sections(charts string) map[string]string {
	titles := make(map[string]string)
	for _, s := range scenarios() {
		titles[s.name] = strings.ToUpper(s.title[:1]) + s.title[1:]
	}
	all := func(columns []column, names ...string) string {
		var w strings.Builder
		for _, name := range names {
			if t := r.table(name, columns); t != "" {
				fmt.Fprintf(&w, "%s:\n\n%s\n", titles[name], t)
			}
		}
		return w.String()
	}
	return map[string]string{
		"setup":      all(setupColumns(), "setup", "setup-asterisk"),
		"commands":   withChart(charts, "latency", "Round trip of a command", all(commandColumns(), "open-5000", "open-500", "saturated")),
		"churn":      all(slices.Concat(setupColumns()[:1], commandColumns()), "churn"),
		"processors": all(setupColumns(), "all-setup") + all(commandColumns(), "all-open-5000", "all-saturated"),
		"memory":     withChart(charts, "memory", "Memory per idle session", r.table("idle", []column{{"bytes per idle session", idleRSS, true, false}})),
		"calls":      r.calls(titles),
		"growth": all(commandColumns()[:4], "beside") +
			all(setupColumns()[:4], "servers-1000", "servers-1000-probed"),
	}
}

// table is one scenario's peers and figures.
func (r *Results) table(scenario string, columns []column) string {
	peers := r.measured(scenario)
	if len(peers) == 0 {
		return ""
	}
	head := []string{""}
	var rows [][]string
	for _, c := range columns {
		head = append(head, c.head)
		if c.relative {
			head = append(head, "ratio")
		}
	}
	for _, p := range peers {
		row := []string{p.Label}
		for _, c := range columns {
			s := r.summary(scenario, p.Name, c.figure)
			row = append(row, spread(s))
			if c.relative {
				row = append(row, spread(r.relative(scenario, p.Name, r.best(scenario, haproxyFamily, c.figure, c.highest), c.figure)))
			}
		}
		rows = append(rows, row)
	}
	return markdown(head, rows)
}

// calls is the section about system calls.
func (r *Results) calls(titles map[string]string) string {
	var w strings.Builder
	for _, c := range []struct {
		scenario string
		each     figure
		per      func(*Sample) uint64
	}{
		{"calls-command", callsPerCommand, func(s *Sample) uint64 { return s.Commands }},
		{"calls-command-200", callsPerCommand, func(s *Sample) uint64 { return s.Commands }},
		{"calls-session", callsPerSession, func(s *Sample) uint64 { return s.Sessions }},
		{"calls-session-100", callsPerSession, func(s *Sample) uint64 { return s.Sessions }},
	} {
		var rows [][]string
		for i := range r.Samples {
			if s := &r.Samples[i]; s.Scenario == c.scenario {
				rows = append(rows, []string{r.label(s.Peer), fmt.Sprintf("%.1f", c.each(s)), breakdown(s.Calls, float64(c.per(s)))})
			}
		}
		if len(rows) > 0 {
			fmt.Fprintf(&w, "%s:\n\n%s\n", strings.ToUpper(titles[c.scenario][:1])+titles[c.scenario][1:], markdown([]string{"", "calls", "of these"}, rows))
		}
	}
	return w.String()
}

// breakdown names the calls that there are at least 0.05 of, the most frequent
// first.
func breakdown(calls map[string]int, n float64) string {
	names := slices.Collect(maps.Keys(calls))
	slices.SortFunc(names, func(a, b string) int {
		if calls[a] != calls[b] {
			return calls[b] - calls[a]
		}
		return strings.Compare(a, b)
	})
	var parts []string
	for _, name := range names {
		if each := ratio(float64(calls[name]), n); each >= 0.05 {
			parts = append(parts, fmt.Sprintf("%s %.1f", name, each))
		}
	}
	return strings.Join(parts, ", ")
}

// machine tells where and how it was measured, in how many runs.
func (r *Results) machine(runs int) string {
	var w strings.Builder
	m := r.Machine
	kind := ""
	if m.Virtual {
		kind = " of a virtual machine"
	}
	firewall := ""
	if m.Tracked {
		firewall = ", a firewall following each connection"
	}
	fmt.Fprintf(&w, "Measured on %s: %s, %d processors%s, %s, %s, kernel %s, TCP %s over loopback%s; load average %.1f before.\n",
		r.Started.Format(time.DateOnly), m.Processor, m.Processors, kind, m.Memory, m.System, m.Kernel, m.Congestion, firewall, m.Load)
	fmt.Fprintf(&w, "%d rounds, fewer where little varies, interleaved, each with a window of %v after %v of warming up: medians, (least to most), and ratios as medians of the rounds' own ratios to HAProxy's best configuration. It took %v.\n\n",
		r.Rounds, r.Duration, r.Warmup, r.Took.Round(time.Second))
	if runs > 1 {
		fmt.Fprintf(&w, "The last %d runs are kept. Tables and charts are of the one whose goals are nearest to the medians of all; whether a goal is reached, the median of the runs' medians decides, with least and most of all their rounds.\n\n", runs)
	}
	fmt.Fprintf(&w, "While agiproxy is measured, all is on that is on by default: health probes, which are whole sessions, of 3 servers every 2 s each unless a table says otherwise; the dialogue it follows; metrics, read in the first of every %d windows, as a Prometheus reads them every %v; one log record a session. "+
		"HAProxy connects to each server as often, and logs where its name says so; nginx does neither.\n\n", scrapedOf(r.Duration), scrapeInterval)
	var rows [][]string
	for _, p := range r.Peers {
		if p.Version != "" {
			rows = append(rows, []string{p.Label, p.Version})
		}
	}
	return w.String() + markdown([]string{"", "version"}, append(rows, []string{"load generator", m.Go}))
}

// markdown is a table.
func markdown(head []string, rows [][]string) string {
	var w strings.Builder
	line := func(cells []string) { fmt.Fprintf(&w, "| %s |\n", strings.Join(cells, " | ")) }
	line(head)
	line(slices.Repeat([]string{"---"}, len(head)))
	for _, row := range rows {
		line(row)
	}
	return w.String()
}

// spread writes a median, and the least and the most if there are several.
func spread(s stats.Summary) string {
	switch {
	case s.N == 0:
		return "–"
	case s.N == 1:
		return value(s.Median)
	}
	return fmt.Sprintf("%s (%s to %s)", value(s.Median), value(s.Min), value(s.Max))
}

// value writes a number with about three figures.
func value(v float64) string {
	switch {
	case v >= 1000:
		s := fmt.Sprintf("%.0f", v)
		for i := len(s) - 3; i > 0; i -= 3 {
			s = s[:i] + "," + s[i:]
		}
		return s
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
