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

// What a dispatch has used isn't kept until the session's end, which may be far.
func TestNothingIsKeptOfADispatchThatIsOver(t *testing.T) {
	const lost = "asterisk header\nivr1 expects header\nivr1 EXEC Wait 1\nasterisk expects EXEC Wait 1\nivr1 resets\nasterisk expects GET FULL VARIABLE " + anyMarker + "\n"
	for name, dialogue := range map[string]string{
		"Asterisk has closed, the backend goes on": "asterisk header\nivr1 expects header\nivr1 NOOP\nasterisk expects NOOP\nasterisk closes\nivr1 expects close",
		"the backend has closed, Asterisk lingers": "asterisk header\nivr1 expects header\nivr1 closes\nasterisk expects close",
		"agiproxy ends while a command runs":       lost + "stop",
		"the command was answered, not the question": lost + "asterisk 200 result=0\nasterisk expects GET FULL VARIABLE " + anyMarker + "\n" +
			"asterisk expects SET VARIABLE AGIPROXYSTATUS BACKENDLOST",
		"the caller has left while a command ran": lost + "asterisk HANGUP\nasterisk expects close",
		"nobody serves, the fallback runs":        "ivr1 refuses\nasterisk header\nasterisk expects EXEC Playback sorry",
	} {
		p := newPlayer(t)
		p.run("pool on_backend_loss resume\nfallback EXEC Playback sorry\nbackends ivr1\n" + dialogue)
		switch s := p.session(); {
		case s == nil:
			t.Errorf("%s: the session has ended", name)
		case s.dispatching != nil || len(p.worker.spare) != 1:
			t.Errorf("%s: its dispatch is kept: %v, %d are spare; want it given back", name, s.dispatching != nil, len(p.worker.spare))
		}
		p.finish()
	}
}

// A server closes in its own turn while Asterisk's last reply is still on its way
// to it: its script has ended only if it has read that.
func TestCloseInItsOwnTurnIsProved(t *testing.T) {
	told := "SET VARIABLE AGIPROXYSTATUS BACKENDLOST\n"
	for _, c := range []struct {
		name    string
		then    func(s *stage)
		outcome Outcome
		last    string // that Asterisk is told
	}{
		{"the reply is acknowledged", func(s *stage) {
			s.host.back.unacked = 0
			s.handler.TimedOut()
		}, Completed, ""},
		{"the connection is reset", func(s *stage) { s.host.back.handler.Closed(syscall.ECONNRESET) }, Lost, told},
		{"nothing comes", func(s *stage) {
			for end := s.host.now + proofLimit; s.host.now <= end; {
				s.host.now += proofStep
				s.handler.TimedOut()
			}
		}, Lost, told},
		{"Asterisk closes meanwhile", func(s *stage) { s.handler.Closed(nil) }, Hangup, ""},
		{"the caller hangs up meanwhile, and it is acknowledged", func(s *stage) {
			before := s.front.timer
			s.handler.Received(goodbye)
			if s.front.timer != before {
				t.Errorf("timer at %v after a hangup; want %v: the backend has no turn any more", s.front.timer, before)
			}
			s.host.back.unacked = 0
			s.handler.TimedOut()
		}, Hangup, ""},
		{"agiproxy ends meanwhile", func(s *stage) { s.worker.Stop() }, Shutdown, "SET VARIABLE AGIPROXYSTATUS SHUTDOWN\n"},
	} {
		var record *Record
		s := newStage(Options{Ended: func(r Record) { record = &r }}, limits())
		s.establish(plainHeader)
		s.front.last = s.front.last[:0]
		s.host.back.unacked = len(okReply)
		s.host.back.handler.Closed(nil)
		if want := s.host.now + proofStep; s.front.timer != want || s.front.writeEnd {
			t.Errorf("%s: timer at %v, ended %v; want to look again at %v", c.name, s.front.timer, s.front.writeEnd, want)
		}
		c.then(s)
		if got := string(s.front.last); got != c.last {
			t.Errorf("%s: Asterisk was told %q; want %q", c.name, got, c.last)
		}
		if record == nil {
			s.handler.Closed(nil)
		}
		if record == nil || record.Outcome != c.outcome {
			t.Errorf("%s: record %+v; want outcome %v", c.name, record, c.outcome)
		}
	}
}
