package proxy

import (
	linked "container/list" // this package has a list of its own
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// mostSources bounds what a listener remembers of who has connected.
const mostSources = 1 << 16

// A Rate bounds how many sessions one source may begin.
type Rate struct {
	PerSecond float64 // in the long run; 0 means no limit
	Burst     int     // at once, at least 1 where there is a limit
}

// SourceOf returns who counts as one: an IPv4 address, or the /64 of IPv6 that a
// host may choose its addresses from.
func SourceOf(a netip.Addr) netip.Addr {
	if a = plain(a); a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

// plain returns the address as prefixes have it: none contains one with a zone, or
// an IPv4 address in IPv6's clothes.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// sources are those that a listener's limits are about. They are shared by all
// loops. One is there as long as it has sessions, and then until its rate has
// nothing held against it any more. At the bound the one that has been without a
// session for the longest is forgotten, or, where all have some, the one whose
// last session began first; what is forgotten begins anew.
type sources struct {
	mu    sync.Mutex
	known map[netip.Addr]*source
	busy  linked.List // of those with sessions, the one whose last began first before the others
	idle  linked.List // of those without, the one that is so for the longest before the others
}

type source struct {
	addr     netip.Addr
	sessions int
	since    time.Time       // that it has none
	limiter  *rate.Limiter   // nil: it has no limit
	rate     Rate            // of limiter
	place    *linked.Element // in busy if it has sessions, else in idle
}

// admit counts one more session of the source, unless one of its limits forbids it.
func (s *sources) admit(a netip.Addr, o *ListenerOptions, now time.Time) (*source, refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.source(a, o, now)
	switch {
	case o.MaxSessionsPerSource > 0 && x.sessions >= o.MaxSessionsPerSource:
		return nil, refusedSource
	case x.limiter != nil && !x.limiter.AllowN(now, 1):
		return nil, refusedRate
	}
	s.count(x)
	return x, notRefused
}

// adopt counts a session that was admitted elsewhere, whatever the limits are.
func (s *sources) adopt(a netip.Addr, o *ListenerOptions, now time.Time) *source {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.source(a, o, now)
	s.count(x)
	return x
}

// count counts one more session.
func (s *sources) count(x *source) {
	x.sessions++
	if x.sessions > 1 {
		s.busy.MoveToBack(x.place)
		return
	}
	s.idle.Remove(x.place)
	x.place = s.busy.PushBack(x)
}

// leave counts a session less.
func (s *sources) leave(x *source, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x.sessions--
	switch {
	case x.sessions > 0 || s.known[x.addr] != x: // which was forgotten
	case x.limiter == nil:
		s.busy.Remove(x.place)
		delete(s.known, x.addr)
	default:
		s.busy.Remove(x.place)
		x.since = now
		x.place = s.idle.PushBack(x)
	}
}

// source returns what is known of a source, by the limits that hold now. s.mu is
// held, as in all below.
func (s *sources) source(a netip.Addr, o *ListenerOptions, now time.Time) *source {
	a = SourceOf(a)
	x := s.known[a]
	if x == nil {
		s.makeRoom(o.Rate, now)
		x = &source{addr: a, since: now}
		x.place = s.idle.PushBack(x)
		if s.known == nil {
			s.known = make(map[netip.Addr]*source)
		}
		s.known[a] = x
	}
	if x.rate != o.Rate { // a new one, or a reload has changed it
		x.rate, x.limiter = o.Rate, nil
		if o.Rate.PerSecond > 0 {
			x.limiter = rate.NewLimiter(rate.Limit(o.Rate.PerSecond), o.Rate.Burst)
		}
	}
	return x
}

// makeRoom forgets those that nothing is held against any more, and one more where
// there is no room for another.
func (s *sources) makeRoom(r Rate, now time.Time) {
	for e := s.idle.Front(); e != nil; e = s.idle.Front() {
		x := e.Value.(*source)
		if x.limiter != nil && now.Sub(x.since).Seconds() < float64(r.Burst)/r.PerSecond {
			break
		}
		s.forget(&s.idle, e)
	}
	if len(s.known) < mostSources {
		return
	}
	if e := s.idle.Front(); e != nil {
		s.forget(&s.idle, e)
	} else {
		s.forget(&s.busy, s.busy.Front())
	}
}

func (s *sources) forget(from *linked.List, e *linked.Element) {
	from.Remove(e)
	delete(s.known, e.Value.(*source).addr)
}
