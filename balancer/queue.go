package balancer

import "errors"

// ErrQueueFull says that as many sessions wait as may.
var ErrQueueFull = errors.New("queue is full")

// A Waiter is a session that waits for a slot. It belongs to its pool from
// [Pool.Wait] until Ready is called or [Pool.Leave] has returned true.
type Waiter struct {
	Tried []*Backend // which Ready won't bring
	Key   uint64     // as for [Pool.Pick]
	Ready func(Loan) // called once, by any goroutine; must not block, nor call the pool
}

// Wait has w wait for a slot behind those who wait already. Ready may be called
// before it returns. The error is [ErrQueueFull]; then Ready is not called.
func (p *Pool) Wait(w *Waiter) error { return ErrQueueFull }

// Leave takes w out of the queue and reports whether it was there: if it wasn't,
// Ready was called or is about to be.
func (p *Pool) Leave(w *Waiter) bool { return false }

// Waiting returns how many wait.
func (p *Pool) Waiting() int { return 0 }

// Inherit takes over who waits in the pool before, of which p is the next
// version. From then on that one's Wait and Leave are p's.
func (p *Pool) Inherit(before *Pool) {}

// Ejections returns how many times the backend was ejected.
func (b *Backend) Ejections() uint64 { return 0 }
