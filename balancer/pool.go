// Package balancer chooses the server for a session: pools of backends, the
// policies that pick among them, and what they know about each backend.
//
// It does no I/O and knows nothing of what sessions are about. A pick takes no
// lock: it looks at each backend's own counters, which change by atomic
// operations. Under concurrent picks a policy may therefore act on counts that
// are one session old; a backend's limit is never exceeded.
package balancer

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// ErrNoBackend says that no backend of the pool can take the session: each is
// down, drained, full or was tried before.
var ErrNoBackend = errors.New("no backend can serve")

// A Pool is a fixed set of backends with one policy. It is safe for concurrent
// use.
type Pool struct {
	backends []*Backend
	policy   Policy
	opts     Options
	scratch  sync.Pool // *[]*Backend: candidates of a pick under way
}

// Options of a pool. The zero value ejects nobody, ignores no verdict, and has
// no queue.
type Options struct {
	Ejection  Ejection
	Panic     int           // percent of the backends; with fewer usable, those that are not serve as the last resort; 0 means never
	SlowStart time.Duration // how long a backend that comes back takes to its full weight; 0 means at once
	Queue     int           // the most sessions that wait for a slot; 0 means that none does
	Clock     Clock         // nil means the system's
}

// Ejection says when a backend is taken out for its sessions' sake.
type Ejection struct {
	Failures   int           // in a row; 0 means never
	Time       time.Duration // of the first ejection; the n-th in a row takes n times as long
	MaxTime    time.Duration // of any
	MaxPercent int           // of the pool's backends at one time; one may always be
}

// A Clock tells the time and calls back. Its methods are safe for concurrent use.
type Clock interface {
	Now() time.Time
	AfterFunc(d time.Duration, f func())
}

// systemClock is package time's.
type systemClock struct{}

func (systemClock) Now() time.Time                      { return time.Now() }
func (systemClock) AfterFunc(d time.Duration, f func()) { time.AfterFunc(d, f) }

// NewPool returns a pool of these backends.
func NewPool(policy Policy, o Options, backends []*Backend) *Pool {
	if o.Clock == nil {
		o.Clock = systemClock{}
	}
	p := &Pool{backends: slices.Clone(backends), policy: policy, opts: o}
	for _, b := range p.backends {
		b.owner.Store(p)
	}
	p.scratch.New = func() any {
		s := make([]*Backend, 0, len(backends))
		return &s
	}
	return p
}

// Backends returns the pool's backends in the configuration's order. The caller
// must not change it.
func (p *Pool) Backends() []*Backend { return p.backends }

// CanServe reports whether a session could be given to some backend now, were
// it not for limits.
func (p *Pool) CanServe() bool {
	return slices.ContainsFunc(p.backends, func(b *Backend) bool {
		s := b.State()
		return s == Up || s == Busy
	})
}

// Pick lends the backend that the policy chooses among those that can serve and
// are not in tried. Primaries come first, then backups, then backends that are
// busy. The key is what [Policy] says of it. The error is [ErrNoBackend]; else
// the loan must be given back by Done.
func (p *Pool) Pick(tried []*Backend, key uint64) (Loan, error) {
	scratch := p.scratch.Get().(*[]*Backend)
	defer p.scratch.Put(scratch)
	for rank := range uint32(numRanks) {
		for {
			candidates := p.candidates((*scratch)[:0], rank, tried)
			if len(candidates) == 0 {
				break
			}
			if b := p.policy.Choose(candidates, key); b.borrow() {
				return Loan{backend: b}, nil
			}
			// Somebody else took its last place meanwhile: it is full now.
		}
	}
	return Loan{}, ErrNoBackend
}

// numRanks is how many groups of backends a pick tries in turn: those that are
// up, their backups, those that are busy, and their backups. A backend that can
// serve has its rank for flags.
const numRanks = (isBackup | isBusy) + 1

// candidates returns the backends of that rank which can take one more session.
// Mostly all can, and then none is copied to scratch.
func (p *Pool) candidates(scratch []*Backend, rank uint32, tried []*Backend) []*Backend {
	for i, b := range p.backends {
		if !b.serves(rank, tried) {
			scratch = append(scratch, p.backends[:i]...)
			for _, b := range p.backends[i+1:] {
				if b.serves(rank, tried) {
					scratch = append(scratch, b)
				}
			}
			return scratch
		}
	}
	return p.backends
}

// serves reports whether b is of that rank and can take one more session.
func (b *Backend) serves(rank uint32, tried []*Backend) bool {
	return b.flags.Load() == rank && !b.Full() && !slices.Contains(tried, b)
}
