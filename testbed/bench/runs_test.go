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
	"agiproxy/testbed/bench/stats"
)

// runAt is results that began on that day, with agiproxy so many times as slow.
func runAt(day int, slower float64) *Results {
	r := results()
	r.Started = time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC)
	for i := range r.Samples {
		if s := &r.Samples[i]; s.Peer == "new" {
			s.CPU = time.Duration(float64(s.CPU) * slower)
		}
	}
	return r
}

func TestKeepsTheNewestRunsOfTheSamePrograms(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "performance")
	days := func() (in [keptRuns]int) {
		kept, err := readRuns(dir)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range kept {
			if r != nil {
				in[i] = r.Started.Day()
			}
		}
		return in
	}
	other, busy := runAt(7, 1), runAt(8, 1)
	other.Peers[0].Sum = "another"
	busy.Peers[0].Sum, busy.Machine.Load = "another", 3
	for _, c := range []struct {
		name string
		run  *Results
		want [keptRuns]int
		ages []int
	}{
		{"the first", runAt(1, 1), [keptRuns]int{1}, []int{1}},
		{"the second", runAt(2, 1), [keptRuns]int{1, 2}, []int{1, 2}},
		{"the third", runAt(3, 1), [keptRuns]int{1, 2, 3}, []int{1, 2, 3}},
		{"the fourth", runAt(4, 1), [keptRuns]int{4, 2, 3}, []int{2, 3, 4}},
		{"the fifth", runAt(5, 1), [keptRuns]int{4, 5, 3}, []int{3, 4, 5}},
		{"another program's", other, [keptRuns]int{7}, []int{7}},
		{"on a busier machine", busy, [keptRuns]int{7, 8}, []int{7, 8}},
	} {
		all, err := c.run.keep(dir)
		if err != nil {
			t.Fatal(err)
		}
		var ages []int
		for _, r := range all {
			ages = append(ages, r.Started.Day())
		}
		if got := days(); got != c.want || !reflect.DeepEqual(ages, c.ages) {
			t.Errorf("%s: files %v, in order %v; want %v and %v", c.name, got, ages, c.want, c.ages)
		}
	}
}

func TestRunsAreComparedByTheirMedians(t *testing.T) {
	all := Runs{runAt(1, 1), runAt(2, 2), runAt(3, 1.125)} // medians 0.8, 1.6 and 0.9
	if got := all.shown(); got != all[2] {
		t.Errorf("shown is the run of day %d; want 3, the one in the middle", got.Started.Day())
	}
	want := "| CPU per session, set-up | 0.80 (0.75 to 0.90) | 1.60 (1.50 to 1.80) | 0.90 (0.84 to 1.01) | 0.90 | 0.85 | 0.70 | missed |"
	if got := all.table(); !strings.Contains(got, want) || !strings.Contains(got, "| run 1, 2026-01-01 00:00 |") {
		t.Errorf("table:\n%s\nwant in it:\n%s", got, want)
	}
	rows := all.goalRows("new")
	if want := []string{"CPU per session, set-up", "10.1", "HAProxy, 10.0", "0.90 (0.75 to 1.80)", "0.85", "0.70", "missed"}; len(rows) != 1 || !reflect.DeepEqual(rows[0], want) {
		t.Errorf("goals:\n%q\nwant:\n%q", rows, want)
	}
	for _, two := range []Runs{all[:2], all[1:]} {
		if got := two.shown(); got != two[1] {
			t.Errorf("of two, the run of day %d is shown; want %d, the newer", got.Started.Day(), two[1].Started.Day())
		}
	}
	one := stats.Summary{Median: 2, Min: 2, Max: 2, N: 1}
	if got, _ := all[:1].medianOf(func(*Results) stats.Summary { return one }); got != one {
		t.Errorf("median of one run: %+v; want %+v", got, one)
	}
	none, each := Runs{new(Results), new(Results)}.medianOf(func(*Results) stats.Summary { return stats.Summary{} })
	if none.N != 0 || len(each) != 2 {
		t.Errorf("median of nothing: %+v, %v; want nothing, twice", none, each)
	}
}

func TestReportIsOfTheKeptRuns(t *testing.T) {
	dir := t.TempDir()
	page := filepath.Join(dir, "page.md")
	var out strings.Builder
	for day := range 2 {
		if _, err := runAt(day+1, 1).keep(dir); err != nil {
			t.Fatal(err)
		}
	}
	if code := run(t.Context(), []string{"report", "-runs", dir, "-docs", page}, &out, &out); code != 0 {
		t.Fatalf("report: exit code %d\n%s", code, &out)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"The last 2 runs are kept.", "| run 2, 2026-01-02 00:00 |"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page has no %q:\n%s", want, text)
		}
	}
	if code := run(t.Context(), []string{"report", "-runs", t.TempDir(), "-docs", page}, &out, &out); code != 1 {
		t.Errorf("report of no runs: exit code %d; want 1", code)
	}
}

func TestFileHasNoMoreDigitsThanTellSomething(t *testing.T) {
	r := &Results{Rounds: 1, Samples: []Sample{{Scenario: "open-500", Peer: "new", CPU: 1234567890, RSSEach: 1211.456,
		Result: load.Result{Elapsed: 2000123456, Busy: 0.123456, Commands: 123456}}}}
	file := filepath.Join(t.TempDir(), "run.json")
	if err := r.write(file); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"scenario":"open-500","peer":"new","round":0,"load":0,"elapsed_ns":2000000000,"commands":123456,"harness":0.1235,"total":0,"cpu_ns":1235000000,"rss_each":1211}`
	if !strings.Contains(string(b), "    "+want+"\n") {
		t.Errorf("file:\n%s\nwant in it:\n%s", b, want)
	}
	if r.Samples[0].CPU != 1234567890 {
		t.Error("writing has rounded the results themselves")
	}
}
