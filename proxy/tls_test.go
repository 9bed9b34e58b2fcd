package proxy

import (
	"errors"
	"strings"
	"testing"

	"agiproxy/balancer"
)

// A refusing is what a Dial tells when the two sides don't agree to talk.
type refusing struct{ error }

func (refusing) Handshake() bool { return true }

// Whoever refuses to talk has read nothing, even if that comes after the header.
func TestRefusedHandshakeIsNoLoss(t *testing.T) {
	refused := refusing{errors.New("certificate has expired")}
	for _, replay := range []Replay{ReplayUnread, ReplayUnanswered, ReplayNever} {
		for _, connected := range []bool{false, true} {
			var ended Record
			s := newStage(Options{Ended: func(r Record) { ended = r }}, limits())
			s.server.Table().Pools[0].opts.Replay = replay
			s.accept(asteriskAddr)
			s.handler.Received(header("menu", "1.1", "100"))
			if connected {
				s.host.back.handler.Connected()
			}
			s.host.back.handler.Closed(refused)
			s.handler.Closed(nil)
			if ended.Outcome != NoBackend || !errors.Is(ended.Err, refused) {
				t.Errorf("replay %v, header sent %v: %v, %v; want %v with the refusal", replay, connected, ended.Outcome, ended.Err, NoBackend)
			}
			if n := s.worker.counts.pool("ivr").backend("ivr1").attempts[attemptHandshake]; n != 1 {
				t.Errorf("replay %v, header sent %v: %d attempts with the result tls; want 1", replay, connected, n)
			}
		}
	}
}

// A pool may have its own way to its backends.
func TestDialGoesTheirWay(t *testing.T) {
	s := newStage(Options{}, limits())
	own := new(fakeConn)
	s.server.Table().Pools[0].opts.Dial = func(h Host, b *balancer.Backend, hd Handler) Conn {
		if h != Host(&s.host) || b.Name() != "ivr1" {
			t.Errorf("Dial of %s by %v; want ivr1 by the session's host", b.Name(), h)
		}
		own.reset(b.Addr(), hd)
		return own
	}
	s.accept(asteriskAddr)
	s.handler.Received(header("menu", "1.1", "100"))
	own.handler.Connected()
	if own.written == 0 {
		t.Error("the header has not gone the way of Dial")
	}
}

func TestTLSOnAPlainListenerIsNamed(t *testing.T) {
	var ended Record
	s := newStage(Options{Ended: func(r Record) { ended = r }}, limits())
	s.accept(asteriskAddr)
	s.handler.Received([]byte{22, 3, 1, 2, 0, 1})
	s.handler.Closed(nil)
	if ended.Outcome != BadHeader || !strings.Contains(ended.Err.Error(), "it speaks TLS") {
		t.Errorf("a TLS client: %v, %v; want %v, and what it was", ended.Outcome, ended.Err, BadHeader)
	}
	if n := s.worker.counts.rejected[rejection{":4577", "malformed"}]; n != 1 {
		t.Errorf("it counts %d times as malformed; want 1", n)
	}
}

// A staying connection is one that only its process has.
type staying struct{ fakeConn }

func (*staying) Stays() {}

func TestSessionsOnLegsStay(t *testing.T) {
	for _, tt := range []struct {
		name        string
		front, back bool
	}{{"to Asterisk", true, false}, {"to the backend", false, true}} {
		s := newStage(Options{}, limits())
		front, back := Conn(new(fakeConn)), Conn(nil)
		if tt.front {
			front = new(staying)
		}
		if tt.back {
			back = new(staying)
		}
		for _, state := range []state{reading, connecting, awaiting, relaying, closing} {
			session := &Session{worker: s.worker, front: front, back: back, state: state}
			s.worker.sessions.add(session)
			if session.movable() || s.worker.Passing() != 0 {
				t.Errorf("a session in state %v whose connection %s stays: movable %v, passing %d; want neither", state, tt.name, session.movable(), s.worker.Passing())
			}
			s.worker.sessions.remove(session)
		}
	}
}
