package main

import (
	"container/heap"
	"time"
)

// A clock is virtual time, which passes as quickly as the machine can compute
// it. It implements [balancer.Clock].
type clock struct {
	now    time.Time
	events events
	n      int // events so far
}

// An event is something that happens at its time; of those at the same time the
// one that was planned first is the first.
type event struct {
	at time.Time
	n  int
	do func()
}

// Now implements [balancer.Clock].
func (c *clock) Now() time.Time { return c.now }

// AfterFunc implements [balancer.Clock].
func (c *clock) AfterFunc(d time.Duration, f func()) {
	c.n++
	heap.Push(&c.events, event{c.now.Add(d), c.n, f})
}

// runUntil lets happen what is planned until done says that it is enough.
func (c *clock) runUntil(done func() bool) {
	for !done() {
		e := heap.Pop(&c.events).(event)
		c.now = e.at
		e.do()
	}
}

// events implements [heap.Interface].
type events []event

func (e events) Len() int      { return len(e) }
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e events) Less(i, j int) bool {
	if !e[i].at.Equal(e[j].at) {
		return e[i].at.Before(e[j].at)
	}
	return e[i].n < e[j].n
}
func (e *events) Push(x any) { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	(*e)[last] = event{} // keeps nothing alive
	*e = (*e)[:last]
	return x
}
