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
	const hold = `STREAM FILE demo-instruct "#"`
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
		{"fault=accept-close&reset=true", "", "SUCCESS", false},
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
			d := s.script("ivr")
			if test.do != "" {
				d = s.script("ivr", test.do)
			}
			d.url = "agi://" + b.Addr() + d.url[len("agi://")+len(s.front):]
			r := wait(t, 10*time.Second, s.placeOne(t, d))[0]
			if r.status != test.status || (r.served == "direct") != test.served || r.proxyStatus != "" {
				t.Errorf("%v; want %s, served=%v", r, test.status, test.served)
			}
		})
	}
}
