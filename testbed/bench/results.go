//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"agiproxy/testbed/bench/load"
	"agiproxy/testbed/bench/stats"
)

// Results is a comparison, as it is kept in a file.
type Results struct {
	Machine  Machine       `json:"machine"`
	Started  time.Time     `json:"started"`
	Took     time.Duration `json:"took_ns"`
	Rounds   int           `json:"rounds"`
	Warmup   time.Duration `json:"warmup_ns"`
	Duration time.Duration `json:"window_ns"`
	Peers    []Peer        `json:"peers"`
	Samples  []Sample      `json:"samples"`
}

// A Peer is who was measured.
type Peer struct {
	Name    string `json:"name"`
	Label   string `json:"label"`
	Family  string `json:"family"`
	Version string `json:"version,omitempty"`
	Sum     string `json:"sum,omitempty"` // of the program: one version may have been built twice, differently
}

// A Sample is one measurement of one peer.
type Sample struct {
	Scenario string  `json:"scenario"`
	Peer     string  `json:"peer"`
	Round    int     `json:"round"`
	Load     float64 `json:"load"` // the machine's load average when it was over

	load.Result
	Scraped bool           `json:"scraped,omitempty"` // its metrics were read in the window
	CPU     time.Duration  `json:"cpu_ns,omitempty"`  // that the proxy used in the window
	RSSFew  int64          `json:"rss_few,omitempty"` // bytes, with a few and many idle sessions
	RSSMany int64          `json:"rss_many,omitempty"`
	RSSEach float64        `json:"rss_each,omitempty"` // bytes, what one more session costs
	Calls   map[string]int `json:"calls,omitempty"`    // system calls in the window
}

// A figure is something that a sample tells; 0 is that it doesn't.
type figure func(*Sample) float64

func perSession(s *Sample) float64 { return ratio(s.CPU.Seconds()*1e6, float64(s.Sessions)) }
func perCommand(s *Sample) float64 { return ratio(s.CPU.Seconds()*1e6, float64(s.Commands)) }
func sessionRate(s *Sample) float64 {
	return ratio(float64(s.Sessions), s.Elapsed.Seconds())
}
func commandRate(s *Sample) float64 {
	return ratio(float64(s.Commands), s.Elapsed.Seconds())
}
func connectP50(s *Sample) float64   { return microseconds(s.Connect.P50) }
func connectP99(s *Sample) float64   { return microseconds(s.Connect.P99) }
func roundTripP50(s *Sample) float64 { return microseconds(s.RoundTrip.P50) }
func roundTripP99(s *Sample) float64 { return microseconds(s.RoundTrip.P99) }
func roundTripP999(s *Sample) float64 {
	return microseconds(s.RoundTrip.P999)
}
func roundTripMax(s *Sample) float64 { return microseconds(s.RoundTrip.Max) }
func harness(s *Sample) float64      { return s.Busy }
func idleRSS(s *Sample) float64      { return s.RSSEach }
func callsPerCommand(s *Sample) float64 {
	return ratio(float64(s.calls()), float64(s.Commands))
}
func callsPerSession(s *Sample) float64 {
	return ratio(float64(s.calls()), float64(s.Sessions))
}

func (s *Sample) calls() (n int) {
	for _, c := range s.Calls {
		n += c
	}
	return n
}

func microseconds(d time.Duration) float64 { return float64(d) / 1e3 }

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// values returns the figure for each round; 0 where there is none.
func (r *Results) values(scenario, peer string, f figure) []float64 {
	v := make([]float64, r.Rounds)
	for i := range r.Samples {
		if s := &r.Samples[i]; s.Scenario == scenario && s.Peer == peer && s.Round < len(v) {
			v[s.Round] = f(s)
		}
	}
	return v
}

// summary returns the figure's median and spread over the rounds.
func (r *Results) summary(scenario, peer string, f figure) stats.Summary {
	return stats.Summarize(slices.DeleteFunc(r.values(scenario, peer, f), func(v float64) bool { return v == 0 }))
}

// relative returns the median and spread of a figure's ratios to another
// peer's, of the same round each.
func (r *Results) relative(scenario, peer, to string, f figure) stats.Summary {
	return stats.Summarize(stats.Ratios(r.values(scenario, peer, f), r.values(scenario, to, f)))
}

// best returns the family's configuration with the lowest median of a figure,
// or highest; "" if there is none.
func (r *Results) best(scenario, family string, f figure, highest bool) (name string) {
	var best float64
	for _, p := range r.Peers {
		m := r.summary(scenario, p.Name, f)
		if p.Family != family || m.N == 0 {
			continue
		}
		if name == "" || highest == (m.Median > best) && m.Median != best {
			name, best = p.Name, m.Median
		}
	}
	return name
}

// measured returns the peers that have samples of a scenario.
func (r *Results) measured(scenario string) []Peer {
	return slices.DeleteFunc(slices.Clone(r.Peers), func(p Peer) bool {
		return !slices.ContainsFunc(r.Samples, func(s Sample) bool { return s.Scenario == scenario && s.Peer == p.Name })
	})
}

// write writes the results, one sample a line, with no more digits than tell
// something, since they are kept in git.
func (r *Results) write(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	head := *r
	head.Samples = []Sample{}
	b, err := json.MarshalIndent(head, "", "  ")
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	w.Write(b[:len(b)-len("]\n}")])
	for i := range r.Samples {
		line, err := json.Marshal(r.Samples[i].rounded())
		if err != nil {
			return err
		}
		if i > 0 {
			w.WriteString(",")
		}
		fmt.Fprintf(w, "\n    %s", line)
	}
	w.WriteString("\n  ]\n}\n")
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// rounded returns a copy whose figures have four digits.
func (s Sample) rounded() *Sample {
	for _, d := range []*time.Duration{&s.Elapsed, &s.CPU,
		&s.Connect.P50, &s.Connect.P99, &s.Connect.P999, &s.Connect.Max,
		&s.RoundTrip.P50, &s.RoundTrip.P99, &s.RoundTrip.P999, &s.RoundTrip.Max} {
		*d = time.Duration(fourDigits(float64(*d)))
	}
	s.Busy, s.RSSEach = fourDigits(s.Busy), fourDigits(s.RSSEach)
	return &s
}

func fourDigits(v float64) float64 {
	r, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64) // which is a number
	return r
}

func readResults(file string) (*Results, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := new(Results)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}
