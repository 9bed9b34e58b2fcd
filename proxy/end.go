package proxy

import (
	"errors"
	"net/netip"
	"strings"
	"time"

	"agiproxy/agi"

	"github.com/hashicorp/go-hclog"
)

var (
	errShutdown = errors.New("agiproxy shuts down")
	errKilled   = errors.New("ended by an operator")
)

// Why sessions lose a backend that has not failed them.
var (
	ErrDown    = errors.New("backend was declared down")
	ErrDrained = errors.New("backend is drained, and the time for that is over")
)

// An Outcome is how a session ended.
type Outcome uint8

const (
	undecided Outcome = iota
	Completed         // the backend closed in its own turn
	Hangup            // the caller left first
	Lost              // the backend failed in mid-session
	NoBackend         // nobody could serve it
	NoRoute           // no pool is meant for it
	BadHeader         // what came was no header
	Rejected          // it was not welcome, or one too many
	Timeout           // Asterisk didn't send its header in time
	Killed            // an operator ended it
	Shutdown          // agiproxy ended with it under way
)

// NumOutcomes is how many values Outcome has.
const NumOutcomes = int(Shutdown) + 1

// String returns the outcome as logs and metrics have it.
func (o Outcome) String() string {
	return [NumOutcomes]string{
		"undecided", "completed", "hangup", "lost", "no_backend", "no_route",
		"bad_header", "rejected", "timeout", "killed", "shutdown",
	}[o]
}

// A Record is what is known of a session at its end.
type Record struct {
	ID       uint32 // as long as the session was under way, see [Info]
	Outcome  Outcome
	Listener string
	Pool     string // "" before the header was routed
	Backend  string // of the last attempt; "" if there was none
	Client   netip.AddrPort
	Script   string
	Channel  string
	UniqueID string
	Caller   string // the number
	Attempts int
	Commands int
	Denied   int           // lines of backends that did not reach Asterisk
	Dispatch time.Duration // from accept to the first command; 0 if none came
	Duration time.Duration
	Bytes    uint64 // passed on, both ways together
	Err      error  // why it ended as it did, nil for the ordinary way
}

// conclude decides the outcome, once: what comes later doesn't change why a
// session ended.
func (s *Session) conclude(o Outcome, err error) {
	if s.outcome == undecided {
		s.outcome, s.reason = o, err
	}
}

// completed takes the backend's close as the end of its script.
func (s *Session) completed() {
	if s.state == awaiting {
		s.counts.attempts[attemptCompleted]++
		s.loan.Served()
	}
	outcome := Completed
	if s.hungUp() {
		outcome = Hangup
	}
	s.conclude(outcome, nil)
	s.loan.Done()
	s.closeFront()
}

// asteriskLeft passes Asterisk's close on. The backend may still be at work, so
// it gets the time that it has after a hangup.
func (s *Session) asteriskLeft(err error) {
	if s.state == awaiting {
		s.counts.attempts[attemptAbandoned]++
	}
	outcome := Hangup
	if s.dialogue.HangupAsked() {
		outcome = Completed // the script brought it about
	}
	s.conclude(outcome, err)
	if s.unproved { // the backend has closed before
		s.end()
		return
	}
	s.state = closing
	s.undispatch()
	s.loan.ServersTurn(true) // nothing explains the server's silence any more
	s.back.CloseWrite()
	s.back.Resume() // an Asterisk that is gone takes nothing any more
	s.front.SetTimer(s.after(s.pool.opts.HangupTimeout))
}

// mostWasted is how much a backend may send when Asterisk has left: more commands
// than a script has for its end.
const mostWasted = 256 << 10

// wasted counts what the backend sends though nobody takes it any more, and reports
// whether the session has ended for that. Reading on, until the time after a hangup
// is over, would let one flood have the loop to itself.
func (s *Session) wasted(n int) bool {
	if s.speech == nil {
		s.speech = new(speech)
	}
	if s.speech.wasted += n; s.speech.wasted <= mostWasted {
		return false
	}
	s.end()
	return true
}

// closeFront ends agiproxy's side towards Asterisk and waits for Asterisk's: a
// close over bytes that nobody has read would be a reset, which can overtake
// the last line.
func (s *Session) closeFront() {
	if s.gone {
		s.end()
		return
	}
	s.state = closing
	s.undispatch()
	s.partial = nil
	s.front.CloseWrite()
	linger := lingerTimeout
	if s.dialogue.Turn() == agi.AsterisksTurn && s.speech == nil {
		linger = 0 // a command runs, and ends in its own time
	}
	s.front.SetTimer(s.after(linger))
}

// closedAtEnd is told that the backend has closed, or is lost, when the session
// is about to end anyway.
func (s *Session) closedAtEnd() {
	if s.gone {
		s.end()
		return
	}
	s.dropBackend()
}

// stop ends the session because agiproxy does.
func (s *Session) stop() { s.cut("SHUTDOWN", Shutdown, errShutdown) }

// cut ends the session for reasons that aren't its own.
func (s *Session) cut(status string, o Outcome, err error) {
	switch s.state {
	case reading:
		s.refuse(o, err)
	case queued, connecting, awaiting:
		s.dropAttempt(attemptAbandoned)
		s.fail(status, o, err)
	case relaying:
		s.fail(status, o, err)
	case settling:
		if s.outcome == undecided { // the call was to be resumed
			s.undispatch()
			s.conclude(o, err)
			s.speech.status, s.speech.then = status, (*Session).answer
		}
	}
}

// abort ends the session now. An Asterisk that still has a command to end gets
// the line that makes it a failure, which it reads after that command; a bare
// close would be taken for success.
func (s *Session) abort(o Outcome, err error) {
	s.conclude(o, err)
	if s.state == settling || s.state == answering {
		s.tell([]byte(FailureLine))
	}
	s.end()
}

// kill ends the session for an operator. One that is about to end, and takes its
// time for it, ends now: so a second kill doesn't wait for Asterisk's command.
func (s *Session) kill() {
	if s.outcome == undecided {
		s.cut("KILLED", Killed, errKilled)
	} else {
		s.abort(Killed, errKilled)
	}
}

// end is where every session ends: it gives everything back and writes the one
// record.
func (s *Session) end() {
	s.dropBackend()
	s.undispatch()
	s.front.SetTimer(0)
	s.front.Close()
	s.state = ended
	s.worker.sessions.remove(s)
	if s.traced {
		s.endTraces()
	}
	s.unadmit()
	r := s.record()
	if r.Denied > 0 {
		delete(s.worker.denied, s)
	}
	if s.counts != nil {
		s.counts.pool.end(&r)
	} else {
		s.worker.counts.pool(r.Pool).end(&r)
	}
	if suppressed, quiet := s.quiet(); !quiet {
		s.worker.log(&r, suppressed)
	}
	if s.worker.server.opts.Ended != nil {
		s.worker.server.opts.Ended(r)
	}
	s.worker.server.sessions.Add(-1)
}

func (s *Session) record() Record {
	r := Record{
		ID: s.id, Outcome: s.outcome, Listener: s.from.listener.name, Client: s.client(),
		Attempts: int(s.attempts), Commands: s.dialogue.Commands(), Denied: int(s.worker.denied[s]), Dispatch: s.dispatchTook,
		Duration: s.now() - s.start, Bytes: s.bytes, Err: s.reason,
	}
	if s.pool != nil {
		r.Pool = s.pool.name
	}
	if s.counts != nil {
		r.Backend = s.counts.name
	}
	r.Script, r.Channel, r.UniqueID, r.Caller = s.identity()
	return r
}

// identify keeps what tells an operator whose call it is.
func (s *Session) identify(h *agi.Header) {
	s.who = string(h.Script()) + "\n" + string(h.Field("agi_channel")) + "\n" +
		string(h.Field("agi_uniqueid")) + "\n" + string(h.Field("agi_callerid"))
}

// identity returns what identify has kept. In none of them is a line feed.
func (s *Session) identity() (script, channel, uniqueID, caller string) {
	script, rest, _ := strings.Cut(s.who, "\n")
	channel, rest, _ = strings.Cut(rest, "\n")
	uniqueID, caller, _ = strings.Cut(rest, "\n")
	return script, channel, uniqueID, caller
}

// log writes the record of a session that has ended; suppressed is how many others
// like it have none.
func (w *Worker) log(r *Record, suppressed uint64) {
	log, level := w.server.opts.Log, hclog.Info
	if r.Err != nil && (r.Outcome == Rejected || r.Outcome == Lost || r.Outcome == NoBackend || r.Outcome == NoRoute) {
		level = hclog.Warn // a call was not served
	}
	if level == hclog.Info && !log.IsInfo() || level == hclog.Warn && !log.IsWarn() {
		return
	}
	w.logged = append(w.logged[:0],
		// As strings: in JSON hclog would write numbers and structs.
		"outcome", r.Outcome.String(), "pool", r.Pool, "backend", r.Backend, "script", r.Script,
		"client", r.Client.String(), "uniqueid", r.UniqueID, "channel", r.Channel, "attempts", r.Attempts,
		"commands", r.Commands, "dispatch", r.Dispatch.Round(time.Microsecond).String(),
		"duration", r.Duration.Round(time.Microsecond).String(), "bytes", r.Bytes,
	)
	if r.Denied > 0 {
		w.logged = append(w.logged, "denied", r.Denied)
	}
	if r.Err != nil {
		w.logged = append(w.logged, "error", r.Err)
	}
	if suppressed > 0 {
		w.logged = append(w.logged, "suppressed", suppressed)
	}
	log.Log(level, "session ended", w.logged...)
}
