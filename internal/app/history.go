package app

import (
	"context"
	"slices"
	"sync"
	"time"

	"agiproxy/proxy"
)

// endings are the last sessions that have ended. Its methods are safe for
// concurrent use.
type endings struct {
	mu    sync.Mutex
	n     uint64 // so far
	first uint64 // those up to this one were another process's
	last  [100]ending
}

type ending struct {
	proxy.Record
	number uint64 // from 1
	time   time.Time
}

func (e *endings) add(r proxy.Record) {
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.n++
	e.last[e.n%uint64(len(e.last))] = ending{r, e.n, now}
}

// number returns how many there were.
func (e *endings) number() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.n
}

// goOn numbers those to come after what another process has had.
func (e *endings) goOn(n uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.n, e.first = n, n
}

// after returns those with a greater number that are still known, newest first.
func (e *endings) after(number uint64) (all []ending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for n := e.n; n > max(number, e.first) && n+uint64(len(e.last)) > e.n; n-- {
		all = append(all, e.last[n%uint64(len(e.last))])
	}
	return all
}

// A window tells what was counted over the last minutes. Its methods are safe for
// concurrent use.
type window struct {
	mu   sync.Mutex
	past []proxy.Totals // the oldest first
}

// What was counted is remembered for five minutes: long enough for a quiet pool
// to have had some calls, short enough to tell how a backend is doing now.
const (
	windowStep  = 30 * time.Second
	windowSteps = 10
)

// keep remembers what was counted again and again until ctx ends.
func (w *window) keep(ctx context.Context, count func() proxy.Totals) {
	step := time.NewTicker(windowStep)
	defer step.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-step.C:
		}
		w.add(count())
	}
}

func (w *window) add(t proxy.Totals) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.past) == windowSteps {
		w.past = slices.Delete(w.past, 0, 1)
	}
	w.past = append(w.past, t)
}

// since returns what of now has been counted in the window.
func (w *window) since(now proxy.Totals) proxy.Totals {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.past) < windowSteps {
		return now // the process is younger
	}
	return now.Since(w.past[0])
}
