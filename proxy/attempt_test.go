package proxy

import (
	"errors"
	"syscall"
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

// A server that shuts its side down before it closes, as Python's socketserver
// does, and has not read Asterisk's reply: the reset may be there by the time that
// the end is told.
func TestResetBehindTheEndIsALoss(t *testing.T) {
	var ended Record
	s := newStage(Options{Ended: func(r Record) { ended = r }}, limits())
	s.establish(plainHeader)
	s.host.back.lost = syscall.EPIPE
	s.host.back.handler.Closed(nil)
	s.handler.Closed(nil)
	if ended.Outcome != Lost || !errors.Is(ended.Err, syscall.EPIPE) {
		t.Errorf("outcome %v (%v); want lost, by %v", ended.Outcome, ended.Err, syscall.EPIPE)
	}
}
