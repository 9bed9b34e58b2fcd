package main

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// A board is where everybody in a demo writes what happened. Its methods are
// safe for concurrent use.
type board struct {
	start time.Time

	mu     sync.Mutex
	counts totals
	events []event // the last maxEvents of all
	passed int     // how many there have been
}

// maxEvents is more than a screen shows.
const maxEvents = 100

// totals are the counts of a demo.
type totals struct {
	underWay int // calls of the simulated callers
	served   int
	failed   int
	moved    int // that a server got after another one had refused them
	kills    int
}

// An event is a line of a demo's story.
type event struct {
	at   time.Duration // since the start
	text string
}

func newBoard() *board { return &board{start: time.Now()} }

func (b *board) totals() totals {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counts
}

// count changes the totals.
func (b *board) count(change func(*totals)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.counts)
}

// event tells what happened.
func (b *board) event(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, event{time.Since(b.start), fmt.Sprintf(format, args...)})
	if len(b.events) > maxEvents {
		b.events = b.events[1:]
	}
	b.passed++
}

// story returns the last events, and how many there have been in all.
func (b *board) story() (last []event, passed int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.events), b.passed
}
