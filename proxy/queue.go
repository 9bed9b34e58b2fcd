package proxy

import (
	"errors"

	"agiproxy/balancer"
)

var errQueueLate = errors.New("no backend had room in time")

const musicOff = "SET MUSIC OFF"

// enqueue has the session wait for a slot, if the pool has a queue and there is
// a backend that the session has not tried.
func (s *Session) enqueue(err error) {
	d := s.dispatching
	if s.pool.opts.QueueTimeout == 0 {
		s.noBackend(err)
		return
	}
	s.state = queued
	d.queuedSince = s.now()
	if d.queuedUntil == 0 {
		d.queuedUntil = s.after(s.pool.opts.QueueTimeout)
	}
	s.front.SetTimer(d.queuedUntil)
	if !s.standInLine(false) {
		return
	}
	if d.waiter != nil && s.pool.opts.Music != "" && s.speech == nil {
		s.speech = &speech{music: true}
		s.say(func(*Session) {}, "SET MUSIC ON "+s.pool.opts.Music)
	}
}

// standInLine has the session wait behind those who wait already, and reports
// whether it may. There may be a slot for it at once.
func (s *Session) standInLine(again bool) bool {
	d := s.dispatching
	w := &balancer.Waiter{Tried: d.tried, Key: d.key, Again: again}
	w.Ready = func(l balancer.Loan) {
		// On whichever loop has given the slot back.
		if s.worker.host.Do(func() { s.takeSlot(w, l) }) != nil {
			l.Done() // this session's loop has ended
		}
	}
	d.waiter = w
	if err := s.pool.backends.Wait(w); err != nil {
		d.waiter = nil
		if errors.Is(err, balancer.ErrQueueFull) {
			s.unserved("QUEUEFULL", err)
		} else {
			s.noBackend(err)
		}
		return false
	}
	return true
}

// takeSlot takes the slot that the session has waited for. It may have left
// meanwhile.
func (s *Session) takeSlot(w *balancer.Waiter, l balancer.Loan) {
	d := s.dispatching
	if d == nil || d.waiter != w {
		l.Done()
		return
	}
	d.waiter = nil
	waited := s.now() - d.queuedSince
	s.worker.counts.pool(s.pool.name).queued.observe(waited)
	if d.until != 0 {
		d.until += waited // which was no backend's fault
	}
	s.take(l)
	if s.speech == nil {
		s.connect()
		return
	}
	s.front.SetTimer(d.until) // an Asterisk that is stuck doesn't keep the slot
	s.say(func(s *Session) {
		s.speech = nil
		s.connect()
	}, musicOff)
}

// unqueue leaves the queue for good, if the session is in it.
func (s *Session) unqueue() {
	if s.leaveLine() {
		s.worker.counts.pool(s.pool.name).queued.observe(s.now() - s.dispatching.queuedSince)
	}
}

// leaveLine takes the session out of the line, maybe to stand in line again, and
// reports whether it was in it.
func (s *Session) leaveLine() bool {
	d := s.dispatching
	if d.waiter == nil {
		return false
	}
	s.pool.backends.Leave(d.waiter) // if it isn't there any more, takeSlot will give the slot back
	d.waiter = nil
	return true
}

// hearQueued takes what Asterisk sends while the session waits.
func (s *Session) hearQueued(p []byte) {
	if s.speech == nil {
		s.keepEarly(p)
		return
	}
	s.hear(p)
}

// queueLate is told that no slot got free in time, or that the music has not
// stopped in time to use it.
func (s *Session) queueLate() {
	if s.loan.Backend() != nil {
		s.dropAttempt(attemptAbandoned)
		s.noBackend(errDispatchLate)
		return
	}
	s.unserved("QUEUETIMEOUT", errQueueLate)
}
