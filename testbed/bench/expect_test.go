//go:build linux

package main

import (
	"slices"
	"testing"
	"time"
)

func TestFullFormTakesThirteenMinutesAtMost(t *testing.T) {
	ours, err := agiproxy("agiproxy=./agiproxy")
	if err != nil {
		t.Fatal(err)
	}
	c := &comparison{
		peers: append([]peer{ours}, others()...), usual: true, scenarios: scenarios(), rounds: 15,
		warmup: 150 * time.Millisecond, duration: 500 * time.Millisecond, settles: idleSettles, few: fewIdle, many: manyIdle,
	}
	if got := c.expected(); got < 10*time.Minute || got > 13*time.Minute {
		t.Errorf("expected() = %v; want 10 to 13 minutes", got)
	}
	c.rounds = 0
	if got := c.expected(); got != 0 {
		t.Errorf("expected() of no rounds = %v; want 0", got)
	}
}

func TestUsualPeers(t *testing.T) {
	ours, err := agiproxy("new=./agiproxy")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scenarios() {
		usual := []string{}
		for _, p := range append(others(), ours) {
			if s.isOf(p, true) {
				usual = append(usual, p.name)
			}
			if named := s.isOf(p, false); named != (s.only == nil || slices.Contains(s.only, p.family)) {
				t.Errorf("%s of %s, named: %v; want its family to decide", s.name, p.name, named)
			}
		}
		if !slices.Contains(usual, "new") {
			t.Errorf("%s: %v; want every agiproxy in it", s.name, usual)
		}
		goal := slices.ContainsFunc(goals(), func(g goal) bool { return g.scenario == s.name })
		if goal && (!slices.Contains(usual, "haproxy") || !slices.Contains(usual, "haproxy-log")) {
			t.Errorf("%s has a goal, and only %v; want haproxy and haproxy-log", s.name, usual)
		}
	}
}

func TestInMinutes(t *testing.T) {
	for d, want := range map[time.Duration]string{
		20 * time.Second:   "a minute at most",
		80 * time.Second:   "a minute",
		760 * time.Second:  "13 minutes",
		2400 * time.Second: "40 minutes",
	} {
		if got := inMinutes(d); got != want {
			t.Errorf("inMinutes(%v) = %q; want %q", d, got, want)
		}
	}
}
