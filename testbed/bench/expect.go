//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// What a measurement takes besides its window, roughly: to start a proxy and
// stop it, to have a session of a crowd begin and end, and to count calls.
const (
	startTakes   = 150 * time.Millisecond
	sessionTakes = 150 * time.Microsecond
	callsTake    = time.Second
)

// peersOf returns who is measured in a scenario.
func (c *comparison) peersOf(s scenario) []peer {
	return slices.DeleteFunc(slices.Clone(c.peers), func(p peer) bool { return !s.isOf(p, c.usual) })
}

func (c *comparison) roundsOf(s scenario) int {
	if s.rounds > 0 {
		return min(s.rounds, c.rounds)
	}
	return c.rounds
}

// expected returns about how long everything takes.
func (c *comparison) expected() (sum time.Duration) {
	for _, s := range c.scenarios {
		each, once := c.warmup, startTakes+s.settle
		switch s.kind {
		case window:
			each += c.duration + time.Duration(s.plan.Sessions+s.plan.Beside)*sessionTakes
		case memory:
			each += once + c.warmup + 2*c.settles + time.Duration(c.few+c.many)*sessionTakes
		case calls:
			each += once + callsTake
		}
		if rounds := c.roundsOf(s); rounds > 0 {
			sum += (once + each*time.Duration(rounds)) * time.Duration(len(c.peersOf(s)))
		}
	}
	return sum
}

// inMinutes writes a duration for somebody who is going to wait.
func inMinutes(d time.Duration) string {
	switch n := math.Round(d.Minutes()); {
	case n < 1:
		return "a minute at most"
	case n < 2:
		return "a minute"
	default:
		return fmt.Sprintf("%.0f minutes", n)
	}
}
