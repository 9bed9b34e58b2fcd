// Package balancer chooses the server for a session: pools of backends, the
// policies that pick among them, and what they know about each backend.
//
// It does no I/O and knows nothing of what sessions are about. A pick takes no
// lock: it looks at each backend's own counters, which change by atomic
// operations. Under concurrent picks a policy may therefore act on counts that
// are one session old; a backend's limit is never exceeded. Only what is seldom
// and must be exact is done under the pool's lock: to take a backend out, and to
// lend anything at all while sessions wait in line for it, or from a pool that has a
// limit as a whole.
package balancer

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// ErrNoBackend says that no backend of the pool can take the session: each is
// down, ejected, drained, full or was tried before, or its free places belong to
// sessions that wait for them.
var ErrNoBackend = errors.New("no backend can serve")

// ErrPoolFull says that the pool has as many sessions as it may, whatever its
// backends could take.
var ErrPoolFull = errors.New("pool has as many sessions as it may")

// A Pool is a fixed set of backends with one policy. It is safe for concurrent
// use.
type Pool struct {
	backends []*Backend
	policy   Policy
	opts     Options
	scratch  sync.Pool // *[]*Backend: candidates of a pick under way

	line // who waits
}

// Options of a pool. The zero value ejects nobody, heeds every verdict, and has
// no queue.
type Options struct {
	Ejection  Ejection
	Panic     int           // percent of the backends; with fewer usable, those that are not serve as the last resort; 0 means never
	SlowStart time.Duration // how long a backend that comes back takes to its full weight; 0 means at once
	Sessions  int           // the most at a time, on all backends together; 0 means no limit
	Queue     int           // the most sessions that wait for a slot; 0 means that none does
	Clock     Clock         // nil means the system's

	// Ejected is told that a backend was taken out for that long, Returned that
	// it is back; nil means that nobody is told. They are called by any goroutine
	// that calls this package, the clock's among them, and must not block.
	Ejected  func(b *Backend, d time.Duration)
	Returned func(b *Backend)
}

// A Clock tells the time and calls back. Its methods are safe for concurrent
// use; AfterFunc doesn't call f itself, and neither waits for a callback to end.
type Clock interface {
	Now() time.Time
	AfterFunc(d time.Duration, f func())
}

// systemClock is the clock of [time].
type systemClock struct{}

// Now implements [Clock].
func (systemClock) Now() time.Time { return time.Now() }

// AfterFunc implements [Clock].
func (systemClock) AfterFunc(d time.Duration, f func()) { time.AfterFunc(d, f) }

// NewPool returns a pool of these backends. It owns those that belong to no pool
// yet: what becomes of their sessions matters to their owner's queue, and by its
// options they are ejected. See [Pool.Inherit] for the others.
func NewPool(policy Policy, o Options, backends []*Backend) *Pool {
	if o.Clock == nil {
		o.Clock = systemClock{}
	}
	p := &Pool{backends: slices.Clone(backends), policy: policy, opts: o}
	p.scratch.New = func() any {
		s := make([]*Backend, 0, len(backends))
		return &s
	}
	for _, b := range backends {
		b.owner.CompareAndSwap(nil, p)
	}
	return p
}

// Backends returns the pool's backends in the configuration's order. The caller
// must not change it.
func (p *Pool) Backends() []*Backend { return p.backends }

// CanServe reports whether a session could be given to some backend now, were
// it not for limits.
func (p *Pool) CanServe() bool {
	return slices.ContainsFunc(p.backends, func(b *Backend) bool { return b.State().CanServe() })
}

// Pick lends the backend that the policy chooses among those that can serve and
// are not in tried. Primaries come first, then backups, then backends that are
// busy; in a pool that panics those that are down or ejected are the last, see
// [Options]. Sessions that wait come before. The key is what [Policy] says of it.
// The error is [ErrNoBackend] or [ErrPoolFull]; else the loan must be given back by
// Done.
func (p *Pool) Pick(tried []*Backend, key uint64) (Loan, error) {
	if p.waiting.Load() != 0 || p.opts.Sessions > 0 {
		return p.pickBehind(tried, key)
	}
	return p.pick(tried, key)
}

// pick is Pick without regard to who waits. In a pool with a limit it is called with
// mu held, so that of two picks for the last place one gets it.
func (p *Pool) pick(tried []*Backend, key uint64) (Loan, error) {
	if p.full() {
		return Loan{}, ErrPoolFull
	}
	if b := p.borrow(ranks[:], tried, key); b != nil {
		return Loan{backend: b}, nil
	}
	if p.panics() {
		if b := p.borrow(lastRanks[:], tried, key); b != nil {
			return Loan{backend: b, doubtful: true}, nil
		}
	}
	return Loan{}, ErrNoBackend
}

// full reports whether the pool has as many sessions as it may. The sum is of what
// the backends count anyway, so that a limit which a reload brings, or another process,
// finds all sessions counted. It is never less than what is lent, since nothing is
// lent meanwhile: mu is held.
func (p *Pool) full() bool {
	if p.opts.Sessions == 0 {
		return false
	}
	sessions := 0
	for _, b := range p.backends {
		sessions += b.Sessions()
	}
	for _, b := range p.former {
		sessions += b.Sessions()
	}
	return sessions >= p.opts.Sessions
}

// panics reports whether so few backends are usable that the verdicts on the
// others are in doubt: that many don't fail at once unless something between
// here and there does. Where sessions can wait for better times, or some still
// do after a reload, they wait.
func (p *Pool) panics() bool {
	if p.opts.Panic == 0 || p.opts.Queue > 0 || p.waiting.Load() > 0 {
		return false
	}
	all, usable := 0, 0
	for _, b := range p.backends {
		switch f := b.flags.Load(); {
		case f&isDrained != 0:
			continue
		case f&unusable == 0:
			usable++
		}
		all++
	}
	return 100*usable < p.opts.Panic*all
}

// borrow borrows a backend of the first of these ranks that has room, nil if
// none has.
func (p *Pool) borrow(ranks []rank, tried []*Backend, key uint64) *Backend {
	scratch := p.scratch.Get().(*[]*Backend)
	defer p.scratch.Put(scratch)
	for _, r := range ranks {
		for {
			candidates := p.candidates((*scratch)[:0], r, tried)
			if len(candidates) == 0 {
				break
			}
			if b := p.policy.Choose(candidates, key); b.borrow() {
				return b
			}
			// Somebody else took its last place meanwhile: it is full now.
		}
	}
	return nil
}

// A rank is a group of backends: those that have, of the flags in mask, these
// and no others.
type rank struct{ mask, flags uint32 }

// ranks are tried in turn: those that are up, their backups, those that are
// busy, and their backups.
var ranks = [...]rank{
	{anyFlag, 0},
	{anyFlag, isBackup},
	{anyFlag, isBusy},
	{anyFlag, isBusy | isBackup},
}

// lastRanks are what a pool that panics tries besides: all that have an address
// and that no operator has drained.
var lastRanks = [...]rank{
	{isBackup | isNowhere | isDrained, 0},
	{isBackup | isNowhere | isDrained, isBackup},
}

// candidates returns the backends of that rank which can take one more session.
// Mostly all can, and then none is copied to scratch.
func (p *Pool) candidates(scratch []*Backend, r rank, tried []*Backend) []*Backend {
	for i, b := range p.backends {
		if !b.serves(r, tried) {
			scratch = append(scratch, p.backends[:i]...)
			for _, b := range p.backends[i+1:] {
				if b.serves(r, tried) {
					scratch = append(scratch, b)
				}
			}
			return scratch
		}
	}
	return p.backends
}

// serves reports whether b is of that rank and can take one more session.
func (b *Backend) serves(r rank, tried []*Backend) bool {
	return b.flags.Load()&r.mask == r.flags && !b.Full() && !slices.Contains(tried, b)
}
