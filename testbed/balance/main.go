// Balance compares the balancing policies on ten unequal servers, in virtual
// time, and writes what it finds into docs/balancing.md.
//
//	go run ./testbed/balance
//
// The same program gives the same page, to the byte.
package main

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"agiproxy/balancer"
	"agiproxy/testbed/bench/plot"
	"agiproxy/testbed/bench/stats"
)

// someAddr is where no server is asked: the simulation has its own.
var someAddr = netip.MustParseAddrPort("192.0.2.1:4573")

// runs is how many times each is simulated, with other calls each time.
const runs = 9

func main() {
	page := flag.String("docs", "docs/balancing.md", "the `page` whose tables are rewritten, with charts in a directory of its name")
	flag.Parse()
	if err := write(*page); err != nil {
		fmt.Fprintf(os.Stderr, "balance: %v\n", err)
		os.Exit(1)
	}
}

var setups = []setup{
	{policy: "round-robin"},
	{policy: "round-robin", weight: rate},
	{policy: "hash", weight: rate},
	{policy: "random", weight: children},
	{policy: "least-connections", weight: children},
	{policy: "first", limits: true},
	{policy: "round-robin", weight: rate, limits: true},
	{policy: "hash", weight: rate, limits: true},
	{policy: "random", weight: children, limits: true},
	{policy: "least-connections", limits: true},
}

// The defaults of the configuration.
var ejection = balancer.Ejection{Failures: 3, Time: 10 * time.Second, MaxTime: 300 * time.Second, MaxPercent: 50}

var scenarios = []scenario{
	{load: 0.7},
	{load: 0.9},
	{load: 0.7, failing: true},
	{load: 0.7, failing: true, ejection: ejection},
}

// Indices of scenarios.
const (
	at70 = iota
	at90
	unejected
	ejected
)

// results are those of all runs, by set-up and scenario.
type results [][][]result

// measure simulates everything, some at a time.
func measure() (results, error) {
	all := make(results, len(setups))
	errs := make([]error, len(setups))
	var wg sync.WaitGroup
	for i, s := range setups {
		all[i] = make([][]result, len(scenarios))
		wg.Go(func() {
			for j, sc := range scenarios {
				for seed := range uint64(runs) {
					r, err := simulate(s, sc, seed)
					if err != nil {
						errs[i] = err
						return
					}
					all[i][j] = append(all[i][j], r)
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// of returns what one figure of a set-up comes to in all runs of a scenario.
func (all results) of(setup, scenario int, figure func(result) float64) stats.Summary {
	var values []float64
	for _, r := range all[setup][scenario] {
		values = append(values, figure(r))
	}
	return stats.Summarize(values)
}

func p50(r result) float64       { return r.p50 }
func p99(r result) float64       { return r.p99 }
func imbalance(r result) float64 { return r.imbalance }
func wasted(r result) float64    { return 100 * r.wasted }

// write measures, and writes the page and its charts.
func write(page string) error {
	all, err := measure()
	if err != nil {
		return err
	}
	old, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	text, err := fillIn(string(old), map[string]string{"healthy": all.healthy(), "failing": all.failing()})
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	dir := strings.TrimSuffix(page, filepath.Ext(page))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, chart := range all.charts() {
		if err := os.WriteFile(filepath.Join(dir, name+".svg"), chart.SVG(), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(page, []byte(text), 0o644)
}

// fillIn replaces what stands between the markers of each section.
func fillIn(page string, sections map[string]string) (string, error) {
	for name, text := range sections {
		opening, closing := "<!-- balance:"+name+" -->\n", "<!-- /balance:"+name+" -->"
		before, rest, opens := strings.Cut(page, opening)
		_, after, closes := strings.Cut(rest, closing)
		if !opens || !closes {
			return "", fmt.Errorf("no section %q", name)
		}
		page = before + opening + text + closing + after
	}
	return page, nil
}

// healthy is the table of servers that all work.
func (all results) healthy() string {
	var w strings.Builder
	w.WriteString("| policy | weight | max_sessions, queue | 70 %: p50 wait | p99 wait | imbalance | 90 %: p50 wait | p99 wait | imbalance |\n|---|---|---|---|---|---|---|---|---|\n")
	for i, s := range setups {
		fmt.Fprintf(&w, "| %s |", s.columns())
		for _, load := range []int{at70, at90} {
			fmt.Fprintf(&w, " %s | %s | %.2f |", seconds(all.of(i, load, p50).Median), seconds(all.of(i, load, p99).Median), all.of(i, load, imbalance).Median)
		}
		w.WriteString("\n")
	}
	return w.String()
}

// failing is the table of a server that accepts and closes.
func (all results) failing() string {
	var w strings.Builder
	w.WriteString("| policy | weight | max_sessions, queue | failed attempts for 100 calls, no ejection | with ejection |\n|---|---|---|---|---|\n")
	for i, s := range setups {
		fmt.Fprintf(&w, "| %s | %.2f | %.2f |\n", s.columns(), all.of(i, unejected, wasted).Median, all.of(i, ejected, wasted).Median)
	}
	return w.String()
}

// columns are the first of a table.
func (s setup) columns() string {
	limits := ""
	if s.limits {
		limits = "children"
	}
	return fmt.Sprintf("%s | %s | %s", s.policy, s.weight, limits)
}

// seconds writes a time to wait.
func seconds(s float64) string {
	switch {
	case s == 0:
		return "0"
	case s >= 120:
		return fmt.Sprintf("%.0f min", s/60)
	}
	return fmt.Sprintf("%.1f s", s)
}

// charts leave out round-robin's waits without a queue, and all that is without weights and
// limits: beside them the others could not be told apart.
func (all results) charts() map[string]*plot.Bars {
	waiting := &plot.Bars{Title: "How long one call in a hundred waits at least (p99)", Unit: "seconds, less is better; medians of the runs, with least and most"}
	uneven := &plot.Bars{Title: "Utilisation of the most used server, over the average", Unit: "1 is even; medians of the runs, with least and most", Mark: 1}
	for load, name := range []string{at70: "at 70 % of what the servers can do", at90: "at 90 %"} {
		w, u := plot.Group{Name: name}, plot.Group{Name: name}
		for i, s := range setups {
			if s.weight == none && !s.limits {
				continue
			}
			u.Bars = append(u.Bars, s.bar(all.of(i, load, imbalance)))
			if s.policy != "round-robin" || s.limits {
				w.Bars = append(w.Bars, s.bar(all.of(i, load, p99)))
			}
		}
		waiting.Groups, uneven.Groups = append(waiting.Groups, w), append(uneven.Groups, u)
	}
	return map[string]*plot.Bars{"waiting": waiting, "imbalance": uneven}
}

// bar is a set-up's bar; that of the default policy stands out.
func (s setup) bar(v stats.Summary) plot.Bar {
	return plot.Bar{Label: s.String(), Value: v.Median, Min: v.Min, Max: v.Max, Ours: s.policy == "least-connections"}
}
