package proxy

import (
	"time"

	"agiproxy/agi"
)

const (
	// answerTimeout is how long Asterisk gets to set a variable.
	answerTimeout = time.Second
	// lingerTimeout is how long Asterisk gets to close after agiproxy has. It
	// does so at once, unless the way to it is cut.
	lingerTimeout = 5 * time.Second
)

// A speech is what agiproxy itself says to Asterisk.
type speech struct {
	rest    []string       // lines to say, each after the reply to the one before
	then    func(*Session) // what comes after the last reply
	status  string         // for AGIPROXYSTATUS
	marker  string         // the word that tells agiproxy's own reply from those before it, see settle
	asked   int            // how many times Asterisk was asked for it and has not answered
	moved   bool           // it has answered something since it was last asked
	silence time.Duration  // after which it is asked again
	refused bool           // a reply that was dropped says that the caller may have left
	leaving bool           // his HANGUP is awaited
	music   bool           // music on hold plays
	lines   agi.Lines
	wasted  int // what the backend has sent when Asterisk had left; then there is nothing to say
}

// say has agiproxy say lines, each after the reply to the one before, and then
// go on. What it says already is answered first; for the rest of a line that
// nobody has asked for it doesn't wait, since that may never come.
func (s *Session) say(then func(*Session), lines ...string) {
	s.speech.rest, s.speech.then = lines, then
	if s.dialogue.Turn() == agi.BackendsTurn {
		s.sayNext()
	}
}

// sayNext says the next line. Asterisk's turn has no limit: EXEC Playback takes
// as long as the prompt.
func (s *Session) sayNext() {
	if len(s.speech.rest) == 0 {
		s.speech.then(s)
		return
	}
	line := []byte(s.speech.rest[0] + "\n")
	s.speech.rest = s.speech.rest[1:]
	s.dialogue.Own(line)
	s.tell(line)
}

// tell sends Asterisk a line of agiproxy's own.
func (s *Session) tell(line []byte) {
	if s.traced {
		s.trace(Agiproxy, line)
	}
	s.front.Write(line)
}

// hear takes what Asterisk sends while agiproxy speaks.
func (s *Session) hear(p []byte) {
	s.dialogue.Replies(p)
	switch {
	case s.dialogue.HungUp() && s.state == queued:
		s.leave()
	case s.dialogue.HungUp():
		s.closeFront() // nobody is left to tell
	case s.underWay() || s.speech.leaving:
	case s.state == answering && s.dialogue.Refused():
		s.awaitHangup()
	default:
		s.sayNext()
	}
}

// speechLate is told that no HANGUP has come, or that Asterisk hasn't set the
// variable.
func (s *Session) speechLate() {
	if s.speech.leaving {
		s.speech.leaving = false
		s.sayNext()
		return
	}
	s.speech.then(s)
}

// fail ends a session that nobody can serve, so that the dialplan sees
// AGISTATUS=FAILURE and the status in AGIPROXYSTATUS.
func (s *Session) fail(status string, outcome Outcome, err error) {
	s.dropBackend()
	s.conclude(outcome, err)
	s.undispatch()
	if s.dialogue.HungUp() || s.gone {
		s.closeFront()
		return
	}
	s.speech = &speech{status: status, music: s.speech != nil && s.speech.music}
	if s.underWay() {
		s.settle((*Session).answer)
	} else {
		s.answer()
	}
}

// answer gives a session that nothing could serve its fallback. No command is
// under way.
func (s *Session) answer() {
	s.state = answering
	s.front.SetTimer(0)
	var lines []string
	if s.speech.music {
		lines = append(lines, musicOff)
	}
	if s.outcome == NoBackend {
		lines = append(lines, s.pool.opts.Fallback...)
	}
	s.say((*Session).tellStatus, lines...)
}

// tellStatus sets AGIPROXYSTATUS, and ends the session.
func (s *Session) tellStatus() {
	then := (*Session).sayFailure
	if s.outcome == NoBackend && s.pool.opts.FallbackCompletes {
		then = (*Session).closeFront
	}
	s.front.SetTimer(s.after(answerTimeout))
	s.say(then, "SET VARIABLE "+agi.ProxyStatus+" "+s.speech.status)
}

// FailureLine makes Asterisk set AGISTATUS to FAILURE. A connection that is closed
// without it is SUCCESS.
//
// Source: run_agi in Asterisk's res/res_agi.c, which looks for that word before
// it takes a line as a command.
const FailureLine = "failure\n"

// sayFailure ends the session so that the dialplan sees a failure.
func (s *Session) sayFailure() {
	s.tell([]byte(FailureLine))
	s.closeFront()
}

// refuse ends a session that has no header: there is nobody to set a variable
// for.
func (s *Session) refuse(outcome Outcome, err error) {
	s.conclude(outcome, err)
	s.sayFailure()
}
