package proxy

import (
	"time"

	"agiproxy/agi"
	"agiproxy/balancer"
)

// state is what a session is doing. It only ever moves down this list, but for
// a replay and a resumed call, which lead back to connecting, or to queued.
//
//	state       Asterisk sends       the backend sends    Asterisk closes  the backend closes        time runs out
//	reading     header → connecting  -                    end              -                         failure
//	queued      is kept for later    -                    end              -                         answering
//	connecting  is kept for later    -                    end              another, or answering     another, or answering
//	awaiting    is passed on         command → relaying   closing          another, answering, done  another, or answering
//	relaying    is passed on         is passed on         closing          done, or settling         settling
//	settling    is dropped           -                    end              -                         answering, or another
//	answering   reply → closing      -                    end              -                         closing
//	closing     is passed on         is passed on         end              end                       end
//
// "Done" is a session that its backend has completed: closing, until Asterisk
// has closed as well. A slot that gets free leads from queued to connecting, the
// last reply to a lost backend from settling to answering or, where the call is
// resumed, to another backend.
type state uint8

const (
	reading    state = iota // Asterisk's header, until its empty line
	queued                  // every usable backend is full
	connecting              // an attempt: the connection is not there yet
	awaiting                // the header is sent, no command has come
	relaying                // the dialogue runs
	settling                // a backend is lost; the replies to its commands are awaited and dropped
	answering               // agiproxy speaks for itself: fallback, the variable, then failure
	closing                 // one side is done; the other's last words go through
	ended
)

// String returns the state as the admin port has it.
func (s state) String() string {
	return [...]string{"reading", "queued", "connecting", "awaiting", "relaying", "settling", "answering", "closing", "ended"}[s]
}

// A Session is one FastAGI connection from Asterisk, from accept to close. Its
// methods are its events; they are called on its worker's loop.
type Session struct {
	links
	worker *Worker
	from   *origin
	front  Conn
	back   Conn  // the attempt's or the dialogue's; nil if there is none
	pool   *Pool // nil until the header is routed

	loan   balancer.Loan
	counts *backendCounts // of the last attempt's backend; nil before the first

	dispatching *dispatching // nil once no attempt can need it, see undispatch
	partial     []byte       // the backend's line under way
	speech      *speech      // nil before agiproxy has something to say
	dialogue    agi.Dialogue

	start        time.Duration // of the host's clock, as all of these
	turnSince    time.Duration
	dispatchTook time.Duration // from start to the first command; 0 until then

	bytes uint64 // passed on, both ways together

	who    string // what the record says of the caller, see identify
	reason error  // why it ended as it did; nil is the ordinary way

	// All of these fill 16 bytes, and with them the session 256, which is what
	// the allocator has; a byte more would cost 32.
	id       uint32 // counts from 1; it comes again after four thousand million sessions
	attempts uint16
	state    state
	outcome  Outcome
	last     agi.Command // the backend's last one
	refusal  refusal     // why it is not served, if it was refused before it had a pool
	unproved bool        // the backend has closed before its TCP said whether it read all that was sent
	gone     bool        // Asterisk has closed
	admitted bool        // it counts for the listener's max_sessions
	resumed  bool        // a backend was lost in mid-call
	sent     bool        // some backend was sent the header
	traced   bool        // somebody reads along, see Trace
}

// dispatching is what a session keeps for as long as another backend could
// serve it: until the first command, or to its end where calls are resumed.
type dispatching struct {
	header agi.Header
	early  []byte              // what followed the header
	tried  []*balancer.Backend // by the attempts before this one
	until  time.Duration       // of the host's clock, as all times here; 0 means no limit
	key    uint64              // for the balancing policy

	connectBy time.Duration // when the attempt's connect has taken too long
	hedgeAt   time.Duration // when another backend is tried beside it; 0 means never
	hedge     *hedge        // that one, while both connect

	waiter      *balancer.Waiter // nil unless the session waits for a slot
	queuedSince time.Duration
	queuedUntil time.Duration // 0 before the session has waited
}

// What a worker keeps of dispatches that are over, for those to come. Most
// headers have less than a kilobyte.
const (
	mostSpare       = 128
	mostSpareHeader = 4 << 10
)

// dispatching returns an empty one, used or new.
func (w *Worker) dispatching(maxHeader int) *dispatching {
	n := len(w.spare) - 1
	if n < 0 {
		return &dispatching{header: *agi.NewHeader(maxHeader)}
	}
	d := w.spare[n]
	w.spare = w.spare[:n]
	d.header.Reset(maxHeader)
	return d
}

// undispatch gives back what only the dispatch has needed. Nothing else refers
// to it: a connection keeps a copy of what it is given to write.
func (s *Session) undispatch() {
	d, w := s.dispatching, s.worker
	if d != nil {
		s.unqueue()
		s.dropHedge(attemptAbandoned)
	}
	s.dispatching = nil
	if d != nil && len(w.spare) < mostSpare && cap(d.header.Bytes()) <= mostSpareHeader {
		*d = dispatching{header: d.header}
		w.spare = append(w.spare, d)
	}
}

// FromAsterisk is told what Asterisk sent.
func (s *Session) FromAsterisk(p []byte) {
	if s.traced && s.state != reading { // readHeader knows what of it is to be seen
		s.traceAsterisk(p)
	}
	switch s.state {
	case reading:
		s.readHeader(p)
	case queued:
		s.hearQueued(p)
	case connecting, awaiting:
		s.keepEarly(p)
	case relaying:
		s.relayReplies(p)
	case settling:
		s.hearSettling(p)
	case answering:
		s.hear(p)
	case closing:
		s.passOn(p)
	}
}

// FromBackend is told what the backend sent.
func (s *Session) FromBackend(p []byte) {
	switch s.state {
	case closing:
		if s.gone && s.wasted(len(p)) {
			return
		}
		s.relayCommands(p)
	case awaiting, relaying:
		s.relayCommands(p)
	}
}

// AsteriskClosed is told that Asterisk will send no more.
func (s *Session) AsteriskClosed(err error) {
	s.gone = true
	switch s.state {
	case reading:
		s.cutHeader(err)
	case queued, connecting:
		s.conclude(Hangup, err)
		s.dropAttempt(attemptAbandoned)
		s.end()
	case awaiting, relaying:
		s.asteriskLeft(err)
	case settling:
		s.conclude(Hangup, err) // of a call that was to be resumed; others are concluded
		s.end()
	default:
		s.end()
	}
}

// BackendConnected is told that the attempt's connection is there.
func (s *Session) BackendConnected() {
	s.dropHedge(attemptOutrun)
	s.sendHeader()
}

// BackendClosed is told that the backend will send no more: err is nil for a
// clean close, and says what happened otherwise.
func (s *Session) BackendClosed(err error) {
	switch s.state {
	case connecting:
		s.connectFailed(err)
	case awaiting:
		s.closedUnanswered(err)
	case relaying:
		s.closedInDialogue(err)
	case closing:
		s.closedAtEnd()
	}
}

// TimedOut is told that the state's time is over.
func (s *Session) TimedOut() {
	switch s.state {
	case reading:
		s.headerLate()
	case queued:
		s.queueLate()
	case connecting:
		s.connectLate()
	case awaiting:
		s.commandLate()
	case relaying:
		s.turnLate()
	case settling:
		s.settleLate()
	case answering:
		s.speechLate()
	case closing:
		s.end()
	}
}

// AsteriskDrained is told that Asterisk has taken all that was kept for it.
func (s *Session) AsteriskDrained() {
	if s.back != nil {
		s.back.Resume()
	}
}

// BackendDrained is told that the backend has taken all that was kept for it.
func (s *Session) BackendDrained() { s.front.Resume() }

// now is the host's clock.
func (s *Session) now() time.Duration { return s.worker.host.Now() }

// after returns when the session's timer must run out d from now, 0 for never.
func (s *Session) after(d time.Duration) time.Duration {
	if d == 0 {
		return 0
	}
	return s.now() + d
}

// past reports whether that time is there; 0 never is.
func (s *Session) past(at time.Duration) bool { return at != 0 && s.now() >= at }

// hungUp reports whether the caller has left, as far as Asterisk has told.
func (s *Session) hungUp() bool {
	return s.gone || s.dialogue.HungUp() && !s.dialogue.HangupAsked()
}
