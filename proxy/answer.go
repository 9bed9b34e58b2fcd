package proxy

import "time"

const (
	// answerTimeout is how long Asterisk gets to set a variable.
	answerTimeout = time.Second
	// lingerTimeout is how long Asterisk gets to close after agiproxy has. It
	// does so at once, unless the way to it is cut.
	lingerTimeout = 5 * time.Second
)

// answer sets AGIPROXYSTATUS. No command is under way.
func (s *Session) answer() {
	s.state = answering
	s.front.Write([]byte("SET VARIABLE AGIPROXYSTATUS " + s.own.status + "\n"))
	s.front.SetTimer(s.after(answerTimeout))
}

// FailureLine makes Asterisk set AGISTATUS to FAILURE. A connection that is closed
// without it is SUCCESS.
//
// Source: run_agi in Asterisk's res/res_agi.c, which looks for that word before
// it takes a line as a command.
const FailureLine = "failure\n"

// sayFailure ends the session so that the dialplan sees a failure.
func (s *Session) sayFailure() {
	s.front.Write([]byte(FailureLine))
	s.closeFront()
}

// refuse ends a session that has no header: there is nobody to set a variable
// for.
func (s *Session) refuse(outcome Outcome, err error) {
	s.conclude(outcome, err)
	s.sayFailure()
}
