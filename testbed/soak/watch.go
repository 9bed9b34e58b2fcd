//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// A sample is what was seen at one time.
type sample struct {
	at          time.Duration // since the beginning
	rss         float64       // bytes
	descriptors float64
	goroutines  float64
	sessions    float64
	p99         time.Duration // of the wait for a first command, since the sample before
}

// watch samples. Its methods may be called by several.
type watch struct {
	proxy *agiproxy
	calls *calls
	began time.Time

	mu      sync.Mutex
	samples []sample
	marks   []time.Duration // when processes changed
	missed  int             // samples while two processes were there
}

// take takes a sample. While processes change there is none.
func (w *watch) take() (sample, error) {
	s := sample{at: time.Since(w.began)}
	pid, err := w.proxy.pid()
	if err != nil {
		return s, err
	}
	m, err := w.proxy.metrics()
	if err != nil {
		return s, err
	}
	for name, v := range m {
		if strings.HasPrefix(name, "agiproxy_sessions_active{") {
			s.sessions += v
		}
	}
	s.goroutines = m["go_goroutines"]
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return s, err
	}
	s.descriptors = float64(len(names))
	// Exact, where status may be some pages behind for each thread.
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return s, err
	}
	_, rest, _ := strings.Cut(string(text), "\nRss:")
	if _, err := fmt.Sscan(rest, &s.rss); err != nil {
		return s, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	s.rss *= 1024
	return s, nil
}

// keep takes samples until ctx ends.
func (w *watch) keep(ctx context.Context, every time.Duration) {
	for wait(ctx, every) {
		s, err := w.take()
		s.p99 = w.calls.look()
		w.mu.Lock()
		if err == nil {
			w.samples = append(w.samples, s)
		} else {
			w.missed++
		}
		w.mu.Unlock()
	}
}

// mark notes that another process has taken over.
func (w *watch) mark() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.marks = append(w.marks, time.Since(w.began))
}

// A rest is what is left when nothing happens.
type rest struct {
	after string
	at    time.Duration
	pid   int
	least sample // of each figure the least: probes and scrapes come and go
	calls int64
}

// A rest is judged by so many samples, so far apart: they must not all fall together
// with those that are taken all the time, whose connections are counted as well.
const (
	looks   = 20
	between = 370 * time.Millisecond
)

// rest waits until all has settled, and notes what is left.
func (s *soak) rest(ctx context.Context, after string, settle time.Duration) error {
	if err := s.proxy.configure(nil); err != nil {
		return err
	}
	s.reloads++
	if err := s.proxy.reload(); err != nil {
		return err
	}
	s.calls.clear(s.faults)
	for range 30 { // servers get their time after a hangup
		if now, err := s.watch.take(); err == nil && now.sessions == 0 {
			break
		}
		wait(ctx, time.Second)
	}
	if !wait(ctx, min(settle, time.Minute)) {
		return ctx.Err()
	}
	r := rest{after: after, calls: s.calls.made.Load()}
	for i := range looks {
		now, err := s.watch.take()
		if err != nil {
			return err
		}
		if i == 0 {
			r.least = now
		}
		r.least.rss = min(r.least.rss, now.rss)
		r.least.descriptors = min(r.least.descriptors, now.descriptors)
		r.least.goroutines = min(r.least.goroutines, now.goroutines)
		r.least.sessions = min(r.least.sessions, now.sessions)
		time.Sleep(between)
	}
	r.at = time.Since(s.began)
	var err error
	if r.pid, err = s.proxy.pid(); err != nil {
		return err
	}
	s.resting = append(s.resting, r)
	s.say("at rest: process %d, %.1f MiB, %v descriptors, %v goroutines, %v sessions; %d calls so far", r.pid, r.least.rss/(1<<20),
		r.least.descriptors, r.least.goroutines, r.least.sessions, r.calls)
	return s.count(after)
}

// count compares what agiproxy has counted with the calls that were made.
func (s *soak) count(after string) error {
	m, err := s.proxy.metrics()
	if err != nil {
		return err
	}
	outcomes := make(map[string]float64)
	sum := 0.0
	for name, v := range m {
		if labels, ok := strings.CutPrefix(name, "agiproxy_sessions_total{"); ok {
			_, rest, _ := strings.Cut(labels, `outcome="`)
			outcome, _, _ := strings.Cut(rest, `"`)
			outcomes[outcome] += v
			sum += v
		}
	}
	if made := s.calls.made.Load(); sum != float64(made) {
		s.faults.add("%s: agiproxy has counted %v sessions (%v); want the %d calls", after, sum, outcomes, made)
	}
	if want := s.calls.sum(served) + s.calls.sum(closed); outcomes["completed"] != float64(want) {
		s.faults.add("%s: agiproxy has counted %v sessions as completed; want the %d that were", after, outcomes["completed"], want)
	}
	if want := s.calls.sum(refused); outcomes["bad_header"] != float64(want) {
		s.faults.add("%s: agiproxy has counted %v sessions as bad_header; want the %d that were", after, outcomes["bad_header"], want)
	}
	return nil
}
