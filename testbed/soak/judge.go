//go:build linux

package main

import (
	"fmt"
	"strings"
)

// What memory at rest may grow by, for what Go's collector has not given back yet.
const (
	growthPart  = 0.2
	growthBytes = 8 << 20
)

// judge compares what is left at the end with what was left before: of another
// process, and of the same one.
func (s *soak) judge() {
	end := s.resting[len(s.resting)-1]
	for _, r := range s.resting[:len(s.resting)-1] {
		if r.pid != end.pid && r.after != s.resting[0].after {
			continue
		}
		if most := r.least.rss*(1+growthPart) + growthBytes; end.least.rss > most {
			s.faults.add("memory at the end is %.1f MiB; want at most %.1f: it was %.1f %s", end.least.rss/(1<<20), most/(1<<20), r.least.rss/(1<<20), r.after)
		}
		if end.least.descriptors > r.least.descriptors {
			s.faults.add("%v descriptors at the end; want no more than the %v of %s", end.least.descriptors, r.least.descriptors, r.after)
		}
		if end.least.goroutines > r.least.goroutines {
			s.faults.add("%v goroutines at the end; want no more than the %v of %s", end.least.goroutines, r.least.goroutines, r.after)
		}
	}
	for _, r := range s.resting {
		if r.least.sessions != 0 {
			s.faults.add("%v sessions are left %s; want none", r.least.sessions, r.after)
		}
	}
}

// table is what became of the calls, by kind.
func (s *soak) table() string {
	var w strings.Builder
	w.WriteString("| calls |")
	for _, e := range endingNames {
		fmt.Fprintf(&w, " %s |", e)
	}
	w.WriteString("\n|---|" + strings.Repeat("---:|", int(endings)) + "\n")
	for k := range kinds {
		fmt.Fprintf(&w, "| %s |", kindNames[k])
		for e := range endings {
			fmt.Fprintf(&w, " %d |", s.calls.ended[k][e].Load())
		}
		w.WriteString("\n")
	}
	return w.String()
}

// rests is what was left after each phase.
func (s *soak) rests() string {
	var w strings.Builder
	w.WriteString("| at rest | after | process | memory | descriptors | goroutines | sessions | calls so far |\n|---:|---|---:|---:|---:|---:|---:|---:|\n")
	for _, r := range s.resting {
		fmt.Fprintf(&w, "| %.1f min | %s | %d | %.1f MiB | %v | %v | %v | %d |\n", r.at.Minutes(), r.after, r.pid, r.least.rss/(1<<20),
			r.least.descriptors, r.least.goroutines, r.least.sessions, r.calls)
	}
	return w.String()
}

// figures are the sums.
func (s *soak) figures() string {
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	return fmt.Sprintf("%d calls, %d of which another server went on with, and %d whose server was killed in its own turn, which looks like an end; %d servers killed, %d reloads, %d upgrades. First command: p50 %v, p99 %v. %d faults.\n",
		s.calls.made.Load(), s.calls.resumed.Load(), s.calls.cut, s.kills, s.reloads, s.upgrades,
		s.calls.altogether.Quantile(0.5), s.calls.altogether.Quantile(0.99), s.faults.count())
}

func (s *soak) summary() { fmt.Fprintf(s.out, "\n%s\n%s\n%s\n", s.figures(), s.rests(), s.table()) }
