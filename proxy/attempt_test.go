package proxy

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestAbandonedConnectIsAnAttempt(t *testing.T) {
	s := newStage(Options{}, limits())
	s.accept(asteriskAddr)
	s.handler.Received(plainHeader)
	s.handler.Closed(nil)
	if n := testutil.CollectAndCount(s.server.Collector(), "agiproxy_attempts_total"); n != 1 {
		t.Errorf("agiproxy_attempts_total has %d series; want 1: abandoned", n)
	}
}

// Asterisk is killed while it runs a command: from then on the server owes the
// session's end, and one that is stopped makes no progress.
func TestAsteriskThatIsGoneExplainsNoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(Options{}, limits())
		s.establish(plainHeader)
		s.host.back.handler.Received([]byte("EXEC Dial x\n"))
		s.handler.Closed(nil)
		b := s.server.Table().Pools[0].Backends().Backends()[0]
		b.Progressing() // remembers the moves
		time.Sleep(time.Minute)
		if b.Progressing() {
			t.Error("Progressing() = true a minute after Asterisk has gone; want false: the server owes the end")
		}
	})
}

func TestDispatchTimeoutHoldsWithoutAConnectTimeout(t *testing.T) {
	s := newStage(Options{}, limits())
	s.server.Table().Pools[0].opts.ConnectTimeout = 0
	s.server.Table().Pools[0].opts.DispatchTimeout = time.Second
	s.accept(asteriskAddr)
	s.handler.Received(plainHeader)
	if s.front.timer == 0 {
		t.Error("no timer while connecting; want the dispatch timeout")
	}
}

// A caller who has left with his header costs no backend anything.
func TestHangupWithTheHeaderIsNoAttempt(t *testing.T) {
	var record *Record
	s := newStage(Options{Ended: func(r Record) { record = &r }}, limits())
	s.accept(asteriskAddr)
	s.handler.Received(append(plainHeader[:len(plainHeader):len(plainHeader)], goodbye...))
	if s.host.back.handler != nil {
		t.Error("a backend was connected to; want none: the caller has left")
	}
	s.handler.Closed(nil)
	if record == nil || record.Outcome != Hangup || record.Attempts != 0 {
		t.Errorf("record %+v; want a hangup without an attempt", record)
	}
}
