package app

import (
	"net"
	"strings"
	"testing"
	"time"

	"agiproxy/internal/agisim"
)

// draining is a file whose drain_timeout is that.
func draining(timeout, rest string) string { return "drain_timeout: " + timeout + "\n" + rest }

// After TERM the sessions under way go on to their end, and only they.
func TestDrainWaitsForSessions(t *testing.T) {
	s := startServer(t, "ivr1")
	p := serve(t, draining("1m", file(quick, s.entry(""))))
	held := hold(t, p.addr(0), "hold", s)
	if status, _ := p.get("/-/ready"); status != 200 {
		t.Errorf("/-/ready: %d; want 200", status)
	}
	p.stop()
	eventually(t, "a drain", func() bool { return p.log.count("stopped listening") == 1 })
	if status, why := p.get("/-/ready"); status != 503 || !strings.Contains(why, "draining") {
		t.Errorf("/-/ready in a drain: %d %q; want 503, draining", status, why)
	}
	if status, _ := p.get("/-/healthy"); status != 200 {
		t.Errorf("/-/healthy in a drain: %d; want 200", status)
	}
	if _, metrics := p.get("/metrics"); !strings.Contains(metrics, `agiproxy_sessions_active{backend="ivr1",pool="ivr"} 1`) {
		t.Error("/metrics in a drain doesn't show the session that is left")
	}
	if c, err := net.Dial("tcp", p.addr(0)); err == nil {
		c.Close()
		t.Error("connected in a drain; want it refused")
	}
	probes := s.read(&s.probes)
	eventually(t, "a probe in a drain", func() bool { return s.read(&s.probes) > probes })
	if len(p.end) > 0 || !held.running() {
		t.Error("the drain is over before its session")
	}
	s.release()
	held.wantServed("ivr1")
	p.ended()
	p.wantOutcomes(map[string]uint64{"completed": 1})
	if p.log.count("sessions are cut") > 0 {
		t.Error("sessions were cut")
	}
}

func TestReadyTurnsFalseAtOnce(t *testing.T) {
	s := startServer(t, "ivr1")
	p := serve(t, file(unprobed, s.entry("")))
	if err := p.ready(); err != nil {
		t.Errorf("ready: %v; want nil", err)
	}
	hold(t, p.addr(0), "hold", s)
	p.mu.Lock() // as a reload under way would
	p.App.mu.Lock()
	p.stop()
	eventually(t, "not ready", func() bool { return p.ready() != nil })
	p.App.mu.Unlock()
	p.mu.Unlock()
	s.release()
}

// What is left when the drain's time is over is told SHUTDOWN and failure.
func TestDrainTimeoutCutsSessions(t *testing.T) {
	s := startServer(t, "ivr1")
	p := serve(t, draining("200ms", file(unprobed, s.entry(""))))
	held, inCommand := hold(t, p.addr(0), "hold", s), hold(t, p.addr(0), "exec", s)
	began := time.Now()
	p.stop()
	held.wantFailure("SHUTDOWN")
	inCommand.wantFailure("SHUTDOWN")
	if took := time.Since(began); took < 200*time.Millisecond || took > 200*time.Millisecond+farewell {
		t.Errorf("sessions were cut after %v; want 200ms, and a moment", took)
	}
	s.release()
	p.ended()
	p.wantOutcomes(map[string]uint64{"shutdown": 2})
	p.wantSeries(2, "agiproxy_sessions_total", "shutdown", "ivr")
	p.wantSeries(0, "agiproxy_sessions_active", "ivr1", "ivr")
	p.log.want("sessions are cut")
}

func TestNoDrainTimeoutCutsAtOnce(t *testing.T) {
	s := startServer(t, "ivr1")
	p := serve(t, draining("0", file(unprobed, s.entry(""))))
	held := hold(t, p.addr(0), "hold", s)
	p.stop()
	held.wantFailure("SHUTDOWN")
	s.release()
	p.ended()
}

// The drain's time is that of the file in force.
func TestReloadChangesTheDrainTimeout(t *testing.T) {
	s := startServer(t, "ivr1")
	p := serve(t, draining("1h", file(unprobed, s.entry(""))))
	held := hold(t, p.addr(0), "hold", s)
	p.reload(draining("1ms", file(unprobed, s.entry(""))))
	p.stop()
	held.wantFailure("SHUTDOWN")
	s.release()
	p.ended()
}

func TestCloseCutsADrainShort(t *testing.T) {
	s := startServer(t, "ivr1")
	p := serve(t, draining("1h", file(unprobed, s.entry(""))))
	held := hold(t, p.addr(0), "hold", s)
	p.stop()
	eventually(t, "a drain", func() bool { return p.log.count("draining") == 1 })
	if !held.running() {
		t.Error("the session has ended in the drain; want it to go on")
	}
	p.Close()
	p.Close() // once more does nothing
	held.wantFailure("SHUTDOWN")
	s.release()
	p.ended()
	p.wantOutcomes(map[string]uint64{"shutdown": 1})
}

func TestCloseEndsRun(t *testing.T) {
	s := startServer(t, "ivr1")
	p := serve(t, draining("1h", file(quick, s.entry(""))))
	held := hold(t, p.addr(0), "hold", s)
	p.Close()
	held.wantFailure("SHUTDOWN")
	s.release()
	p.ended()
}

// A call that never sends its header, and one whose Asterisk never closes, don't
// keep a cut from its end.
func TestCutEndsWithMutePeers(t *testing.T) {
	s := startServer(t, "ivr1")
	p := serve(t, draining("0", file(unprobed, s.entry(""))))
	c, err := net.Dial("tcp", p.addr(0))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, "a session", func() bool { return p.server.Sessions() == 1 })
	began := time.Now()
	p.stop()
	p.ended()
	if took := time.Since(began); took > 2*farewell+time.Second {
		t.Errorf("a cut took %v; want at most %v", took, 2*farewell)
	}
	c.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 100)
	if n, _ := c.Read(buf); string(buf[:n]) != "failure\n" {
		t.Errorf("a call without a header was told %q; want failure", buf[:n])
	}
	p.wantOutcomes(map[string]uint64{"shutdown": 1})
}

// A command that can't be interrupted, as a Dial, doesn't make a cut look like
// success: the dialplan is told failure when it is over.
func TestCutInALongCommand(t *testing.T) {
	began := make(chan struct{})
	s, err := agisim.Listen("127.0.0.1:0", func(s *agisim.Session) {
		s.Header()
		s.Send("EXEC Wait 4")
		close(began)
		s.Await()
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Kill()
	p := serve(t, draining("0", file(unprobed, s.Addr().String())))
	c := place(t, p.addr(0), "dial")
	<-began
	p.stop()
	p.ended()
	if r := c.result(); r.Status != agisim.Failure {
		t.Errorf("AGISTATUS=%s (%v) after a cut; want FAILURE", r.Status, r.Err)
	}
}

func TestStopBeforeRun(t *testing.T) {
	p := prepare(t, file(quick, "127.0.0.1:1"))
	p.Close()
	p.run()
	p.ended()
}
