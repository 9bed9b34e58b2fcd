package e2e

import (
	"testing"
	"time"
)

// The cases of this file run without agiproxy: they show that the testbed itself
// is right, and what Asterisk makes of each fault when nobody stands between.

func TestWelcomeAsLocalAGI(t *testing.T) {
	s := begin(t)
	results := wait(t, 30*time.Second, s.place(t, 30, dial{exten: "109"})...)
	mustBeServed(t, results)
	for _, r := range results {
		if r.took() < 3*time.Second || r.served != "local" {
			t.Fatalf("%v; want two seconds of silence and the sound, served by local", r)
		}
	}
}

// Each fault as the dialplan sees it without a proxy: nearly all are SUCCESS.
func TestFaultsWithoutAProxy(t *testing.T) {
	s := begin(t)
	tests := []struct {
		fault  string
		do     string
		status string
		served bool
	}{
		{"fault=ok", "", "SUCCESS", true},
		{"fault=refuse", "", "FAILURE", false},
		{"fault=blackhole", "", "FAILURE", false},
		{"fault=accept-close", "", "SUCCESS", false},
		{"fault=read-close", "", "SUCCESS", false},
		{"fault=read-close&reset=true", "", "SUCCESS", false},
		{"fault=slow&delay=100ms", "", "SUCCESS", true},
		{"fault=pipelined", "NOOP", "SUCCESS", true},
		{"fault=die&after=2", "", "SUCCESS", false},
		{"fault=mid-command&after=1", hold, "SUCCESS", false},
		{"fault=mid-command&after=1&reset=true", hold, "SUCCESS", false},
		{"fault=half-line&after=2", "", "SUCCESS", false},
	}
	for _, test := range tests {
		t.Run(test.fault, func(t *testing.T) {
			b := s.fault(t, "direct", test.fault)
			d := script(b.Addr(), "ivr")
			if test.do != "" {
				d = script(b.Addr(), "ivr", test.do)
			}
			r := wait(t, 10*time.Second, s.placeOne(t, d))[0]
			if r.status != test.status || (r.served == "direct") != test.served || r.proxyStatus != "" {
				t.Errorf("%v; want %s, served=%v", r, test.status, test.served)
			}
		})
	}
}

// A key ends a held call, and a caller who leaves ends it too.
func TestHeldCallsEndAsTheCallerWants(t *testing.T) {
	s := begin(t)
	b := s.fault(t, "direct", "")
	calls := s.place(t, 10, script(b.Addr(), "ivr", hold))
	eventually(t, 10*time.Second, "10 calls are held", func() bool { return b.Stats().Commands == 10 })
	time.Sleep(500 * time.Millisecond)
	if n := underWay(calls); n != 10 {
		t.Fatalf("%d of 10 calls are held; want all", n)
	}
	release(t, calls[:5]...)
	mustBeServed(t, wait(t, 5*time.Second, calls[:5]...))
	for _, c := range calls[5:] {
		c.hangUp(t)
	}
	mustBe(t, wait(t, 5*time.Second, calls[5:]...), "HANGUP", "")
	if st := b.Stats(); st.Done != 5 || st.HungUp != 5 {
		t.Errorf("the server's sessions: %+v; want 5 done and 5 hung up", st)
	}
}
