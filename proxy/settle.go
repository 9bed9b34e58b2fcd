package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"agiproxy/agi"
	"agiproxy/balancer"
)

var errUnsettled = errors.New("no word of what became of the last command")

// silence is how long after a reply the next one comes, if one is on its way from an
// Asterisk that is near: the kernel delays it for up to 44 ms (as measured), and
// Asterisk for as good as nothing.
const silence = 100 * time.Millisecond

// leaveGrace is how long after a reply of -1 a HANGUP may come: 44 ms were
// measured where the kernel delays it.
const leaveGrace = 50 * time.Millisecond

// settleTimeout is how long Asterisk gets to answer a question when it has nothing
// else to do. On a machine that has too much to do it was seen to take a second.
const settleTimeout = 5 * time.Second

// lose takes the backend as lost: what it was sending is dropped, and the
// pool's policy says what Asterisk gets.
func (s *Session) lose(err error) {
	lost := s.loan.Backend()
	switch s.state {
	case queued: // it has a slot, and will find out when it connects
		return
	case connecting:
		s.connectFailed(err)
		return
	case awaiting:
		s.blame(err)
		s.dropAttempt(attemptLost)
	case relaying:
		s.blame(err)
		s.dropBackend()
	default:
		s.end()
		return
	}
	s.partial = nil
	s.unproved = false
	if !s.hungUp() {
		s.counts.losses++
	}
	switch {
	case s.hungUp():
		s.conclude(Hangup, err)
		s.closeFront()
	case s.pool.opts.OnLoss == LossClose:
		s.conclude(Lost, err)
		s.closeFront()
	case s.resumable():
		s.rescue(lost, err)
	default:
		s.fail("BACKENDLOST", Lost, err)
	}
}

// underWay reports whether Asterisk still owes something for what it was sent.
func (s *Session) underWay() bool {
	return s.dialogue.Turn() == agi.AsterisksTurn || s.dialogue.MidReply()
}

// blame tells the balancer of a loss for which the connection's own error
// speaks. A script that closes too early says nothing against its server, and
// neither does what a health check has said already, nor a reset after a hangup:
// many servers close without reading HANGUP.
func (s *Session) blame(err error) {
	if _, ok := errors.AsType[syscall.Errno](err); ok && !s.dialogue.HungUp() {
		s.loan.Failed()
	}
}

// resumable reports whether another backend may go on with the call. A script
// that has ended the call itself had nothing more to do.
func (s *Session) resumable() bool {
	return s.pool.opts.OnLoss == LossResume && int(s.attempts) < s.pool.opts.Attempts &&
		!s.dialogue.HungUp() && !s.dialogue.HangupAsked()
}

// rescue has another backend take the call of one that is lost. The reply to
// what that one has asked for is not the other's business, so it comes first.
func (s *Session) rescue(lost *balancer.Backend, err error) {
	s.dispatching.try(lost)
	s.resumed = true
	s.reason = err
	_, _, uniqueID, _ := s.identity()
	s.worker.server.opts.Log.Warn("backend lost, session goes on", // the record will be of whoever serves it then
		"pool", s.pool.name, "backend", lost.Name(), "address", lost.Address(), "uniqueid", uniqueID, "error", err)
	s.speech = &speech{status: "BACKENDLOST"}
	if s.underWay() {
		s.settle((*Session).resume)
		return
	}
	s.state = settling
	s.speech.refused = s.dialogue.Refused()
	s.speech.then = (*Session).resume
	s.settled()
}

// resume replays the header of a call whose backend is lost. Nothing is under
// way at Asterisk.
func (s *Session) resume() {
	s.speech = nil
	s.dispatching.until = s.after(s.pool.opts.DispatchTimeout)
	s.dispatching.queuedUntil = 0
	s.dispatch()
}

// settle has Asterisk end what the lost backend's commands began, and then goes
// on. Their replies can't be counted: some commands stop without one when
// another arrives, and a value may look like several. A question with a unique
// answer tells them all apart, and stops what can be stopped. What can't, as
// EXEC Dial, runs to its end, which may be hours away: a call isn't cut because
// a server died.
//
// Of lines that it reads together Asterisk runs the first; the others wait in its
// buffer until something more arrives (run_agi polls the socket, but reads by
// fgets). That may have become of the backend's commands, if it sent several, and
// of the question behind them. So when Asterisk falls silent after a reply, it is
// asked once more: it then takes everything up to what it finds unread. As the
// second question may have been unneeded, every question's answer is awaited; and
// as Asterisk may have read it along with the first, which it had not come to yet,
// it is asked again when it falls silent after an answer too. From an Asterisk that is
// far away each answer takes longer than a moment's silence, and every question would
// bring about another one; so the silence doubles each time.
func (s *Session) settle(then func(*Session)) {
	s.state = settling
	s.speech.then = then
	s.speech.marker = fmt.Sprintf("agiproxy-%016x", rand.Uint64())
	s.speech.silence = silence
	s.ask()
}

// ask asks Asterisk for the marker. It gets its time to answer, unless it may be
// running a command.
func (s *Session) ask() {
	s.speech.asked++
	s.speech.moved = false
	limit := settleTimeout
	if s.dialogue.Turn() == agi.AsterisksTurn {
		limit = 0
	}
	s.front.SetTimer(s.after(limit))
	s.tell([]byte("GET FULL VARIABLE " + s.speech.marker + "\n"))
}

// hearSettling takes replies to a backend that is lost, up to the answers that
// tell that no more of them come.
func (s *Session) hearSettling(p []byte) {
	commands, questions := s.dialogue.InFlight(), s.speech.asked
	for line := range bytes.Lines(p) {
		// The dialogue knows a HANGUP from one in a value, and how a reply began
		// before the backend was lost.
		if s.dialogue.Replies(line) > 0 && s.dialogue.Refused() {
			s.speech.refused = true
		}
	}
	s.speech.lines.Feed(p, func(line []byte) bool {
		if s.speech.asked > 0 && bytes.Contains(line, []byte(s.speech.marker)) {
			s.speech.asked--
		}
		return true
	})
	moved, answered := s.dialogue.InFlight() < commands, s.speech.asked < questions
	if answered {
		s.dialogue.Settled() // whatever became of the commands, they are over
	}
	switch {
	case s.dialogue.HungUp():
		s.conclude(Hangup, s.reason)
		s.closeFront() // nobody is left to tell
	case s.speech.leaving: // no HANGUP yet
	case s.speech.asked == 0:
		s.settled()
	case answered || moved:
		s.speech.moved = true
		s.front.QuickAck() // what comes next must not wait for that
		s.front.SetTimer(s.after(s.speech.silence))
	}
}

// settled goes on after the last reply to a backend that is lost. A reply of -1
// may mean that the caller has left, and then his HANGUP is on its way: no other
// backend is to be bothered with him.
func (s *Session) settled() {
	if s.outcome == undecided && s.speech.refused {
		s.awaitHangup()
		return
	}
	s.speech.then(s)
}

// awaitHangup waits for the HANGUP that may follow a reply of -1.
func (s *Session) awaitHangup() {
	s.speech.leaving = true
	s.front.QuickAck()
	s.front.SetTimer(s.after(leaveGrace))
}

// settleLate is told that Asterisk has fallen silent, has not answered in time, or
// has said no HANGUP.
func (s *Session) settleLate() {
	switch {
	case s.speech.leaving:
		s.speech.then(s)
	case s.speech.moved:
		s.speech.silence = min(2*s.speech.silence, settleTimeout)
		s.ask()
	case s.outcome == undecided:
		// Nothing could be told from the reply if it came after all.
		s.undispatch()
		s.conclude(Lost, fmt.Errorf("%w, after %w", errUnsettled, s.reason))
		fallthrough
	default:
		s.dialogue.Settled() // as far as one can tell
		s.answer()
	}
}
