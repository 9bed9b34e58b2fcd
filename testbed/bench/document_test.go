//go:build linux

package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"agiproxy/testbed/bench/load"
)

func TestFillInKeepsWhatPeopleWrote(t *testing.T) {
	page := "# Title\nprose 1\n<!-- bench:setup -->\nold\n<!-- /bench:setup -->\nprose 2\n<!-- bench:calls -->\nkept\n<!-- /bench:calls -->\nprose 3\n"
	got, err := fillIn(page, map[string]string{"setup": "new\n", "calls": "", "memory": "no place for it"})
	if err != nil {
		t.Fatal(err)
	}
	want := "# Title\nprose 1\n<!-- bench:setup -->\nnew\n<!-- /bench:setup -->\nprose 2\n<!-- bench:calls -->\nkept\n<!-- /bench:calls -->\nprose 3\n"
	if got != want {
		t.Errorf("filled in:\n%s\nwant:\n%s", got, want)
	}
	again, err := fillIn(got, map[string]string{"setup": "new\n", "calls": ""})
	if err != nil || again != got {
		t.Errorf("filled in again: %v\n%s\nwant no change", err, again)
	}
}

func TestFillInRefusesMarkersThatDontMatch(t *testing.T) {
	for name, page := range map[string]string{
		"unknown":      "<!-- bench:nonsense -->\n<!-- /bench:nonsense -->",
		"never closed": "<!-- bench:setup -->\nprose",
		"crossed":      "<!-- bench:setup --><!-- bench:calls --><!-- /bench:setup --><!-- /bench:calls -->",
		"only closed":  "<!-- /bench:setup -->",
	} {
		if got, err := fillIn(page, map[string]string{"setup": "x", "calls": "y"}); err == nil {
			t.Errorf("%s: filled in as %q; want an error", name, got)
		}
	}
}

// results are of three rounds: agiproxy uses 8, 9 and 30 µs a session; HAProxy
// 10, 10 and 40, and 20 always with its log.
func results() *Results {
	r := &Results{Rounds: 3, Duration: 2 * time.Second, Peers: []Peer{
		{Name: "new", Label: "agiproxy", Family: agiproxyFamily},
		{Name: "haproxy-log", Label: "HAProxy, log", Family: haproxyFamily},
		{Name: "haproxy", Label: "HAProxy", Family: haproxyFamily},
		{Name: "direct", Label: "no proxy", Family: directFamily},
	}}
	add := func(peer string, each ...time.Duration) {
		for round, d := range each {
			r.Samples = append(r.Samples, Sample{Scenario: "setup", Peer: peer, Round: round, CPU: d * time.Microsecond,
				Result: load.Result{Sessions: 1, Commands: 3, Elapsed: time.Second, Total: 1}})
		}
	}
	add("new", 8, 9, 30)
	add("haproxy-log", 20, 20, 20)
	add("haproxy", 10, 10, 40)
	add("direct", 0, 0, 0)
	return r
}

func TestGoalIsTheMedianOfTheRoundsRatiosToTheBest(t *testing.T) {
	r := results()
	if got := r.best("setup", haproxyFamily, perSession, false); got != "haproxy" {
		t.Errorf("best HAProxy is %q; want haproxy, whose median is less", got)
	}
	if got := r.best("setup", haproxyFamily, perSession, true); got != "haproxy-log" {
		t.Errorf("highest HAProxy is %q; want haproxy-log", got)
	}
	rows := Runs{r}.goalRows("new")
	want := [][]string{{"CPU per session, set-up", "9.00", "HAProxy, 10.0", "0.80 (0.75 to 0.90)", "0.85", "0.70", "reached"}}
	if !reflect.DeepEqual(rows, want) {
		t.Errorf("goals:\n%q\nwant:\n%q", rows, want)
	}
	r.Samples[0].CPU *= 2 // ratios 1.6, 0.9 and 0.75
	if got := (Runs{r}).goalRows("new")[0]; got[6] != "missed" {
		t.Errorf("goal: %q; want it to be missed", got)
	}
}

func TestResultsComeBackFromTheirFile(t *testing.T) {
	r := results()
	r.Samples[0].Errors = map[string]int{"stuck": 2}
	r.Samples[1].Calls = map[string]int{"read": 7}
	r.Samples[2].RoundTrip = load.Latency{Count: 12345, P50: 1234 * time.Microsecond}
	for name, r := range map[string]*Results{"full": r, "empty": {Samples: []Sample{}}} {
		file := filepath.Join(t.TempDir(), "results.json")
		if err := r.write(file); err != nil {
			t.Fatal(err)
		}
		got, err := readResults(file)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, r) {
			t.Errorf("%s: read %+v; want %+v", name, got, r)
		}
	}
}

func TestPageHasTablesAndCharts(t *testing.T) {
	page := filepath.Join(t.TempDir(), "performance.md")
	if err := (Runs{results()}).document(page); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| HAProxy, log | 20.0 (20.0 to 20.0) |",
		"| CPU per session, set-up | 9.00 | HAProxy, 10.0 | 0.80 (0.75 to 0.90) | 0.85 | 0.70 | reached |",
		"](performance/cpu.svg)",
		"metrics, read in the first of every 7 windows, as a Prometheus reads them every 15s; one log record",
		"<!-- /bench:growth -->",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page has no %q:\n%s", want, text)
		}
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(page), "performance", "cpu.svg")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(page), "performance", "memory.svg")); err == nil {
		t.Error("there is a chart of memory, which was not measured")
	}
}

func TestPausesAreShownBesideTheProcessorsTime(t *testing.T) {
	for _, scenario := range []string{"open-500", "open-5000"} {
		r := &Results{Rounds: 1, Peers: results().Peers, Samples: []Sample{{Scenario: scenario, Peer: "new", CPU: 30 * time.Millisecond,
			Result: load.Result{Commands: 1000, Elapsed: time.Second, RoundTrip: load.Latency{P999: 2 * time.Millisecond, Max: 7 * time.Millisecond}}}}}
		table := r.sections("x")["commands"]
		for _, want := range []string{"CPU µs/command", "longest µs", "| 30.0 |", "| 7,000 |"} {
			if !strings.Contains(table, want) {
				t.Errorf("%s: no %q in\n%s", scenario, want, table)
			}
		}
	}
}

func TestHeadlineIsOfEveryAgiproxy(t *testing.T) {
	r := results()
	r.Peers = append(r.Peers, Peer{Name: "uring", Label: "uring", Family: agiproxyFamily})
	for _, s := range r.Samples[:3] {
		s.Peer, s.CPU = "uring", s.CPU/2
		r.Samples = append(r.Samples, s)
	}
	got := (Runs{r}).headline()
	for _, want := range []string{"0.80 (0.75 to 0.90)", "0.40 (0.38 to 0.45)", "figure                   uring "} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestSkeletonHasAllSections(t *testing.T) {
	for name := range (Runs{new(Results)}).sections("x") {
		if !strings.Contains(skeleton, "<!-- bench:"+name+" -->\n<!-- /bench:"+name+" -->") {
			t.Errorf("a new page has no section %q", name)
		}
	}
}
