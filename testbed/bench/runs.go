//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"agiproxy/testbed/bench/stats"
)

// Runs are comparisons of the same peers on the same machine, the oldest first.
// The machine's mood differs more between two of them than between two rounds.
type Runs []*Results

// keptRuns is how many a directory keeps.
const keptRuns = 3

func runFile(dir string, n int) string { return filepath.Join(dir, fmt.Sprintf("run-%d.json", n)) }

// readRuns returns the runs that a directory keeps, by their numbers, nil where
// there is none.
func readRuns(dir string) (kept [keptRuns]*Results, err error) {
	for i := range kept {
		r, err := readResults(runFile(dir, i+1))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return kept, err
		}
		kept[i] = r
	}
	return kept, nil
}

// inOrder returns those runs that are there.
func inOrder(kept [keptRuns]*Results) Runs {
	all := Runs(slices.DeleteFunc(kept[:], func(r *Results) bool { return r == nil }))
	slices.SortFunc(all, func(a, b *Results) int { return a.Started.Compare(b.Started) })
	return all
}

// keep adds a run to a directory, and removes from it those that it can't be
// compared with: of another agiproxy, above all. If there are as many as are
// kept already, it takes the oldest one's place, so that a file once written
// keeps its name. It returns all that are there then.
func (r *Results) keep(dir string) (Runs, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	kept, err := readRuns(dir)
	if err != nil {
		return nil, err
	}
	place := 0
	for i, old := range kept {
		if old != nil && !old.alike(r) {
			if err := os.Remove(runFile(dir, i+1)); err != nil {
				return nil, err
			}
			kept[i] = nil
		}
		if first := kept[place]; first != nil && (kept[i] == nil || kept[i].Started.Before(first.Started)) {
			place = i
		}
	}
	if err := r.write(runFile(dir, place+1)); err != nil {
		return nil, err
	}
	kept[place] = r
	return inOrder(kept), nil
}

// alike reports whether two runs are of the same programs, of the same plan
// and of the same machine.
func (r *Results) alike(to *Results) bool {
	a, b := r.Machine, to.Machine
	a.Load, b.Load = 0, 0
	return a == b && slices.Equal(r.Peers, to.Peers) && r.Rounds == to.Rounds && r.Warmup == to.Warmup && r.Duration == to.Duration
}

// medianOf returns the median of the runs' medians, with the least and the most
// of all of their rounds; and each run's own.
func (all Runs) medianOf(of func(*Results) stats.Summary) (median stats.Summary, each []stats.Summary) {
	var medians []float64
	for _, r := range all {
		s := of(r)
		each = append(each, s)
		if s.N == 0 {
			continue
		}
		medians = append(medians, s.Median)
		if median.N == 0 {
			median = stats.Summary{Min: s.Min, Max: s.Max}
		}
		median.Min, median.Max, median.N = min(median.Min, s.Min), max(median.Max, s.Max), median.N+s.N
	}
	median.Median = stats.Summarize(medians).Median
	return median, each
}

// shown returns the run whose tables are to be shown: the one whose ratios are
// nearest, all goals together, to the medians of all runs; of two such the newer
// one.
func (all Runs) shown() *Results {
	var best *Results
	distance := math.Inf(1)
	for _, r := range all {
		sum := 0.0
		for _, g := range goals() {
			median, _ := all.medianOf(func(r *Results) stats.Summary { return r.goal(g, r.ours()) })
			if own := r.goal(g, r.ours()); own.N > 0 {
				sum += math.Abs(own.Median/median.Median - 1)
			}
		}
		if sum <= distance+1e-9 { // of two, both are equally near
			best, distance = r, sum
		}
	}
	return best
}

// table has each goal in each run.
func (all Runs) table() string {
	head := []string{"ratio"}
	for i, r := range all {
		head = append(head, fmt.Sprintf("run %d, %s", i+1, r.Started.UTC().Format("2006-01-02 15:04")))
	}
	head = append(head, "median", "must", "aim", "")
	var rows [][]string
	for _, g := range goals() {
		median, each := all.medianOf(func(r *Results) stats.Summary { return r.goal(g, r.ours()) })
		if median.N == 0 {
			continue
		}
		row := []string{g.text}
		for _, s := range each {
			row = append(row, spread(s))
		}
		rows = append(rows, append(row, value(median.Median), value(g.must), value(g.aim), g.verdict(median)))
	}
	if len(rows) == 0 {
		return ""
	}
	return markdown(head, rows)
}
