package proxy

import (
	"slices"
	"time"

	"agiproxy/agi"
)

// Counted is what sessions have counted, for another process to go on from. What
// a count is of has its name here, since numbers change from version to version.
type Counted struct {
	Accepted              uint32 // the last session's id
	ToBackend, ToAsterisk uint64
	Rejected              []CountedRejections
	Pools                 map[string]*CountedPool
}

// CountedRejections are connections that were not welcome.
type CountedRejections struct {
	Listener, Reason string
	N                uint64
}

// CountedPool is what one pool's sessions have counted.
type CountedPool struct {
	Ended                      map[string]uint64 // by outcome
	Duration, Dispatch, Queued CountedTimes
	Replays, Resumed, CutShort uint64
	Full                       uint64
	Sent                       map[string]uint64 // by command
	Took                       map[string]CountedTimes
	Denied                     []CountedDenials
	Backends                   map[string]*CountedBackend
}

// CountedDenials are backends' lines that were refused.
type CountedDenials struct {
	Command, Reason string
	N               uint64
}

// CountedBackend is what one backend's sessions have counted.
type CountedBackend struct {
	Attempts     map[string]uint64 // by result
	Losses       uint64
	First, Think CountedTimes
}

// CountedTimes is a histogram.
type CountedTimes struct {
	Bounds  []time.Duration
	Buckets []uint64 // one more than Bounds
	Sum     float64  // nanoseconds
}

// TakeCounts returns what was counted so far, and has everything be counted from
// nothing again. From then on this server's metrics are somebody else's: to
// collect them is an error, until GiveCounts brings the counts back.
func (s *Server) TakeCounts() *Counted {
	s.counted.Store(false)
	total := newCounts()
	s.onWorkers(func(w *Worker) {
		total.add(w.counts)
		w.counts = newCounts()
		for _, l := range []*list{&w.sessions, &w.frozen} {
			for x := range l.all() {
				x.recount()
			}
		}
	})
	c := total.export()
	c.Accepted = s.accepted.Load()
	return c
}

// GiveCounts adds what another process, or this one before, has counted. Ids of
// sessions go on from there, too: a caller sees to it that none begins meanwhile.
func (s *Server) GiveCounts(c *Counted) {
	s.AddCounts(c)
	s.accepted.Store(max(s.accepted.Load(), c.Accepted))
	s.counted.Store(true)
}

// AddCounts adds what another process has counted since its counts were taken.
func (s *Server) AddCounts(c *Counted) {
	first := true
	s.onWorkers(func(w *Worker) {
		if first {
			w.counts.add(c.counts())
		}
		first = false
	})
}

// recount has the session count into what its worker has now.
func (s *Session) recount() {
	if s.counts == nil {
		return
	}
	p := s.worker.counts.pool(s.pool.name)
	s.counts = p.backend(s.counts.name)
	if d := s.dispatching; d != nil && d.hedge != nil {
		d.hedge.counts = p.backend(d.hedge.counts.name)
	}
}

func (c *counts) export() *Counted {
	x := &Counted{ToBackend: c.toBackend, ToAsterisk: c.toAsterisk, Pools: make(map[string]*CountedPool)}
	for r, n := range c.rejected {
		x.Rejected = append(x.Rejected, CountedRejections{r.listener, r.reason, n})
	}
	for name, p := range c.pools {
		x.Pools[name] = p.export()
	}
	return x
}

func (p *poolCounts) export() *CountedPool {
	x := &CountedPool{
		Ended: named[Outcome](p.ended[:]), Duration: p.duration.export(), Dispatch: p.dispatch.export(), Queued: p.queued.export(),
		Replays: p.replays, Resumed: p.resumed, CutShort: p.cutShort, Full: p.full,
		Sent: make(map[string]uint64), Took: make(map[string]CountedTimes), Backends: make(map[string]*CountedBackend),
	}
	for c, n := range p.commands {
		if n != nil {
			name := agi.Command(c).String()
			x.Sent[name], x.Took[name] = n.sent, n.took.export()
		}
	}
	for d, n := range p.denied {
		x.Denied = append(x.Denied, CountedDenials{d.command.String(), d.reason.String(), n})
	}
	for name, b := range p.backends {
		x.Backends[name] = &CountedBackend{named[result](b.attempts[:]), b.losses, b.first.export(), b.think.export()}
	}
	return x
}

// named returns what was counted by number by name.
func named[T interface {
	~uint8
	String() string
}](counts []uint64) map[string]uint64 {
	by := make(map[string]uint64)
	for i, n := range counts {
		if n > 0 {
			by[T(i).String()] = n
		}
	}
	return by
}

// numbered adds what was counted by name to what is counted by number. What has
// no number any more is dropped.
func numbered[T interface {
	~uint8
	String() string
}](counts []uint64, by map[string]uint64) {
	for i := range counts {
		counts[i] += by[T(i).String()]
	}
}

func (x *Counted) counts() *counts {
	c := newCounts()
	c.toBackend, c.toAsterisk = x.ToBackend, x.ToAsterisk
	for _, r := range x.Rejected {
		c.rejected[rejection{r.Listener, r.Reason}] += r.N
	}
	for name, p := range x.Pools {
		p.addTo(c.pool(name))
	}
	return c
}

func (x *CountedPool) addTo(p *poolCounts) {
	numbered[Outcome](p.ended[:], x.Ended)
	x.Duration.addTo(&p.duration)
	x.Dispatch.addTo(&p.dispatch)
	x.Queued.addTo(&p.queued)
	p.replays, p.resumed, p.cutShort, p.full = x.Replays, x.Resumed, x.CutShort, x.Full
	for name, n := range x.Sent {
		c, took := p.command(agi.CommandNamed(name)), x.Took[name]
		c.sent += n
		took.addTo(&c.took)
	}
	for _, d := range x.Denied {
		for r := range numDenialReasons {
			if r.String() == d.Reason {
				p.denied[denial{agi.CommandNamed(d.Command), r}] += d.N
			}
		}
	}
	for name, b := range x.Backends {
		to := p.backend(name)
		numbered[result](to.attempts[:], b.Attempts)
		to.losses += b.Losses
		b.First.addTo(&to.first)
		b.Think.addTo(&to.think)
	}
}

func (h *histogram) export() CountedTimes {
	return CountedTimes{h.bounds, slices.Clone(h.buckets), h.sum}
}

// addTo adds the histogram to one whose bounds another version may have chosen:
// then what a bucket holds counts as its upper bound.
func (x *CountedTimes) addTo(h *histogram) {
	for i, n := range x.Buckets {
		to := len(h.bounds)
		if i < len(x.Bounds) {
			to, _ = slices.BinarySearch(h.bounds, x.Bounds[i])
		}
		h.buckets[to] += n
	}
	h.sum += x.Sum
}
