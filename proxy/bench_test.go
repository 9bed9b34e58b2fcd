package proxy

import (
	"bytes"
	"io"
	"testing"
	"unsafe"

	"agiproxy/internal/loop"

	"github.com/hashicorp/go-hclog"
)

// mostSession is the most that a session may take while it relays, its two
// connections included: what ten thousand idle calls cost. 256 and 144 bytes are what
// the allocator has; a byte more of either would cost 16 or 32.
const mostSession = 256 + 2*144

func TestSessionIsSmall(t *testing.T) {
	session, conn := unsafe.Sizeof(Session{}), unsafe.Sizeof(loop.Conn{})
	t.Logf("a session takes %d bytes, a connection %d: %d together", session, conn, session+2*conn)
	if session+2*conn > mostSession {
		t.Errorf("a session takes %d bytes, and its connections 2 × %d; want at most %d together", session, conn, mostSession)
	}
}

// A session that relays keeps nothing of its dispatch: neither the header nor
// what may have followed it.
func TestRelayKeepsNoHeader(t *testing.T) {
	s := newStage(Options{}, limits())
	s.establish(plainHeader)
	x := s.worker.sessions.first
	if x.state != relaying || x.dispatching != nil || x.partial != nil || x.speech != nil {
		t.Errorf("state %v, dispatching %v, partial %d, own %v; want nothing kept", x.state, x.dispatching != nil, len(x.partial), x.speech != nil)
	}
	s.finish()
}

// What sessions have needed for their dispatch serves those to come, but not
// more of it than they are likely to need.
func TestDispatchingIsUsedAgain(t *testing.T) {
	o := limits()
	s := newStage(Options{}, o)
	s.establish(plainHeader)
	if n := len(s.worker.spare); n != 1 {
		t.Fatalf("%d spare after a first command; want 1", n)
	}
	used := s.worker.spare[0]
	s.finish()
	s.accept(asteriskAddr)
	s.handler.Received(append(plainHeader[:len(plainHeader):len(plainHeader)], goodbye...))
	s.handler.Closed(nil)
	if len(s.worker.spare) != 1 || s.worker.spare[0] != used {
		t.Fatalf("%v are spare after a call that was over before its dispatch; want the same one again", s.worker.spare)
	}
	if used.early != nil || used.tried != nil || used.until != 0 {
		t.Errorf("%+v is spare; want nothing left of the call before", used)
	}

	var all []Handler
	for range 2 * mostSpare {
		s.accept(asteriskAddr)
		all = append(all, s.handler)
	}
	for _, h := range all {
		h.Closed(nil)
	}
	if n := len(s.worker.spare); n != mostSpare {
		t.Errorf("%d spare after %d sessions; want %d", n, len(all), mostSpare)
	}

	s = newStage(Options{}, o)
	s.accept(asteriskAddr)
	s.handler.Received(bytes.Repeat([]byte("agi_arg_1: x\n"), 250))
	s.handler.Received(bytes.Repeat([]byte("x"), mostSpareHeader))
	s.handler.Closed(nil)
	if n := len(s.worker.spare); n != 0 {
		t.Errorf("%d spare after a large header; want none", n)
	}
}

func TestRelayAllocatesNothing(t *testing.T) {
	for name, c := range map[string]struct{ command, reply []byte }{
		"a command and its reply": {noop, okReply},
		"an unknown command":      {[]byte("BOGUS\n"), []byte("510 Invalid or unknown command\n")},
		"two commands at once":    {[]byte("NOOP\nVERBOSE x\n"), []byte("200 result=0\n200 result=1\n")},
		"a reply of three lines":  {noop, []byte("520-Invalid command syntax.  Proper usage follows:\nUsage: NOOP\n520 End of proper usage.\n")},
		"a value":                 {[]byte("GET VARIABLE x\n"), []byte("200 result=1 (one\ntwo)\n")},
		"an interrupted prompt":   {[]byte("STREAM FILE x \"\"\nNOOP\n"), okReply},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(Options{}, limits())
			s.establish(plainHeader)
			s.exchange(c.command, c.reply) // a command's counters are made when it is first seen
			sent := s.front.written
			if n := testing.AllocsPerRun(100, func() { s.exchange(c.command, c.reply) }); n != 0 {
				t.Errorf("%v allocations for %q and %q; want none", n, c.command, c.reply)
			}
			if got := s.front.written - sent; got != 101*len(c.command) {
				t.Errorf("%d bytes reached Asterisk; want %d", got, 101*len(c.command))
			}
			s.finish()
		})
	}
}

// BenchmarkSession is a whole call of three commands, with its record, over
// connections that cost nothing.
func BenchmarkSession(b *testing.B) {
	s := newStage(Options{Log: hclog.New(&hclog.LoggerOptions{Output: io.Discard})}, limits())
	s.reuse = true
	b.ReportAllocs()
	for b.Loop() {
		s.establish(plainHeader) // with the first command
		s.exchange(noop, okReply)
		s.exchange(noop, okReply)
		s.finish()
	}
	if n := s.server.Sessions(); n != 0 {
		b.Fatalf("%d sessions are left", n)
	}
}

// BenchmarkRelay is one command and its reply.
func BenchmarkRelay(b *testing.B) {
	s := newStage(Options{}, limits())
	s.establish(plainHeader)
	b.ReportAllocs()
	for b.Loop() {
		s.exchange(noop, okReply)
	}
	s.finish()
}
