package proxy

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"agiproxy/balancer"
	"agiproxy/internal/proxyheader"
)

var (
	errConnectLate  = errors.New("connect timed out")
	errDispatchLate = errors.New("dispatch timed out")
	errSilent       = errors.New("no command in time")
	errUnread       = errors.New("closed before it had read what it was sent")
	errUnanswered   = errors.New("closed before the first command")
	errEarly        = errors.New("too much from Asterisk before the first command")
	errNoMeans      = errors.New("no means to connect")
	errNoAttempt    = errors.New("no attempt left")
)

// proofStep is how long a backend that has ended its side before its first
// command gets to show by a reset that it had not read the header. A server that
// ends its side, and closes right after that, needs microseconds and a round
// trip.
const proofStep = 25 * time.Millisecond

// proofLimit bounds the wait for that answer; it is what a peer that isn't
// there any more may take to not give it.
const proofLimit = 3 * time.Second

// mostEarly is how many bytes Asterisk may send between its header and the first
// command. It sends HANGUP, unless a caller has forged an early end of the
// header: then the rest of it, and each of its values has at most 4 KiB.
const mostEarly = 64 << 10

// try notes that a backend was tried, as the last of them.
func (d *dispatching) try(b *balancer.Backend) {
	d.tried = slices.DeleteFunc(d.tried, func(other *balancer.Backend) bool { return other == b })
	d.tried = append(d.tried, b)
}

// dispatch makes the next attempt, waits for a slot, or tells Asterisk that
// there is none.
func (s *Session) dispatch() {
	if s.hungUp() {
		s.leave()
		return
	}
	if int(s.attempts) >= s.pool.opts.Attempts {
		s.noBackend(errNoAttempt)
		return
	}
	d := s.dispatching
	loan, err := s.pool.backends.Pick(d.tried, d.key)
	if last := len(d.tried) - 1; err != nil && s.resumed && last > 0 {
		// A call lasts, and who was tried long ago may live again.
		d.tried = append(d.tried[:0], d.tried[last])
		loan, err = s.pool.backends.Pick(d.tried, d.key)
	}
	if err != nil {
		if errors.Is(err, balancer.ErrPoolFull) {
			s.worker.counts.pool(s.pool.name).full++
		}
		s.enqueue(err)
		return
	}
	s.take(loan)
	s.connect()
}

// take makes the backend the session's own: another attempt.
func (s *Session) take(l balancer.Loan) {
	s.attempts++
	s.loan, s.counts = l, s.worker.counts.pool(s.pool.name).backend(l.Backend().Name())
}

// connect begins the attempt.
func (s *Session) connect() {
	s.state = connecting
	d := s.dispatching
	d.connectBy = earlier(s.after(s.pool.opts.ConnectTimeout), d.until)
	d.hedgeAt = s.after(s.pool.opts.HedgeDelay)
	s.back = s.pool.connect(s.worker.host, s.loan.Backend(), (*backSide)(s))
	s.armConnect()
}

// armConnect sets the timer for what comes first while connections are made. A
// hedge began later than the attempt, so its time isn't over before the attempt's.
func (s *Session) armConnect() {
	d := s.dispatching
	s.front.SetTimer(earlier(d.connectBy, d.hedgeAt))
}

// earlier returns the earlier of two times, 0 being never.
func earlier(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// armAttempt sets the timer for a step of the attempt that began just now, with
// the dispatch as a whole as its bound.
func (s *Session) armAttempt(d time.Duration) {
	s.front.SetTimer(earlier(s.after(d), s.dispatching.until))
}

// sendHeader sends the header, and what has followed it, in one write: to the
// connection that has just been made.
func (s *Session) sendHeader() {
	s.state = awaiting
	d := s.dispatching
	header := d.header.Bytes()
	if s.attempts > 1 {
		header = d.header.AppendReplay(nil, int(s.attempts), s.resumed)
	}
	if s.sent && !s.resumed {
		s.counts.pool.replays++
	}
	s.sent = true
	if len(d.early) > 0 {
		header = append(header[:len(header):len(header)], d.early...)
	}
	if v := s.pool.opts.SendProxyHeader; v != proxyheader.None {
		// In the same write: to its backend it is a part of the header that must be
		// read, so that what an unread header proves is proved with it too.
		header = append(proxyheader.Append(nil, v, s.client(), s.destination()), header...)
	}
	s.countToBackend(len(header))
	s.back.Write(header)
	s.turnSince = s.now()
	if s.pool.opts.FirstCommandTimeout > 0 || s.loan.Doubtful() {
		s.armAttempt(s.pool.opts.FirstCommandTimeout)
	} else {
		// A backend may be full and let sessions wait in its line, as it would
		// let them wait without a proxy. Of one that counts as down silence
		// means something else.
		s.front.SetTimer(0)
	}
}

// keepEarly takes what Asterisk sends before the first command. It belongs to
// the session, so that the next attempt needs it as well.
func (s *Session) keepEarly(p []byte) {
	d := s.dispatching
	if len(d.early)+len(p) > mostEarly {
		s.dropAttempt(attemptAbandoned)
		s.badHeader(refusedTooLarge, errEarly)
		return
	}
	left := s.dialogue.HungUp()
	d.early = append(d.early, p...)
	s.dialogue.Replies(p)
	if s.state == awaiting {
		s.countToBackend(len(p))
		s.back.Write(p)
	}
	switch {
	case left || !s.dialogue.HungUp():
	case s.state != awaiting:
		s.leave()
	case !s.unproved:
		s.front.SetTimer(s.after(s.pool.opts.HangupTimeout))
	}
}

// leave ends a dispatch whose caller has left and whom no backend serves.
func (s *Session) leave() {
	s.dropAttempt(attemptAbandoned)
	s.conclude(Hangup, nil)
	s.closeFront()
}

// connectFailed is told that the backend could not be connected to.
func (s *Session) connectFailed(err error) {
	r := connectResult(err)
	switch {
	case s.dispatching.hedge != nil:
		s.giveUp(r, err)
		s.promoteHedge()
		s.armConnect()
	case r == attemptLocal:
		s.dropAttempt(r)
		s.reason = err
		s.noBackend(errNoMeans) // nor would there be for another backend
	default:
		s.attemptFailed(r, err)
	}
}

// giveUp gives the attempt up, counted by its result.
func (s *Session) giveUp(r result, err error) {
	s.dispatching.try(s.loan.Backend())
	if r.speaksAgainst() {
		s.loan.Failed()
	}
	s.dropAttempt(r)
	s.reason = err
	s.unproved = false
	s.partial = nil
}

// attemptFailed gives the attempt up and goes on to another backend, if there is
// time.
func (s *Session) attemptFailed(r result, err error) {
	s.giveUp(r, err)
	if s.past(s.dispatching.until) {
		s.noBackend(errDispatchLate)
		return
	}
	s.dispatch()
}

// replayable reports whether the header may go to another backend although this
// one may have begun the script.
func (s *Session) replayable() bool {
	return s.pool.opts.Replay == ReplayUnanswered && !s.hungUp()
}

// closedUnanswered is told that the backend has closed before its first
// command: err is nil for an orderly close.
func (s *Session) closedUnanswered(err error) {
	begun := len(s.partial) > 0 // half a command proves that the script runs
	switch {
	case s.hungUp():
		s.dropAttempt(attemptAbandoned)
		s.conclude(Hangup, err)
		s.closeFront()
	case isHandshake(err):
		s.attemptFailed(attemptHandshake, err) // whoever has refused to talk has read nothing
	case s.replayable():
		s.retry(err)
	case begun:
		s.lose(errHalfLine)
	case err != nil:
		s.resetUnanswered(err)
	default:
		s.unproved = true
		s.turnSince = s.now()
		s.front.SetTimer(s.after(proofStep))
	}
}

// retry replays the header after a failure of the attempt.
func (s *Session) retry(err error) {
	if err != nil {
		s.attemptFailed(attemptReset, err)
	} else {
		s.attemptFailed(attemptClosed, errUnanswered)
	}
}

// resetUnanswered takes the loss of the connection before the first command. The
// kernel resets a connection when its program closes it without having read
// everything; so after a reset the script can't have begun, if the header was
// all that there was to read. (A header that was read before the reset, as by a
// program that asks for resets, is beyond what TCP can tell.) A connection that
// was lost in another way, as with its host, proves nothing.
func (s *Session) resetUnanswered(err error) {
	reset := errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	if !reset || s.pool.opts.Replay == ReplayNever || len(s.dispatching.early) > 0 {
		s.lose(err)
		return
	}
	s.attemptFailed(attemptReset, fmt.Errorf("%w: %w", errUnread, err))
}

// prove finds out whether a backend that ended its side in order had read what it
// was sent: the header, or Asterisk's last reply. Its kernel acknowledges all that
// it receives until its program closes, and what comes later, or was not read by
// then, it answers by a reset. So with nothing unacknowledged and no reset it was
// read: this is the script's end. With something unacknowledged the reset, or the
// acknowledgement, is on its way. (A server that ends its side before it closes has
// its reset come microseconds behind the end. Before the first command there is
// proofStep for that; in mid-call it is seen only if it is there already, since to
// wait for it would cost every call, and scripts read their replies.)
func (s *Session) prove() {
	s.unproved = true
	switch n, err := s.back.Unacked(); {
	case err != nil && s.state == awaiting:
		s.resetUnanswered(err)
	case err != nil:
		s.lose(err)
	case n == 0:
		s.completed()
	case s.now()-s.turnSince > proofLimit:
		s.lose(errUnread)
	default:
		s.front.SetTimer(s.after(proofStep))
	}
}

// commandLate is told that time is over while the first command is awaited.
func (s *Session) commandLate() {
	switch {
	case s.unproved:
		s.prove()
	case s.dialogue.HungUp():
		s.conclude(Hangup, errSilent)
		s.end()
	case s.replayable():
		s.attemptFailed(attemptSilent, errSilent)
	default:
		s.lose(errSilent)
	}
}

// noBackend tells Asterisk that nothing can serve.
func (s *Session) noBackend(err error) { s.unserved("NOBACKEND", err) }

// unserved ends a session for which there is no backend, or none any more.
func (s *Session) unserved(status string, err error) {
	if s.reason != nil {
		err = fmt.Errorf("%w, the last attempt: %w", err, s.reason)
	}
	outcome := NoBackend
	if s.resumed {
		status, outcome = "BACKENDLOST", Lost
	}
	s.fail(status, outcome, err)
}

// dropAttempt gives the attempt's backend back, counted by its result.
func (s *Session) dropAttempt(r result) {
	if s.loan.Backend() != nil {
		s.counts.attempts[r]++
	}
	s.dropBackend()
}

// dropBackend gives the backend up, if there is one.
func (s *Session) dropBackend() {
	if s.back != nil {
		s.back.Close()
		s.back = nil
		s.front.Resume() // it may have waited for the backend to read
	}
	if s.loan.Backend() != nil {
		s.loan.Done()
	}
}
