package agi

import "bytes"

// A Turn says whose move it is.
type Turn uint8

const (
	BackendsTurn  Turn = iota // no command is under way
	AsterisksTurn             // a command runs, or has been sent and not been answered
)

// maxPending is how many commands of one session are remembered while they wait
// for their replies. Servers send one at a time; a few pipeline two or three.
const maxPending = 8

// A Dialogue follows a session from the first byte after its header. It is
// shown what passes and answers questions; it has a fixed size and allocates
// nothing. The zero value is a dialogue that begins. It is not safe for
// concurrent use.
//
// What it rests on (res_agi.c, and measured with Asterisk 22.10): commands are
// answered in order; a reply is a line that begins with three digits and a
// blank, but a command's usage begins with 520 and a hyphen and ends with a line
// that begins with 520 and a blank; the text of a value may hold line breaks,
// and ends with a parenthesis at the end of a line; a line HANGUP stands between
// replies; STREAM FILE, GET DATA and GET OPTION stop without a reply if another
// command arrives while they run. (Not if that came with them in one segment: it
// is in a buffer then that Asterisk doesn't watch, and waits there for a further
// byte. A dialogue is not shown segments; it takes the pair as an interruption.)
type Dialogue struct {
	pending  [maxPending]Command // those of n that are remembered, the oldest first
	n        uint32              // commands that wait for their replies
	reply    replyState
	prefixN  uint8    // bytes of the line under way in prefix
	prefix   [16]byte // how Asterisk's line under way begins
	last     byte     // how it ends so far, carriage returns apart
	hungUp   bool
	asked    bool // the script itself asked for the end
	refused  bool // the last reply was result=-1
	inMid    bool // the caller left while a command ran
	commands uint32
}

// replyState is what the line under way belongs to.
type replyState uint8

const (
	between replyState = iota // a new reply, or HANGUP
	inUsage                   // the lines of a 520 reply
	inText                    // a value with line breaks
)

// Turn reports whose move it is.
func (d *Dialogue) Turn() Turn {
	if d.n > 0 {
		return AsterisksTurn
	}
	return BackendsTurn
}

// HungUp reports whether Asterisk has said HANGUP.
func (d *Dialogue) HungUp() bool { return d.hungUp }

// HangupAsked reports whether the script itself ended the call with the command
// HANGUP, or the session with the line failure, before Asterisk said HANGUP: then
// that tells of no caller who left.
func (d *Dialogue) HangupAsked() bool { return d.asked }

// Refused reports whether the last reply was result=-1. It is what Asterisk
// answers when the caller leaves while a command runs, and then says HANGUP; but
// some commands fail with it.
func (d *Dialogue) Refused() bool { return d.refused }

// HungUpInCommand reports whether the caller left while a command ran: then
// Asterisk says HANGUP before its reply, or right after a reply of -1.
func (d *Dialogue) HungUpInCommand() bool { return d.inMid }

// Commands returns how many commands the backend has sent.
func (d *Dialogue) Commands() int { return int(d.commands) }

// Pending returns the command that runs, and false in the backend's turn.
func (d *Dialogue) Pending() (Command, bool) { return d.pending[0], d.n > 0 }

// InFlight returns how many commands have not been answered.
func (d *Dialogue) InFlight() int { return int(d.n) }

// MidReply reports whether Asterisk has begun a reply or a line and not ended
// it, so that more is on its way.
func (d *Dialogue) MidReply() bool { return d.prefixN > 0 || d.reply != between }

// Command is shown a whole line that goes to Asterisk, with or without its line
// feed, and returns the command in it. The line failure is none: it is the last
// that Asterisk reads, and gets no reply.
func (d *Dialogue) Command(line []byte) Command {
	failed := IsFailure(line)
	c := ParseCommand(line)
	if (failed || c == hangup) && !d.hungUp {
		d.asked = true
	}
	if failed {
		d.interrupt()
		return Other
	}
	d.commands++
	d.expect(c)
	return c
}

// Own is shown a line that whoever stands in between says to Asterisk itself. It
// is followed as Command follows one, but is none of the backend's.
func (d *Dialogue) Own(line []byte) { d.expect(ParseCommand(line)) }

// Settled says that nothing is under way any more, whatever was: the last answer
// has been seen.
func (d *Dialogue) Settled() { d.n, d.reply = 0, between }

// expect notes that a command waits for its reply.
func (d *Dialogue) expect(c Command) {
	d.interrupt()
	if d.n < maxPending {
		d.pending[d.n] = c
	}
	d.n++
}

// interrupt notes that a line arrives at Asterisk.
func (d *Dialogue) interrupt() {
	if d.n == 1 && d.pending[0].unansweredWhenInterrupted() {
		d.n = 0
	}
}

// ProxyStatus is the channel variable in which agiproxy tells the dialplan why it
// could not serve, before it ends the session by a line that [IsFailure].
const ProxyStatus = "AGIPROXYSTATUS"

// IsFailure reports whether Asterisk ends the session with AGISTATUS=FAILURE at
// that line. It looks at the line's first letters only, in any case, before it
// looks for a command.
//
// Source: run_agi in Asterisk's res/res_agi.c.
func IsFailure(line []byte) bool {
	const word = "failure"
	return len(line) >= len(word) && bytes.EqualFold(line[:len(word)], []byte(word))
}

// Replies is shown the next bytes from Asterisk, cut anywhere, and returns how
// many replies they complete.
func (d *Dialogue) Replies(p []byte) (replies int) {
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			d.keep(p)
			return replies
		}
		d.keep(p[:end])
		p = p[end+1:]
		if d.endLine() {
			replies++
		}
	}
	return replies
}

// keep notes what matters of a part of the line under way.
func (d *Dialogue) keep(part []byte) {
	d.prefixN += uint8(copy(d.prefix[d.prefixN:], part))
	if part = bytes.TrimRight(part, "\r"); len(part) > 0 {
		d.last = part[len(part)-1]
	}
}

// endLine takes the line under way as ended and reports whether a reply is
// complete with it.
func (d *Dialogue) endLine() bool {
	line, last := d.prefix[:d.prefixN], d.last
	d.prefixN, d.last = 0, 0
	switch d.reply {
	case inUsage:
		if !bytes.HasPrefix(line, []byte("520 ")) {
			return false
		}
	case inText:
		if last != ')' {
			return false
		}
	case between:
		if string(trimEOL(line)) == "HANGUP" {
			d.inMid = d.inMid || !d.hungUp && (d.n > 0 || d.refused)
			d.hungUp = true
			return false
		}
		if d.n > 0 && bytes.HasPrefix(line, []byte("520-")) {
			d.reply = inUsage
			return false
		}
		if len(line) < 4 || !digits(line[:3]) || line[3] != ' ' {
			return false
		}
		if d.n > 0 && d.pending[0].answersText() && bytes.HasPrefix(line, []byte("200 result=1 (")) && last != ')' {
			d.reply = inText
			return false
		}
	}
	d.refused = d.reply == between && bytes.HasPrefix(line, []byte("200 result=-1"))
	d.reply = between
	if d.n > 0 {
		d.n--
		copy(d.pending[:], d.pending[1:])
		d.pending[maxPending-1] = Other
	}
	return true
}

func digits(p []byte) bool {
	for _, c := range p {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
