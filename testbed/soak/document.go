//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"agiproxy/testbed/bench/plot"
)

// document writes the page's results, and the charts beside it.
func (s *soak) document(page string) error {
	old, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	const opening, closing = "<!-- soak:results -->\n", "<!-- /soak:results -->"
	before, rest, opens := strings.Cut(string(old), opening)
	_, after, closes := strings.Cut(rest, closing)
	if !opens || !closes {
		return fmt.Errorf("%s: no section for the results", page)
	}
	results := fmt.Sprintf("%s, %v on %d processors, %d new calls a second, seed %d: %s\n%s\n%s", s.began.Format(time.DateOnly), s.length,
		runtime.NumCPU(), s.rate, s.seed, s.figures(), s.rests(), s.table())
	dir := strings.TrimSuffix(page, filepath.Ext(page))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, chart := range s.charts() {
		if err := os.WriteFile(filepath.Join(dir, name+".svg"), chart.SVG(), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(page, []byte(before+opening+results+closing+after), 0o644)
}

func (s *soak) charts() map[string]*plot.Lines {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	line := func(name string, ours bool, value func(sample) float64) plot.Line {
		l := plot.Line{Name: name, Ours: ours}
		for _, x := range s.watch.samples {
			l.Points = append(l.Points, plot.Point{X: x.at.Minutes(), Y: value(x)})
		}
		return l
	}
	var marks []float64
	for _, m := range s.watch.marks {
		marks = append(marks, m.Minutes())
	}
	chart := func(title, unit string, lines ...plot.Line) *plot.Lines {
		return &plot.Lines{Title: title, Unit: unit + ", over minutes; dashed: another process takes over", Lines: lines, Marks: marks}
	}
	return map[string]*plot.Lines{
		"memory":      chart("Memory", "resident MiB", line("", true, func(x sample) float64 { return x.rss / (1 << 20) })),
		"descriptors": chart("Descriptors and sessions", "number", line("descriptors", true, func(x sample) float64 { return x.descriptors }), line("sessions", false, func(x sample) float64 { return x.sessions })),
		"goroutines":  chart("Goroutines", "number", line("", true, func(x sample) float64 { return x.goroutines })),
		"waiting":     chart("How long one call in a hundred waits at least for its first command (p99)", "milliseconds", line("", true, func(x sample) float64 { return float64(x.p99) / 1e6 })),
	}
}
