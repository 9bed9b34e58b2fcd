package proxy

import (
	"bytes"
	"fmt"
	"math/rand/v2"

	"agiproxy/agi"
)

// lose takes the backend as lost: what it was sending is dropped, and the
// pool's policy says what Asterisk gets.
func (s *Session) lose(err error) {
	switch s.state {
	case connecting:
		s.connectFailed(err)
		return
	case awaiting:
		s.dropAttempt(attemptLost)
	case relaying:
		s.dropBackend()
	default:
		s.end()
		return
	}
	s.undispatch()
	s.partial = nil
	switch {
	case s.hungUp():
		s.conclude(Hangup, err)
		s.closeFront()
	case s.pool.opts.OnLoss == LossClose:
		s.conclude(Lost, err)
		s.closeFront()
	default:
		s.fail("BACKENDLOST", Lost, err)
	}
}

// An ownDialogue is what agiproxy itself has to say to Asterisk.
type ownDialogue struct {
	status string // for AGIPROXYSTATUS
	marker string // the word that tells agiproxy's own reply from those before it
	nudge  bool   // several commands are in flight, see settle
	lines  agi.Lines
}

// fail ends a session that nobody can serve, so that the dialplan sees
// AGISTATUS=FAILURE and the status in AGIPROXYSTATUS.
func (s *Session) fail(status string, outcome Outcome, err error) {
	s.dropBackend()
	s.conclude(outcome, err)
	if s.dialogue.HungUp() || s.gone {
		s.closeFront()
		return
	}
	s.own = &ownDialogue{status: status}
	if s.dialogue.Turn() == agi.AsterisksTurn || s.dialogue.MidReply() {
		s.settle()
	} else {
		s.answer()
	}
}

// settle has Asterisk end what the lost backend's commands began. Their replies
// can't be counted: some commands stop without one when another arrives, and a
// value may look like several. A question with a unique answer tells them all
// apart, and stops what can be stopped. What can't, as EXEC Dial, runs to its
// end, which may be hours away: a call isn't cut because a server died.
//
// Of lines that arrive together Asterisk takes the first; the others wait in its
// buffer until something more arrives (run_agi polls the socket, but reads by
// fgets). So if the backend had several commands in flight, each reply is
// followed by a harmless line that gets the next one going.
func (s *Session) settle() {
	s.state = settling
	s.own.nudge = s.dialogue.InFlight() > 1
	s.own.marker = fmt.Sprintf("agiproxy-%016x", rand.Uint64())
	limit := answerTimeout
	if s.dialogue.Turn() == agi.AsterisksTurn {
		limit = 0
	}
	s.front.SetTimer(s.after(limit))
	s.front.Write([]byte("GET FULL VARIABLE " + s.own.marker + "\n"))
}

// feed takes what Asterisk sends while agiproxy speaks for itself.
func (o *ownDialogue) feed(s *Session, p []byte) {
	s.dialogue.Replies(p) // which knows a HANGUP from one in a value
	o.lines.Feed(p, func(line []byte) bool {
		switch s.state {
		case settling:
			if bytes.Contains(line, []byte(o.marker)) {
				s.answer()
			} else if o.nudge {
				s.front.Write([]byte("NOOP\n"))
			}
		case answering:
			if _, err := agi.ParseReply(line); err == nil {
				s.sayFailure()
			}
		}
		return s.state < closing
	})
	switch {
	case s.state >= closing:
	case s.dialogue.HungUp():
		s.closeFront() // nobody is left to tell
	case s.state == settling && s.dialogue.Turn() == agi.BackendsTurn:
		s.front.SetTimer(s.after(answerTimeout)) // only the marker is still to come
	}
}
