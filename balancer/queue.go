package balancer

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
)

// ErrQueueFull says that as many sessions wait as may.
var ErrQueueFull = errors.New("queue is full")

// A Waiter is a session that waits for a slot. It belongs to its pool from
// [Pool.Wait] until Ready is called or [Pool.Leave] has returned true.
type Waiter struct {
	Tried []*Backend // which Ready won't bring
	Key   uint64     // as for [Pool.Pick]
	Ready func(Loan) // called once, by any goroutine; must not block, nor call the pool
	Again bool       // it has waited in another process, which the limit let in
}

// A line is the sessions that wait for a slot in one pool. The first gets it
// that can use it: one is passed over only for a backend that it has tried.
//
// Nobody waits while there is a slot that he could use. Who waits stands in line
// first and then looks for room; who makes room does that first and then looks
// who waits. Whatever the order in which the four steps of two of them come, one
// sees the other. What happens between the two may let a session that only just
// arrived see the room before the first in line does; so that it doesn't go
// before, what is lent under mu goes to the first who can use it, whoever found
// it. A pick that began while nobody waited came before all who do.
type line struct {
	// waiting is the length of queue, and one load of it is all that a pick
	// has to do with the line when nobody waits. It is takenOver once next is
	// set. It changes under mu.
	waiting atomic.Int32

	mu     sync.Mutex
	queue  []*Waiter  // the longest wait first
	former []*Backend // of versions before, which may have sessions still; they count for the limit
	next   *Pool      // which has taken over, nil for the present version of the pool

	// mu guards also the ejections of the backends that the pool owns. Neither
	// Ready nor what [Options] has called is called while it is held.
}

// takenOver stands for the number of those who wait, in a pool that has been
// inherited from.
const takenOver = -1

// A handover is a loan for one who waits. It counts as a session already.
type handover struct {
	to   *Waiter
	loan Loan
}

// deliver tells who is served. It is called without a lock, so two who are served
// by two goroutines at the same time may hear of it in the other order.
func deliver(all []handover) {
	for _, h := range all {
		h.to.Ready(h.loan)
	}
}

// Wait has w wait for a slot behind those who wait already. Ready may be called
// before it returns. After an error it isn't: [ErrQueueFull], or [ErrNoBackend]
// for who has tried every backend that the pool now has.
func (p *Pool) Wait(w *Waiter) error {
	p = p.lockPresent()
	if !slices.ContainsFunc(p.backends, func(b *Backend) bool { return !slices.Contains(w.Tried, b) }) {
		p.mu.Unlock()
		return ErrNoBackend
	}
	if len(p.queue) >= p.opts.Queue && !w.Again {
		p.mu.Unlock()
		return ErrQueueFull
	}
	p.setQueue(append(p.queue, w))
	var served []handover
	p.serve(w, &served)
	p.mu.Unlock()
	deliver(served)
	return nil
}

// Leave takes w out of the queue and reports whether it was there: if it wasn't,
// Ready was called or is about to be.
func (p *Pool) Leave(w *Waiter) bool {
	p = p.lockPresent()
	defer p.mu.Unlock()
	i := slices.Index(p.queue, w)
	if i >= 0 {
		p.take(i)
	}
	return i >= 0
}

// Waiting returns how many wait, none once another version of the pool has taken
// over.
func (p *Pool) Waiting() int { return max(int(p.waiting.Load()), 0) }

// Inherit takes over who waits in the pool before, of which p is the next
// version, and all of p's backends, also those that the two have in common. The
// sessions of those that p doesn't have count for its limit as long as they last. From
// then on that one's Pick, Wait and Leave are p's. As many as waited wait, even
// if that is more than p lets in.
func (p *Pool) Inherit(before *Pool) {
	before = before.lockPresent()
	p.mu.Lock()
	queue := before.queue
	before.setQueue(nil)
	p.setQueue(append(queue, p.queue...))
	for _, b := range p.backends {
		b.owner.Store(p)
	}
	for _, b := range before.former {
		if b.Sessions() > 0 && !slices.Contains(p.backends, b) {
			p.former = append(p.former, b)
		}
	}
	for _, b := range before.backends {
		if !slices.Contains(p.backends, b) {
			p.former = append(p.former, b)
		}
	}
	before.next = p
	before.waiting.Store(takenOver)
	before.mu.Unlock()

	served := p.serveAll()
	p.mu.Unlock()
	deliver(served)
	p.unejectExcess()
}

// lockPresent locks the version of the pool that is in force, and returns it.
func (p *Pool) lockPresent() *Pool {
	for {
		p.mu.Lock()
		if p.next == nil {
			return p
		}
		next := p.next
		p.mu.Unlock()
		p = next
	}
}

// setQueue is called with mu held, as all below.
func (p *Pool) setQueue(queue []*Waiter) {
	p.queue = queue
	p.waiting.Store(int32(len(queue)))
}

// firstFor returns where the first stands who hasn't tried b, -1 if there is none.
func (p *Pool) firstFor(b *Backend) int {
	return slices.IndexFunc(p.queue, func(w *Waiter) bool { return !slices.Contains(w.Tried, b) })
}

// take takes the one who stands at i out of the queue.
func (p *Pool) take(i int) *Waiter {
	w := p.queue[i]
	p.setQueue(slices.Delete(p.queue, i, i+1))
	return w
}

// serve picks for w, who stands in the queue, until w is served or there is
// nothing left for him, and reports which. What one before w can use is that
// one's; such a place was freed a moment ago, since all before w have looked. It
// adds to served what it has lent.
func (p *Pool) serve(w *Waiter, served *[]handover) bool {
	for {
		loan, err := p.pick(w.Tried, w.Key)
		if err != nil {
			return false
		}
		first := p.take(p.firstFor(loan.backend)) // w at the latest
		*served = append(*served, handover{first, loan})
		if first == w {
			return true
		}
	}
}

// serveAll serves everybody for whom there is something.
func (p *Pool) serveAll() (served []handover) {
	for i := 0; i < len(p.queue) && !p.full(); {
		w, before := p.queue[i], len(p.queue)
		if !p.serve(w, &served) && len(w.Tried) == 0 {
			break // there is nothing left for anybody
		}
		i += 1 - (before - len(p.queue)) // all who were served stood at i or before
	}
	return served
}

// pickBehind is Pick while others wait, and after p was taken over.
func (p *Pool) pickBehind(tried []*Backend, key uint64) (Loan, error) {
	p = p.lockPresent()
	var served []handover
	loan, err := p.pick(tried, key)
	for err == nil {
		i := p.firstFor(loan.backend)
		if i < 0 {
			break // all who wait have tried it
		}
		served = append(served, handover{p.take(i), loan})
		loan, err = p.pick(tried, key)
	}
	p.mu.Unlock()
	deliver(served)
	return loan, err
}

// offer gives b's free places to those who wait for them. Whoever makes one, or
// changes what b can be asked to do, calls it afterwards.
func (b *Backend) offer() {
	if p := b.owner.Load(); p == nil || p.waiting.Load() == 0 {
		return
	}
	p := b.lockOwner()
	var served []handover
	switch present := p.next == nil; {
	case !present: // b is none of the pool's any more: only its place in the pool is free
		p.mu.Unlock()
		if p = p.lockPresent(); p.opts.Sessions > 0 {
			served = p.serveAll()
		}
	case p.opts.Sessions > 0: // what is free may be a place in the pool, for any backend
		served = p.serveAll()
	default:
		served = p.servePlaces(b)
	}
	p.mu.Unlock()
	deliver(served)
}

// servePlaces lends b's free places to those who wait for them.
func (p *Pool) servePlaces(b *Backend) (served []handover) {
	for {
		i := p.firstFor(b)
		if i < 0 || b.flags.Load()&unusable != 0 || !b.borrow() {
			return served
		}
		served = append(served, handover{p.take(i), Loan{backend: b}})
	}
}
