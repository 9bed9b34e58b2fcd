//go:build linux

package load

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"agiproxy/testbed/bench/stats"
)

// A Mode is a kind of load.
type Mode string

// The modes. What each needs of a [Plan] stands behind it.
const (
	Setup     Mode = "setup"     // short sessions, closed loop: Sessions, To
	Saturated Mode = "saturated" // commands, closed loop: Sessions, Beside
	Open      Mode = "open"      // commands, open loop: Sessions, Beside, Rate
	Idle      Mode = "idle"      // sessions that are held: Sessions
	Churn     Mode = "churn"     // sessions, open loop: From, To, Rate, Hangups, Think
)

// A Plan says what load to make.
type Plan struct {
	Target   netip.AddrPort // IPv4; where the callers connect
	Mode     Mode
	Sessions int           // at one time
	Beside   int           // sessions held besides
	From, To int           // commands of a session
	Rate     float64       // commands, or sessions, a second
	Hangups  float64       // share of sessions that the caller ends: half by HANGUP, half by closing
	Think    time.Duration // between a reply and the next command
	Goodbye  bool          // callers send HANGUP after the server's close, as Asterisk does
	Split    bool          // the environment comes as two segments, as from Asterisk, and not as one
	Seed     uint64        // of what is random

	Warmup   time.Duration
	Duration time.Duration // of the measured window
	Drain    time.Duration // what sessions may take to end after the window; 0 means 10s
	Count    uint64        // ends the window after so many commands (Setup, Churn: sessions); 0: no limit

	// Begin and End are called at the window's ends, if not nil; nothing is
	// served meanwhile. An error ends the run.
	Begin, End func() error
}

// Latency is what a histogram comes to.
type Latency struct {
	Count uint64        `json:"count"`
	P50   time.Duration `json:"p50_ns"`
	P99   time.Duration `json:"p99_ns"`
	P999  time.Duration `json:"p999_ns"`
	Max   time.Duration `json:"max_ns"`
}

// A Result is what was seen in the measured window, but for the errors, which
// are those of the whole run.
type Result struct {
	Elapsed   time.Duration  `json:"elapsed_ns"`
	Sessions  uint64         `json:"sessions,omitempty"`  // that ended
	Commands  uint64         `json:"commands,omitempty"`  // that were answered
	Connect   Latency        `json:"connect,omitzero"`    // from a caller's connect to its first command
	RoundTrip Latency        `json:"round_trip,omitzero"` // from a server's command to its reply
	Busy      float64        `json:"harness"`             // share of a processor that the generator used
	Total     uint64         `json:"total"`               // sessions that ended, in the whole run
	Errors    map[string]int `json:"errors,omitempty"`    // by kind; a run with any is worth nothing
	Example   string         `json:"example,omitempty"`   // of an error: the first one
}

// Err returns what is wrong with the run, nil if nothing is.
func (r *Result) Err() error {
	if len(r.Errors) == 0 {
		return nil
	}
	return fmt.Errorf("incorrect: %v; the first: %s", r.Errors, r.Example)
}

// run is the state of a run.
type run struct {
	plan      *Plan
	target    unix.RawSockaddrInet4
	mode      mode
	measuring bool
	bySession bool // Count counts sessions

	connect, roundTrip stats.Histogram
	sessions, commands uint64
	total              uint64
	errors             map[string]int
	faults             int
	example            string
}

// maxFaults is how many errors end a run: what comes after them says nothing.
const maxFaults = 100

func (r *run) fault(kind, detail string) {
	r.faults++
	r.errors[kind]++
	if r.example == "" {
		r.example = kind + ": " + detail
	}
}

func (r *run) established(d int64) {
	if r.measuring {
		r.connect.Record(time.Duration(d))
	}
}

func (r *run) answered(d int64) {
	if r.measuring {
		r.commands++
		r.roundTrip.Record(time.Duration(d))
	}
}

func (r *run) completed() {
	r.total++
	if r.measuring {
		r.sessions++
	}
}

// full reports whether the window has seen as much as was planned.
func (r *run) full() bool {
	n := r.commands
	if r.bySession {
		n = r.sessions
	}
	return r.plan.Count > 0 && n >= r.plan.Count
}

// openLimit is how long opening the sessions of a crowd may take.
const openLimit = 60 * time.Second

// Run makes the load that p plans. The error says that the run could not be
// made; that something went wrong in it is told by the Result.
func (g *Generator) Run(p Plan) (*Result, error) {
	if p.Drain == 0 {
		p.Drain = 10 * time.Second
	}
	m, err := g.newMode(&p)
	if err != nil {
		return nil, err
	}
	r := &run{
		plan: &p, target: rawAddress(p.Target), mode: m, errors: make(map[string]int),
		bySession: p.Mode == Setup || p.Mode == Churn,
	}
	g.run = r
	defer func() { g.run = nil }()

	if !g.while(openLimit, func() bool { return !m.ready() }) {
		r.fault("stuck", fmt.Sprintf("%d sessions were opened, not all of them began", g.live))
	}
	g.drive(p.Warmup, nil)
	if p.Begin != nil {
		if err := p.Begin(); err != nil {
			return nil, errors.Join(err, g.drain())
		}
	}
	start, used := g.clock(), threadTime()
	r.measuring = true
	g.drive(p.Duration, r.full)
	r.measuring = false
	elapsed := time.Duration(g.clock() - start)
	used = threadTime() - used
	if p.End != nil {
		if err := p.End(); err != nil {
			return nil, errors.Join(err, g.drain())
		}
	}
	if err := g.drain(); err != nil {
		r.fault("stuck", err.Error())
	}
	return &Result{
		Elapsed: elapsed, Sessions: r.sessions, Commands: r.commands,
		Connect: latency(&r.connect), RoundTrip: latency(&r.roundTrip),
		Busy: used.Seconds() / elapsed.Seconds(), Total: r.total, Errors: maps.Clone(r.errors), Example: r.example,
	}, nil
}

func (g *Generator) newMode(p *Plan) (mode, error) {
	if p.Sessions < 1 || p.Sessions+p.Beside > maxSlots {
		return nil, fmt.Errorf("%d sessions and %d beside; want 1 to %d", p.Sessions, p.Beside, maxSlots)
	}
	if p.Rate <= 0 && (p.Mode == Open || p.Mode == Churn) {
		return nil, fmt.Errorf("mode %s at %v a second; want a rate", p.Mode, p.Rate)
	}
	if (p.Mode == Setup || p.Mode == Churn) && (p.To < 1 || p.From > p.To) {
		return nil, fmt.Errorf("sessions of %d to %d commands; want at least one", p.From, p.To)
	}
	all := crowd{g: g, want: p.Sessions, beside: p.Beside}
	switch p.Mode {
	case Setup:
		return &short{g: g, sessions: p.Sessions, commands: uint32(p.To)}, nil
	case Saturated:
		return &saturated{crowd: all}, nil
	case Open:
		return &paced{crowd: all, interval: 1e9 / p.Rate}, nil
	case Idle:
		return &all, nil
	case Churn:
		return &churn{
			g: g, random: rand.New(rand.NewPCG(p.Seed, 1)), interval: 1e9 / p.Rate, limit: p.Sessions,
			from: uint32(max(1, p.From)), to: uint32(p.To), hangups: p.Hangups, think: p.Think,
		}, nil
	}
	return nil, fmt.Errorf("no mode %q", p.Mode)
}

// drive has the mode begin what is due, for so long or until full, if not nil,
// says so.
func (g *Generator) drive(d time.Duration, full func() bool) {
	end := g.clock() + int64(d)
	for g.now < end && (full == nil || !full()) && g.run.faults < maxFaults {
		g.turn(min(end, g.run.mode.due()))
	}
}

// while serves as long as the condition holds; it reports false after limit, or
// too many errors.
func (g *Generator) while(limit time.Duration, holds func() bool) bool {
	end := g.clock() + int64(limit)
	for holds() {
		if g.now >= end || g.run.faults >= maxFaults {
			return false
		}
		g.turn(g.now + int64(time.Millisecond))
	}
	return true
}

// drain ends all sessions. The error says how many were not to be ended.
func (g *Generator) drain() error {
	g.run.mode.stop()
	end := g.clock() + int64(g.run.plan.Drain)
	for g.live > 0 && g.now < end {
		g.turn(min(g.now+int64(time.Millisecond), g.run.mode.due()))
	}
	left := g.live
	for i := range g.sessions {
		if s := &g.sessions[i]; s.live {
			g.fail(s, "unfinished", fmt.Sprintf("session %08x: %d asked, %d answered, %d confirmed", s.number, s.asked, s.answered, s.confirmed))
		}
	}
	if left > 0 {
		return fmt.Errorf("%d sessions have not ended %v after the window", left, g.run.plan.Drain)
	}
	return nil
}

func latency(h *stats.Histogram) Latency {
	return Latency{Count: h.Count(), P50: h.Quantile(0.5), P99: h.Quantile(0.99), P999: h.Quantile(0.999), Max: h.Max()}
}
