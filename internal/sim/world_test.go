package sim_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"agiproxy/internal/sim"
)

// A conn is a connection as sessions see it: what loop and sim have in common.
type conn interface {
	Write(p []byte)
	Buffered() int
	CloseWrite()
	Pause()
	Resume()
	QuickAck()
	Unacked() (int, error)
	SetTimer(at time.Duration)
	RemoteAddr() netip.AddrPort
	Close()
}

// A world is a network with one loop in it.
type world interface {
	// listen has accept called for each connection to the address it returns.
	listen(accept func(conn) sim.Handler) netip.AddrPort
	// refusing returns an address that nobody listens on.
	refusing() netip.AddrPort
	// silent returns an address that never answers.
	silent() netip.AddrPort
	connect(to netip.AddrPort, h sim.Handler) conn
	now() time.Duration
	// do runs f on the loop and waits for it.
	do(f func())
	// until lets things happen until cond, which is called on the loop, is
	// true. It reports whether that came to be.
	until(cond func() bool) bool
	// settle lets everything happen that is about to.
	settle()
	// large is more than a connection takes without its reader.
	large() int
}

// A stage is what a case plays on: a world, and the ends of its connections.
type stage struct {
	world
	t       *testing.T
	stream  string // bytes that tell where they belong, for volumes
	swapped bool   // pair returns the accepted end first
	byLegs  bool   // connections are by TLS, whose goroutines tell later
	calling int    // how many methods of connections are being called
	ends    []*end
}

// text is n bytes of the stream.
func (s *stage) text(at, n int) string { return s.stream[at : at+n] }

// connect makes an end that connects; nothing has happened when it returns. For
// the loop only.
func (s *stage) connect(name string, to netip.AddrPort) *end {
	e := &end{stage: s, name: name}
	e.call(func() { e.conn = s.world.connect(to, e) })
	s.ends = append(s.ends, e)
	return e
}

// accept makes an end of a connection that was accepted. For the loop only.
func (s *stage) accept(name string, c conn) *end {
	e := &end{stage: s, name: name, conn: c}
	s.ends = append(s.ends, e)
	return e
}

// pair returns both ends of a new connection.
func (s *stage) pair() (*end, *end) {
	s.t.Helper()
	var a, b *end
	to := s.listen(func(c conn) sim.Handler { b = s.accept("b", c); return b })
	s.do(func() { a = s.connect("a", to) })
	if !s.until(func() bool { return b != nil && slices.Equal(a.told, []string{"connected"}) }) {
		s.t.Fatalf("no connection: a was told %q", a.told)
	}
	s.do(func() { a.told = nil })
	if s.swapped {
		a.name, b.name = b.name, a.name
		return b, a
	}
	return a, b
}

// there waits until *e has been accepted, which may be after the other end was
// told that it is connected.
func (s *stage) there(e **end) {
	s.t.Helper()
	if !s.until(func() bool { return *e != nil }) {
		s.t.Fatal("nothing was accepted")
	}
}

// want waits until e has been told just that, from its beginning. That nothing
// follows is looked at when the case has ended.
func (s *stage) want(e *end, told ...string) {
	s.t.Helper()
	s.wantOneOf(e, told)
}

// wantOneOf is want where several things may be told.
func (s *stage) wantOneOf(e *end, any ...[]string) {
	s.t.Helper()
	var got []string
	ok := s.until(func() bool {
		got = slices.Clone(e.told)
		return slices.ContainsFunc(any, func(told []string) bool { return slices.Equal(got, told) })
	})
	e.wanted, e.expects = got, true
	if !ok {
		s.t.Fatalf("%s was told %q; want %q", e.name, got, any)
	}
}

// unread has from send what to, which must be paused, gets and doesn't read.
func (s *stage) unread(from *end) {
	s.t.Helper()
	s.do(func() { from.write("unread") })
	s.acknowledged(from)
}

// acknowledged waits until all that e has written has arrived.
func (s *stage) acknowledged(e *end) {
	s.t.Helper()
	if !s.until(func() bool { return e.unacked() == 0 }) {
		s.t.Fatalf("%d bytes of %s never arrived", e.unacked(), e.name)
	}
}

// finish looks whether anything was told that no case asked for.
func (s *stage) finish() {
	s.settle()
	s.do(func() {
		for _, e := range s.ends {
			if e.expects && !slices.Equal(e.told, e.wanted) {
				s.t.Errorf("%s was told %q at the end; want %q", e.name, e.told, e.wanted)
			}
			e.close()
		}
	})
	s.settle()
}

// An end is one end of a connection, with what it was told. Its methods are for
// the loop.
type end struct {
	*stage
	name    string
	conn    conn
	told    []string
	wanted  []string
	expects bool
	closed  bool
	on      func(event string) // called with each event after it was noted
	sink    func(p []byte)     // takes what is received, which then isn't noted
}

// call runs a method of the connection, during which no handler may be called.
func (e *end) call(method func()) {
	e.calling++
	method()
	e.calling--
}

func (e *end) write(p string)         { e.call(func() { e.conn.Write([]byte(p)) }) }
func (e *end) closeWrite()            { e.call(e.conn.CloseWrite) }
func (e *end) pause()                 { e.call(e.conn.Pause) }
func (e *end) resume()                { e.call(e.conn.Resume) }
func (e *end) timer(at time.Duration) { e.call(func() { e.conn.SetTimer(at) }) }

func (e *end) close() {
	e.closed = true
	e.call(e.conn.Close)
}

// unacked doesn't mind a reset that has come.
func (e *end) unacked() (n int) {
	e.call(func() {
		var err error
		if n, err = e.conn.Unacked(); err != nil && !errors.Is(err, syscall.EPIPE) {
			e.t.Errorf("%s: Unacked() = %v", e.name, err)
		}
	})
	return n
}

// tell notes an event.
func (e *end) tell(event string) {
	if e.calling > 0 {
		e.t.Errorf("%s was told %q by a method that somebody called", e.name, event)
	}
	if e.closed {
		e.t.Errorf("%s was told %q after Close", e.name, event)
	}
	e.told = append(e.told, event)
	if e.on != nil {
		e.on(event)
	}
}

func (e *end) Connected() { e.tell("connected") }
func (e *end) Drained()   { e.tell("drained") }
func (e *end) TimedOut()  { e.tell("timed out") }

func (e *end) Received(p []byte) {
	if len(p) == 0 {
		e.t.Errorf("%s has received nothing", e.name)
	}
	if e.sink != nil {
		e.sink(p)
		return
	}
	text := "received " + string(p)
	// How bytes are cut on their way is nobody's business.
	if n := len(e.told); n > 0 && strings.HasPrefix(e.told[n-1], "received ") {
		text = e.told[n-1] + string(p)
		e.told = e.told[:n-1]
	}
	e.tell(text)
}

func (e *end) Closed(err error) {
	if err == nil {
		e.tell("end")
	} else {
		e.tell(fmt.Sprintf("lost: %v", err))
	}
}
