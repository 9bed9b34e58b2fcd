package proxy

import (
	"time"

	"agiproxy/balancer"
)

// A hedge is a connection to a second backend while the first is slow to
// connect: whichever is there first gets the header. As no header has been sent,
// this is always safe. A hedge whose attempt has become the session's own is its
// connection's handler to its end.
type hedge struct {
	session   *Session
	conn      Conn
	loan      balancer.Loan
	counts    *backendCounts
	connectBy time.Duration
}

// pending reports whether the first connection is still being made as well.
func (h *hedge) pending() bool {
	d := h.session.dispatching
	return d != nil && d.hedge == h
}

func (h *hedge) Connected() {
	s := h.session
	if h.pending() {
		s.loan.Failed() // it had its time
		s.dropAttempt(attemptOutrun)
		s.promoteHedge()
	}
	s.BackendConnected()
}

func (h *hedge) Closed(err error) {
	if h.pending() {
		h.session.hedgeFailed(connectResult(err))
		return
	}
	h.session.BackendClosed(err)
}

func (h *hedge) Received(p []byte) { h.session.FromBackend(p) }
func (h *hedge) Drained()          { h.session.BackendDrained() }
func (h *hedge) TimedOut()         {}

// connectLate is told that the attempt's connection is not there in time, or
// that it is time to try another backend beside it.
func (s *Session) connectLate() {
	if s.past(s.dispatching.connectBy) {
		s.connectFailed(errConnectLate)
		return
	}
	s.tryHedge()
}

// tryHedge begins a second connection, if there is a backend for it.
func (s *Session) tryHedge() {
	d := s.dispatching
	d.hedgeAt = 0
	if int(s.attempts) < s.pool.opts.Attempts {
		d.try(s.loan.Backend())
		if loan, err := s.pool.backends.Pick(d.tried, d.key); err == nil {
			s.attempts++
			b := loan.Backend()
			h := &hedge{session: s, loan: loan, counts: s.counts.pool.backend(b.Name()), connectBy: earlier(s.after(s.pool.opts.ConnectTimeout), d.until)}
			h.conn = s.pool.connect(s.worker.host, b, h)
			d.hedge = h
		}
	}
	s.armConnect()
}

// hedgeFailed gives the second connection up, and tries a third.
func (s *Session) hedgeFailed(r result) {
	d := s.dispatching
	h := d.hedge
	d.try(h.loan.Backend())
	if r.speaksAgainst() {
		h.loan.Failed()
	}
	s.closeHedge(r)
	if r == attemptLocal {
		s.armConnect()
		return
	}
	s.tryHedge()
}

// promoteHedge makes the second attempt the session's own, in place of the first,
// which was dropped.
func (s *Session) promoteHedge() {
	d := s.dispatching
	h := d.hedge
	d.hedge = nil
	s.back, s.loan, s.counts = h.conn, h.loan, h.counts
	d.connectBy = h.connectBy
	d.hedgeAt = s.after(s.pool.opts.HedgeDelay)
}

// dropHedge gives the second connection up, if there is one, without an
// opinion of its backend.
func (s *Session) dropHedge(r result) {
	if s.dispatching != nil && s.dispatching.hedge != nil {
		s.closeHedge(r)
	}
}

func (s *Session) closeHedge(r result) {
	h := s.dispatching.hedge
	s.dispatching.hedge = nil
	h.counts.attempts[r]++
	h.conn.Close()
	h.loan.Done()
}
