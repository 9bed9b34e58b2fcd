package balancer

import (
	"sync/atomic"
	"time"
)

// Ejection says when a backend is taken out for its sessions' sake: outlier
// detection, as Envoy calls it, by failures in a row. The n-th ejection in a row
// takes n times as long as the first; n shrinks by one for each Time that the
// backend then spends among the others.
//
// No ejection takes the pool's last usable backend. (The others may go down
// afterwards: what to do then is for [Options].Panic to say.)
//
// Source: Envoy's outlier_detection_impl.cc, which this differs from where
// Failures counts on: a backend that the bounds have saved is ejected at the
// first failure after they would let it go.
type Ejection struct {
	Failures   int           // in a row; 0 means never
	Time       time.Duration // of the first ejection; 0 means never
	MaxTime    time.Duration // of any; less than Time means Time
	MaxPercent int           // of the pool's backends at one time; one may always be
}

// ejection is what a backend remembers of its failures and ejections.
type ejection struct {
	failures atomic.Int32              // in a row
	count    atomic.Uint64             // of those by failures so far
	until    atomic.Pointer[time.Time] // nil if it isn't ejected

	// The owner's mu guards these.
	which    uint64    // ejection it is, so that only its own end ends it
	ordered  bool      // by an operator
	times    int       // how many times Time the last one by failures took
	returned time.Time // from it
}

// Ejections returns how many times the backend has been ejected for its failures.
func (b *Backend) Ejections() uint64 { return b.ejection.count.Load() }

// EjectedUntil returns when the backend's ejection ends, the zero time if it
// isn't ejected.
func (b *Backend) EjectedUntil() time.Time {
	if t := b.ejection.until.Load(); t != nil {
		return *t
	}
	return time.Time{}
}

// Uneject ends the backend's ejection, if it is ejected, before its time.
func (b *Backend) Uneject() { b.unejectIf(func(*Pool) bool { return true }) }

// Eject takes the backend out for that long, as an operator says: whatever
// becomes of its pool. It may be ejected already. The backend must be in a pool.
func (b *Backend) Eject(d time.Duration) {
	p := b.lockOwner()
	b.takeOut(p, d)
	b.ejection.ordered = true
	p.mu.Unlock()
}

// served says that a session was served. Which of two sessions that end at the
// same time comes first is a matter of chance, and so is then what counts as in a
// row.
func (b *Backend) served() {
	if b.ejection.failures.Load() != 0 {
		b.ejection.failures.Store(0)
	}
}

// failed says that a session has failed.
func (b *Backend) failed() {
	b.addRecent()
	n := b.ejection.failures.Add(1)
	if !b.owner.Load().opts.Ejection.by(n) {
		return
	}
	p := b.lockOwner()
	d := p.eject(b)
	p.mu.Unlock()
	if d > 0 && p.opts.Ejected != nil {
		p.opts.Ejected(b, d)
	}
}

// takeOut ejects b for that long from now on. It is called with its owner's mu
// held.
func (b *Backend) takeOut(owner *Pool, d time.Duration) {
	e := &b.ejection
	until := owner.opts.Clock.Now().Add(d)
	e.until.Store(&until)
	e.which++
	which := e.which
	b.mark(isEjected, true)
	owner.opts.Clock.AfterFunc(d, func() { b.unejectIf(func(*Pool) bool { return e.which == which }) })
}

// by reports whether that many failures in a row eject.
func (e *Ejection) by(n int32) bool {
	return e.Failures > 0 && e.Time > 0 && int(n) >= e.Failures
}

// lockOwner locks the pool that owns b, which has one, and returns it.
func (b *Backend) lockOwner() *Pool {
	for {
		p := b.owner.Load()
		p.mu.Lock()
		if b.owner.Load() == p {
			return p
		}
		p.mu.Unlock() // a reload came between
	}
}

// eject takes b out, if it has failed often enough and the others are enough,
// and returns for how long; 0 if it stays. It is called with mu held, so that two
// backends which fail at the same time are not both the one that may go. A
// verdict of the health checks that comes at the same time is not waited for.
func (p *Pool) eject(b *Backend) time.Duration {
	opts, e := &p.opts.Ejection, &b.ejection
	if !opts.by(e.failures.Load()) || b.flags.Load()&isEjected != 0 || !p.canSpare(b) {
		return 0
	}
	now := p.opts.Clock.Now()
	longest := max(opts.MaxTime, opts.Time)
	e.times = max(e.times-int(now.Sub(e.returned)/opts.Time), 0)
	if time.Duration(e.times)*opts.Time < longest {
		e.times++ // and no more than that, so that it doesn't take longer to shrink
	}
	d := min(time.Duration(e.times)*opts.Time, longest)
	e.count.Add(1)
	b.takeOut(p, d)
	e.ordered = false
	return d
}

// canSpare reports whether b may be ejected, or if it is, stay so.
func (p *Pool) canSpare(b *Backend) bool {
	ejected, usable := 1, 0
	for _, other := range p.backends {
		if other == b {
			continue
		}
		switch f := other.flags.Load(); {
		case f&isEjected != 0:
			ejected++
		case f&unusable == 0:
			usable++
		}
	}
	return usable > 0 && (ejected == 1 || 100*ejected <= p.opts.Ejection.MaxPercent*len(p.backends))
}

// unejectExcess ends those ejections which the pool could spare the backend for
// before a reload, and can't after it; an operator's is none of the pool's choice.
func (p *Pool) unejectExcess() {
	for _, b := range p.backends {
		b.unejectIf(func(owner *Pool) bool { return !b.ejection.ordered && !owner.canSpare(b) })
	}
}

// unejectIf lets b serve again if it is ejected and ends, called with its
// owner's mu held, says so.
func (b *Backend) unejectIf(ends func(owner *Pool) bool) {
	e := &b.ejection
	if e.until.Load() == nil {
		return // or in no pool at all
	}
	p := b.lockOwner()
	if e.until.Load() == nil || !ends(p) {
		p.mu.Unlock()
		return
	}
	e.returned = p.opts.Clock.Now()
	e.failures.Store(0) // of sessions that were under way, or had no choice
	e.until.Store(nil)
	before := b.mark(isEjected, false)
	p.mu.Unlock()
	b.cleared(isEjected, before)
	b.offer()
	if p.opts.Returned != nil {
		p.opts.Returned(b)
	}
}
