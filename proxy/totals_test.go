package proxy

import (
	"errors"
	"testing"
	"time"
)

func TestTotals(t *testing.T) {
	s := newStage(Options{}, limits())
	s.establish(plainHeader)
	s.finish()
	before := s.server.Totals()
	s.accept(asteriskAddr)
	s.handler.Received(plainHeader)
	s.host.back.handler.Connected()
	s.host.now += 40 * time.Millisecond
	s.exchange(noop, okReply)
	s.exchange(noop, okReply)
	s.host.back.handler.Closed(errors.New("gone"))
	s.handler.Closed(nil)
	now := s.server.Totals()
	if before.Sessions() != 1 || before.Commands != 1 || before.Failures() != 0 || now.Sessions() != 2 || now.Commands != 3 {
		t.Errorf("totals %+v, then %+v; want 1 session of 1 command, then 2 of 3", before, now)
	}
	d := now.Since(before)
	if d.Sessions() != 1 || d.Commands != 2 || d.Failures() != 1 || d.Ended[Lost] != 1 {
		t.Errorf("between: %+v; want one lost session of 2 commands", d)
	}
	for what, h := range map[string]Histogram{"dispatch": d.Dispatch, "first command": d.First[BackendID{"ivr", "ivr1"}]} {
		if got, ok := h.Quantile(.5); !ok || got != 50*time.Millisecond {
			t.Errorf("%s: half took %v (%v); want 50ms, above the 40 that it was", what, got, ok)
		}
	}
}

func TestQuantile(t *testing.T) {
	h := newHistogram(seconds(1, 2, 4))
	quantile := func(q float64) time.Duration {
		d, ok := Histogram{h.bounds, h.buckets}.Quantile(q)
		if !ok {
			return -1
		}
		return d
	}
	if got := quantile(.5); got != -1 {
		t.Errorf("of none half took %v", got)
	}
	for range 99 {
		h.observe(time.Second)
	}
	h.observe(3 * time.Second)
	for q, want := range map[float64]time.Duration{.5: time.Second, .99: time.Second, .991: 4 * time.Second, 1: 4 * time.Second} {
		if got := quantile(q); got != want {
			t.Errorf("quantile %v = %v; want %v", q, got, want)
		}
	}
	for range 1000 {
		h.observe(time.Hour)
	}
	if got := quantile(.5); got != 4*time.Second {
		t.Errorf("with most beyond all bounds half took %v; want the largest, 4s", got)
	}
	if got, ok := (Histogram{}).Quantile(.5); ok {
		t.Errorf("the zero histogram's half is %v", got)
	}
}
