//go:build linux

package main

import (
	"slices"
	"time"

	"agiproxy/testbed/bench/load"
)

// A kind is what a scenario measures.
type kind uint8

const (
	window kind = iota // processor time, rates and latencies in a window of time
	memory             // growth between a few and many idle sessions
	calls              // system calls
)

// A scenario is one thing to measure of every peer.
type scenario struct {
	name    string
	title   string
	kind    kind
	plan    load.Plan
	servers int           // 0: 3
	probe   time.Duration // between health checks of a server; 0: 2s
	settle  time.Duration // more warming up than usual
	pinned  bool          // the proxy on one processor, the load on another
	short   bool          // part of the short form
	rounds  int           // at most; 0: as many as there are
	only    []string      // families of peers; nil: all
	usual   []string      // peers besides agiproxy, if nobody names any; nil: all
}

// isOf reports whether the scenario measures a peer; usual: nobody has named
// those to measure.
func (s *scenario) isOf(p peer, usual bool) bool {
	if s.only != nil && !slices.Contains(s.only, p.family) {
		return false
	}
	return !usual || s.usual == nil || p.family == agiproxyFamily || slices.Contains(s.usual, p.name)
}

// Of the scenario that measures memory: a few and many sessions, and what they
// get to settle. A process that has 20,000 descriptors can have no more.
const (
	fewIdle     = 2000
	manyIdle    = 9000
	idleSettles = 2 * time.Second
)

// firstProbes is what a thousand servers take to be probed for the first time,
// which is not to be measured.
const firstProbes = 4 * time.Second

// beside is how many idle sessions are there to be scaled with.
const beside = 8000

// scenarios returns everything that there is to measure.
func scenarios() []scenario {
	setup := load.Plan{Mode: load.Setup, Sessions: 100, To: 3}
	asterisk := load.Plan{Mode: load.Setup, Sessions: 100, To: 3, Split: true, Goodbye: true}
	open := load.Plan{Mode: load.Open, Sessions: 500, Rate: 5000}
	slow := load.Plan{Mode: load.Open, Sessions: 500, Rate: 500}
	saturated := load.Plan{Mode: load.Saturated, Sessions: 200}
	churn := load.Plan{Mode: load.Churn, Sessions: 4000, From: 1, To: 50, Rate: 150, Hangups: 0.2, Think: 20 * time.Millisecond, Goodbye: true, Split: true, Seed: 1}
	crowded := open
	crowded.Beside = beside
	scaling := []string{agiproxyFamily, haproxyFamily}
	proxies := []string{agiproxyFamily, haproxyFamily, nginxFamily}
	// A rule of HAProxy's costs something when a session begins, and its log
	// when one ends; where there is a goal, its best configuration is wanted.
	goal := []string{"haproxy", "haproxy-log", "nginx", "direct"}
	logged := []string{"haproxy-log", "nginx", "direct"}

	// What is compared with itself in another scenario stands beside it.
	all := []scenario{
		{name: "setup", title: "sessions of 3 commands, 100 at a time", plan: setup, pinned: true, short: true},
		{name: "servers-1000", title: "sessions of 3 commands, 1,000 servers probed once a minute each", plan: setup, servers: 1000, probe: time.Minute, settle: firstProbes, pinned: true, only: scaling, usual: goal},
		{name: "setup-asterisk", title: "the same with the environment in two segments and a HANGUP at the end, as from Asterisk", plan: asterisk, pinned: true, short: true, usual: []string{"haproxy-log", "haproxy-rule", "direct"}},
		{name: "open-5000", title: "5,000 commands a second over 500 sessions", plan: open, pinned: true, short: true, usual: goal},
		{name: "beside", title: "5,000 commands a second over 500 sessions, 8,000 idle ones beside them", plan: crowded, pinned: true, only: scaling, usual: goal, rounds: 5},
		{name: "open-500", title: "500 commands a second over 500 sessions", plan: slow, pinned: true, usual: logged},
		{name: "saturated", title: "200 sessions without a pause", plan: saturated, pinned: true, short: true, usual: goal},
		{name: "churn", title: "150 sessions a second of 1 to 50 commands, 20 ms apart; a fifth of the callers leave", plan: churn, pinned: true, short: true, usual: logged},
		{name: "all-setup", title: "sessions of 3 commands, 100 at a time", plan: setup, usual: goal},
		{name: "all-open-5000", title: "5,000 commands a second over 500 sessions", plan: open, usual: logged},
		{name: "all-saturated", title: "200 sessions without a pause", plan: saturated, usual: logged},
		{name: "idle", title: "idle sessions", kind: memory, plan: load.Plan{Mode: load.Idle}, pinned: true, short: true, only: proxies, usual: goal, rounds: 2},
		{name: "servers-1000-probed", title: "sessions of 3 commands, 1,000 servers probed every 2 s each", plan: setup, servers: 1000, settle: firstProbes, pinned: true, only: scaling, usual: []string{}, rounds: 5},
	}
	one, many := saturated, saturated
	one.Sessions, one.Count, many.Count = 1, 1000, 5000
	alone, batched := setup, setup
	alone.Sessions, alone.Count, batched.Count = 1, 200, 1000
	for _, s := range []scenario{
		{name: "calls-command", title: "a command, one session", plan: one, short: true},
		{name: "calls-command-200", title: "a command, 200 sessions without a pause", plan: many},
		{name: "calls-session", title: "a session of 3 commands, one at a time", plan: alone},
		{name: "calls-session-100", title: "a session of 3 commands, 100 at a time", plan: batched},
	} {
		s.kind, s.pinned, s.rounds, s.only, s.usual = calls, true, 1, proxies, logged // they don't vary
		all = append(all, s)
	}
	for i := range all {
		if all[i].servers == 0 {
			all[i].servers = 3
		}
		if all[i].probe == 0 {
			all[i].probe = 2 * time.Second
		}
	}
	return all
}
