package proxy

import (
	"bytes"
	"errors"

	"agiproxy/agi"
)

var (
	errHalfLine = errors.New("closed within a line")
	errLongLine = errors.New("line is longer than Asterisk takes")
	errPending  = errors.New("closed with a command under way")
)

// relayCommands passes the backend's whole lines on, at once and unchanged. Half
// a line would make Asterisk spin until the rest comes, deaf to a hangup, and
// half a line before a close is run as a command (run_agi in res_agi.c); so it
// is kept until its end is there.
func (s *Session) relayCommands(p []byte) {
	end := bytes.LastIndexByte(p, '\n') + 1
	whole, rest := p[:end], p[end:]
	if len(whole) > 0 && len(s.partial) > 0 {
		whole = append(s.partial, whole...)
		s.partial = nil
	}
	if n := tooLong(whole, s.pool.opts.MaxLine); n >= 0 {
		s.toFront(whole[:n])
		s.lose(errLongLine)
		return
	}
	s.toFront(whole)
	if len(s.partial)+len(rest) > s.pool.opts.MaxLine-1 {
		s.lose(errLongLine)
		return
	}
	s.partial = append(s.partial, rest...)
	if s.front.Buffered() > 0 {
		s.back.Pause()
	}
}

// tooLong returns where in lines one begins that Asterisk would cut and run as
// two, since it is longer than most, -1 if there is none.
func tooLong(lines []byte, most int) int {
	if len(lines) <= most {
		return -1
	}
	for at := 0; at < len(lines); {
		n := bytes.IndexByte(lines[at:], '\n') + 1
		if n > most {
			return at
		}
		at += n
	}
	return -1
}

// toFront sends whole lines to Asterisk, but those that are refused, and follows
// what they say.
func (s *Session) toFront(lines []byte) {
	if s.suspect(lines) {
		s.sift(lines)
	} else {
		s.pass(lines)
	}
}

// pass sends whole lines to Asterisk as they are.
func (s *Session) pass(lines []byte) {
	if len(lines) == 0 {
		return
	}
	s.front.Write(lines)
	s.countToAsterisk(len(lines))
	for len(lines) > 0 {
		n := bytes.IndexByte(lines, '\n') + 1
		s.command(lines[:n])
		lines = lines[n:]
	}
}

// countToAsterisk takes note of what the backend has had sent to Asterisk: with its
// first bytes the dispatch is over.
func (s *Session) countToAsterisk(n int) {
	s.bytes += uint64(n)
	s.worker.counts.toAsterisk += uint64(n)
	if s.state == awaiting {
		s.firstCommand()
	}
}

// firstCommand ends the dispatch: from here on there is no other backend for
// this session, unless it may be resumed.
func (s *Session) firstCommand() {
	s.state = relaying
	s.loan.Served()
	now := s.now()
	s.counts.attempts[attemptServed]++
	s.counts.first.observe(now - s.turnSince)
	if s.resumed {
		s.counts.pool.resumed++
	}
	if s.dispatchTook == 0 {
		s.dispatchTook = now - s.start
		s.counts.pool.dispatch.observe(s.dispatchTook)
	}
	if s.pool.opts.OnLoss != LossResume {
		s.undispatch()
	}
	s.reason = nil
}

// command follows one line that went to Asterisk.
func (s *Session) command(line []byte) {
	if s.traced {
		s.trace(Backend, line)
	}
	before := s.dialogue.Turn()
	c := s.dialogue.Command(line)
	if agi.IsFailure(line) {
		return // the backend's own end of the session
	}
	s.last = c
	s.counts.pool.command(c).sent++
	s.turnOver(before)
}

// turnOver ends the backend's turn, if it was that, at a line of its own.
func (s *Session) turnOver(before agi.Turn) {
	if before == agi.BackendsTurn {
		now := s.now()
		s.counts.think.observe(now - s.turnSince)
		s.turnSince = now
		s.loan.ServersTurn(false)
		if s.state == relaying {
			s.front.SetTimer(0) // a command may take hours
		}
	}
}

// relayReplies passes on what Asterisk sends.
func (s *Session) relayReplies(p []byte) {
	s.passOn(p)
	running, _ := s.dialogue.Pending()
	before, left := s.dialogue.Turn(), s.dialogue.HungUp()
	replies := s.dialogue.Replies(p)
	if replies > 0 && before == agi.AsterisksTurn {
		now := s.now()
		s.counts.pool.command(running).took.observe(now - s.turnSince)
		s.turnSince = now
	}
	if s.dialogue.MidReply() || bytes.HasPrefix(p, []byte("200 result=-1")) {
		// More is on its way: the rest of the reply, or HANGUP after the reply
		// to a command that the caller's leaving ended.
		s.front.QuickAck()
	}
	if !left && s.dialogue.HungUpInCommand() {
		s.counts.pool.cutShort++
	}
	if s.unproved {
		return // the backend has closed, and has no turn any more
	}
	if s.dialogue.Turn() == agi.BackendsTurn && (before == agi.AsterisksTurn || s.dialogue.HungUp() != left) {
		s.loan.ServersTurn(true)
		s.armTurn()
	}
}

// armTurn limits the backend's turn that begins now.
func (s *Session) armTurn() {
	limit := s.pool.opts.ThinkTimeout
	if s.dialogue.HungUp() {
		limit = s.pool.opts.HangupTimeout
	}
	s.front.SetTimer(s.after(limit))
}

// passOn sends to the backend what Asterisk sent, if there is a backend left.
func (s *Session) passOn(p []byte) {
	if s.back != nil {
		s.back.Write(p)
		s.countToBackend(len(p))
		if s.back.Buffered() > 0 {
			s.front.Pause()
		}
	}
}

func (s *Session) countToBackend(n int) {
	s.bytes += uint64(n)
	s.worker.counts.toBackend += uint64(n)
}

// turnLate is told that the backend's turn has lasted too long.
func (s *Session) turnLate() {
	switch {
	case s.unproved:
		s.prove()
	case s.dialogue.Turn() == agi.AsterisksTurn:
	case s.dialogue.HungUp():
		// A mute backend would hold the channel in Asterisk for ever.
		s.conclude(Hangup, errSilent)
		s.end()
	default:
		s.lose(errSilent)
	}
}

// closedInDialogue is told that the backend has closed while the dialogue runs.
func (s *Session) closedInDialogue(err error) {
	switch {
	case err == nil && s.dialogue.Turn() == agi.BackendsTurn && len(s.partial) == 0:
		s.turnSince = s.now()
		s.prove() // that the script has read the last reply
	case err != nil:
		s.lose(err)
	case len(s.partial) > 0:
		s.lose(errHalfLine)
	default:
		s.lose(errPending)
	}
}
