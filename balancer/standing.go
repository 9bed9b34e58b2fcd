package balancer

import "time"

// A Standing is what a process knows of a backend beside its configuration, so
// that another one can go on from there. It holds no moments but lengths of
// time, since clocks differ. A slow start is not part of it: the weight is whole
// afterwards.
type Standing struct {
	Down    bool // by the health checks' verdict
	Drained bool
	Total   uint64 // times that the backend was picked
	Recent  int    // failures that still count against it

	Failures  int           // in a row
	Ejections uint64        // so far
	Times     int           // how many times the first ejection's length the last one took
	Ejected   time.Duration // that an ejection under way still takes; 0: there is none
	Ordered   bool          // it, by an operator
	Returned  time.Duration // since the last ejection ended; 0: there was none
}

// Standing returns what is known of the backend.
func (b *Backend) Standing() Standing {
	f, e := b.flags.Load(), &b.ejection
	s := Standing{
		Down: f&isDown != 0, Drained: f&isDrained != 0, Total: b.total.Load(), Recent: int(f / recentFailure),
		Failures: int(e.failures.Load()), Ejections: e.count.Load(),
	}
	if b.owner.Load() == nil {
		return s
	}
	p := b.lockOwner()
	defer p.mu.Unlock()
	now := p.opts.Clock.Now()
	s.Times, s.Ordered = e.times, e.ordered
	if until := e.until.Load(); until != nil {
		s.Ejected = max(until.Sub(now), 1)
	}
	if !e.returned.IsZero() {
		s.Returned = max(now.Sub(e.returned), 1)
	}
	return s
}

// Stand makes what is known of the backend what another process has found. The
// backend must be in a pool, and nothing have been picked from it.
func (b *Backend) Stand(s Standing) {
	b.SetUp(!s.Down)
	b.Drain(s.Drained)
	b.total.Store(s.Total)
	for range s.Recent {
		b.addRecent()
	}
	p, e := b.lockOwner(), &b.ejection
	now := p.opts.Clock.Now()
	e.failures.Store(int32(s.Failures))
	e.count.Store(s.Ejections)
	e.times = s.Times
	if s.Returned > 0 {
		e.returned = now.Add(-s.Returned)
	}
	if s.Ejected > 0 {
		b.takeOut(p, s.Ejected)
		e.ordered = s.Ordered
	}
	p.mu.Unlock()
}

// Adopt lends the backend to a session that it serves already, whatever its
// state and its limit: another process has picked it. waiting says that the
// server owes nothing, see [Loan.ServersTurn].
func (b *Backend) Adopt(waiting, doubtful bool) Loan {
	b.sessions.Add(1)
	if waiting {
		b.waiting.Add(1)
	}
	return Loan{b, waiting, doubtful}
}

// Waiting reports whether the server owes nothing.
func (l *Loan) Waiting() bool { return l.waiting }
