package proxy

import (
	"net/netip"
	"testing"
	"time"

	"agiproxy/internal/sim"
)

func TestListenerAllows(t *testing.T) {
	private := []string{"127.0.0.0/8", "10.0.0.0/8", "::1/128", "fe80::/10"}
	for _, c := range []struct {
		from  string
		allow []string
		want  bool
	}{
		{"127.0.0.1", private, true},
		{"10.1.2.3", private, true},
		{"11.1.2.3", private, false},
		{"::ffff:10.1.2.3", private, true}, // as a socket of both families tells it
		{"::ffff:11.1.2.3", private, false},
		{"::1", private, true},
		{"::2", private, false},
		{"fe80::1", private, true},
		{"fe80::1%eth0", private, true}, // a zone is none of a prefix's business
		{"2001:db8::1", private, false},
		{"10.0.0.1", []string{"10.0.0.1/32"}, true},
		{"10.0.0.2", []string{"10.0.0.1/32"}, false},
		{"10.0.0.1", []string{"::/0"}, false}, // all of IPv6 only
		{"192.0.2.1", []string{"0.0.0.0/0"}, true},
		{"192.0.2.1", nil, false},
	} {
		o := limits()
		o.Allow = nil
		for _, p := range c.allow {
			o.Allow = append(o.Allow, netip.MustParsePrefix(p))
		}
		var record *Record
		s := newStage(Options{Ended: func(r Record) { record = &r }}, o)
		s.accept(netip.AddrPortFrom(netip.MustParseAddr(c.from), 40000))
		if got := s.handler != nil; got != c.want {
			t.Errorf("a connection from %s, with %q allowed: let in %v; want %v", c.from, c.allow, got, c.want)
		}
		if c.want {
			continue
		}
		if s.front.written > 0 {
			t.Errorf("%s was sent %d bytes (%q); want none", c.from, s.front.written, s.front.last)
		}
		if !s.front.closed || record == nil || record.Outcome != Rejected {
			t.Errorf("%s: closed %v, record %+v; want it closed and rejected", c.from, s.front.closed, record)
		}
		if n := s.worker.counts.rejected[rejection{":4577", "not_allowed"}]; n != 1 {
			t.Errorf("%s: %v connections counted as not_allowed; want 1", c.from, n)
		}
		if s.server.Sessions() != 0 || s.listener.sessions.Load() != 0 {
			t.Errorf("%s: %d sessions, %d of the listener; want none", c.from, s.server.Sessions(), s.listener.sessions.Load())
		}
	}
}

// One session too many is told "failure", so that its dialplan knows, and gets
// time to read it.
func TestListenerIsFull(t *testing.T) {
	o := limits()
	o.MaxSessions = 2
	var records []Record
	s := newStage(Options{Ended: func(r Record) { records = append(records, r) }}, o)
	s.establish(plainHeader)
	first := s.handler
	s.accept(asteriskAddr) // in its header
	second := s.handler
	s.accept(asteriskAddr)
	if s.handler == nil || s.front.closed {
		t.Fatal("the third of two sessions was closed at once; want it to be told failure")
	}
	if string(s.front.last) != "failure\n" || s.front.written != len("failure\n") || !s.front.writeEnd {
		t.Errorf("the third of two sessions was sent %q, ended %v; want the line failure, and the end", s.front.last, s.front.writeEnd)
	}
	if want := s.host.now + lingerTimeout; s.front.timer != want {
		t.Errorf("it may linger until %v; want %v", s.front.timer, want)
	}
	s.handler.Received(plainHeader) // is read, lest the close be a reset
	s.handler.Received([]byte("HANGUP\n"))
	if s.front.closed || s.front.written != len("failure\n") {
		t.Errorf("after its header: closed %v, %d bytes sent", s.front.closed, s.front.written)
	}
	s.handler.Closed(nil)
	if !s.front.closed || len(records) != 1 || records[0].Outcome != Rejected {
		t.Errorf("after its end: closed %v, %d records; want it closed, and a record of outcome rejected", s.front.closed, len(records))
	}
	if n := s.worker.counts.rejected[rejection{":4577", "max_sessions"}]; n != 1 {
		t.Errorf("%v connections counted as max_sessions; want 1", n)
	}

	second.Closed(nil)
	s.accept(asteriskAddr)
	if s.front.written > 0 {
		t.Errorf("a session after one of two has ended was told %q; want it let in", s.front.last)
	}
	s.handler.Closed(nil)
	first.Closed(nil)
}

// One that was told failure takes nobody's place until it has closed.
func TestRefusedTakesNobodysPlace(t *testing.T) {
	o := limits()
	o.MaxSessions = 1
	s := newStage(Options{}, o)
	s.accept(asteriskAddr)
	only := s.handler
	s.accept(asteriskAddr)
	refused := s.handler
	only.Closed(nil)
	s.accept(asteriskAddr)
	if s.front.written > 0 {
		t.Errorf("the only session was told %q; want it let in", s.front.last)
	}
	s.handler.Closed(nil)
	refused.Closed(nil)
	if n := s.listener.sessions.Load(); n != 0 {
		t.Errorf("the listener counts %d sessions at the end; want none", n)
	}
}

// A peer that is told failure and doesn't close is cut after a while.
func TestRefusedPeerLingersForAWhile(t *testing.T) {
	o := limits()
	o.MaxSessions = 0
	s := newStage(Options{}, o)
	s.accept(asteriskAddr)
	s.handler.TimedOut()
	if !s.front.closed || s.server.Sessions() != 0 {
		t.Errorf("after its time: closed %v, %d sessions; want it closed", s.front.closed, s.server.Sessions())
	}
}

// Limits that a reload brings hold for the sessions to come.
func TestConfigureListener(t *testing.T) {
	s := newStage(Options{}, limits())
	s.establish(plainHeader)
	running := s.handler
	o := limits()
	o.MaxSessions = 1
	s.listener.Configure(o)
	s.accept(asteriskAddr)
	if string(s.front.last) != "failure\n" {
		t.Errorf("the second of one session was told %q; want failure", s.front.last)
	}
	s.handler.Closed(nil)
	o.MaxSessions, o.Allow = 2, nil
	s.listener.Configure(o)
	if s.accept(asteriskAddr); s.handler != nil {
		t.Error("a connection was let in; want none, since nothing is allowed")
	}
	if s.server.Sessions() != 1 {
		t.Errorf("%d sessions; want the first to go on", s.server.Sessions())
	}
	running.Closed(nil)
}

func TestHeaderTimerBeginsWithAccept(t *testing.T) {
	s := newStage(Options{}, limits())
	s.host.now = time.Minute
	s.accept(asteriskAddr)
	s.host.now += 2 * time.Second
	s.handler.Received(plainHeader[:100])
	if want := time.Minute + 5*time.Second; s.front.timer != want {
		t.Errorf("the header's time ends at %v; want %v, whatever has come of it", s.front.timer, want)
	}
	s.handler.Closed(nil)
}

func TestShedIsCounted(t *testing.T) {
	s := newStage(Options{}, limits())
	s.worker.Shed(s.listener)
	if n := s.worker.counts.rejected[rejection{":4577", "descriptors"}]; n != 1 {
		t.Errorf("%v connections counted as shed; want 1", n)
	}
}

// The bare failure of a full listener reaches an Asterisk that is still sending
// its header: nothing resets the connection before that.
func TestFailureIsNotOvertaken(t *testing.T) {
	for seed := range uint64(50) {
		n := sim.New(seed, sim.Options{Delay: 20 * time.Millisecond, Segment: 7})
		o := limits()
		o.MaxSessions = 0
		w := newStage(Options{}, o)
		worker := w.server.NewWorker(simHost{n})
		n.Listen(front, func(c *sim.Conn) sim.Handler { return worker.Accept(w.listener, c) })
		p := &player{t: t, net: n, parts: map[string]*part{}}
		a := &part{p: p, name: "asterisk"}
		a.conn = n.Connect(front, a)
		a.conn.Write(plainHeader)
		p.until("the end", func() bool { return a.ended })
		if len(a.got) != 1 || a.got[0] != "failure" || a.reset != nil {
			t.Fatalf("seed %d: Asterisk got %q and the end %v; want failure and an orderly end", seed, a.got, a.reset)
		}
		a.conn.Close()
		n.Run(time.Minute)
	}
}
