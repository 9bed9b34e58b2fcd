package e2e

import (
	"fmt"
	"testing"
	"time"
)

// quick makes hundreds of calls of a Perl backend cheap. A call still costs it some
// 10 ms of a processor, so that few run at a time.
var quick = []string{"FASTAGI_WAIT=0.05", "FASTAGI_SOUND=beep", "FASTAGI_MIN=10", "FASTAGI_MAX=40"}

const quickCalls = 20 // at a time

// The Perl application as it is, two seconds of silence included, on three
// servers: extension 108.
func TestWelcomeThroughAgiproxy(t *testing.T) {
	s := begin(t)
	names := []string{"perl1", "perl2", "perl3"}
	servers := s.perls(t, "fork", names)
	p := s.proxy(t, s.pool(`
		balance: round-robin
		health: {timeout: 3s}`, servers[0], servers[1], servers[2]))

	results := s.run(t, 300, 75, dial{exten: "108"})
	mustBeServed(t, results)
	by := servedBy(results)
	for _, name := range names {
		if by[name] < 80 {
			t.Errorf("calls by backend: %v; want about 100 for %s", by, name)
		}
	}
	mustNotRepeat(t, servers...)
	p.account(t, results, map[string]int{"completed": 300})
}

// The path, the query and the arguments of extension 110 reach the backend.
func TestScriptAndArgumentsArrive(t *testing.T) {
	s := begin(t)
	b := s.fault(t, "ivr1", "")
	p := s.proxy(t, s.pool(`health: {probe: none}`, b))
	results := wait(t, 10*time.Second, s.placeOne(t, dial{exten: "110"}))
	mustBeServed(t, results)
	calls := b.Calls()
	if len(calls) != 1 || calls[0].Script != "menu/main.agi?x=1&y=two" || calls[0].UniqueID != results[0].uniqueID ||
		fmt.Sprint(calls[0].Arguments) != "[arg one arg2]" {
		t.Errorf("the backend got %+v; want menu/main.agi?x=1&y=two with [arg one arg2] of call %s", calls, results[0].uniqueID)
	}
	p.account(t, results, map[string]int{"completed": 1})
}

// With one of three backends out of order in whatever way, every call is served.
// Where a bad backend is found out at once, probes are off, so that nothing but the
// dispatch of each call stands between the caller and it.
func TestOneOfThreeBackendsFails(t *testing.T) {
	s := begin(t)
	tests := []struct {
		name       string
		fault      string // of the third backend; "" means a Perl one that is stopped
		unanswered bool   // the pool's replay; else unread
		silent     bool   // it takes a while to find out, for calls and probes
	}{
		{"refused", "fault=refuse", false, false},
		{"accepts and closes", "fault=accept-close", false, false},
		{"accepts and resets", "fault=accept-close&reset=true", false, false},
		{"reads and resets", "fault=read-close&reset=true", false, false},
		{"blackholed", "fault=blackhole", false, true},
		{"reads and closes", "fault=read-close", true, false},
		{"mute", "fault=mute", true, true},
		{"stopped", "", true, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			good := []*perlServer{s.perl(t, "fork", "perl1", quick...), s.perl(t, "prefork", "perl2", quick...)}
			var bad backend
			if test.fault != "" {
				bad = s.fault(t, "bad", test.fault)
			} else {
				b := s.perl(t, "fork", "bad", quick...)
				b.freeze(t)
				bad = b
			}
			// An ejection would keep the bad one out of sight.
			const calls = 120 // a third of which come to the bad one first
			settings, tries := "balance: round-robin\nconnect_timeout: 500ms\nejection: {failures: 0}\n", 0.3*calls
			if test.silent {
				settings += "health: {interval: 500ms, timeout: 3s}\n"
				tries = 1
			} else {
				settings += "health: {probe: none}\n"
			}
			if test.unanswered {
				settings += "replay: unanswered\nfirst_command_timeout: 4s\n"
			}
			p := s.proxy(t, s.pool(settings, good[0], bad, good[1]))

			results := s.run(t, calls, quickCalls, s.script("ivr"))
			mustBeServed(t, results)
			if !test.unanswered {
				mustNotRepeat(t, good...)
			}
			p.account(t, results, map[string]int{"completed": calls})
			if n := s.prometheus.sum(t, `agiproxy_attempts_total{backend="bad"}`); n < tries {
				t.Errorf("agiproxy_attempts_total of the bad backend: %v; want at least %v", n, tries)
			}
			if test.silent { // three probes, which may outlast the calls
				eventually(t, 20*time.Second, "agiproxy_backend_up of the bad backend is 0", func() bool {
					return s.prometheus.sum(t, `count(agiproxy_backend_up{backend="bad"} == 0)`) == 1
				})
			}
		})
	}
}

// Backends are killed, stopped and started again while calls run, with probes
// watching. Only the calls that a killed backend had begun to serve fail, and say so.
func TestBackendsComeAndGo(t *testing.T) {
	s := begin(t)
	// no pause after the sound: a backend that dies in its own turn, after the last
	// reply, cannot be told from one that has done its work
	servers := s.perls(t, "fork", []string{"perl1", "perl2", "perl3"}, append(quick, "FASTAGI_WAIT_AFTER=0", "FASTAGI_DIGITS=#")...)
	long := s.script("ivr?sound=demo-instruct") // until a key is pressed
	one, two, three := servers[0], servers[1], servers[2]
	p := s.proxy(t, s.pool(`
		balance: round-robin
		replay: unanswered
		first_command_timeout: 4s
		connect_timeout: 500ms
		health: {interval: 500ms, fast_interval: 200ms, timeout: 3s, rise: 2, fall: 2}`, one, two, three))
	up := func(name string, want float64) {
		t.Helper()
		eventually(t, 15*time.Second, fmt.Sprintf("agiproxy_backend_up of %s is %v", name, want), func() bool {
			return s.prometheus.sum(t, fmt.Sprintf(`agiproxy_backend_up{backend=%q}`, name)) == want
		})
	}
	var all []result
	serve := func(n int) {
		t.Helper()
		results := s.run(t, n, quickCalls, s.script("ivr"))
		mustBeServed(t, results)
		all = append(all, results...)
	}
	p.suite.prometheus.scraped(t)
	up("perl1", 1)

	// killed while it plays to a third of the callers
	calls := s.place(t, 45, long)
	eventuallyPlaying(t, 45, servers...)
	doomed := one.playing()
	one.kill()
	if len(doomed) < 10 {
		t.Fatalf("perl1 had %d of 45 calls; want about 15", len(doomed))
	}
	eventually(t, 5*time.Second, "the calls of the killed backend have ended", func() bool { return underWay(calls) == 45-len(doomed) })
	release(t, calls...)
	var lost, kept []result
	for _, r := range wait(t, 20*time.Second, calls...) {
		if doomed[r.uniqueID] {
			lost = append(lost, r)
		} else {
			kept = append(kept, r)
		}
	}
	mustBe(t, lost, "FAILURE", "BACKENDLOST")
	mustBeServed(t, kept)
	all = append(append(all, lost...), kept...)

	serve(60)
	up("perl1", 0)
	one.start(t)
	up("perl1", 1)

	// stopped while it plays to a third of the callers, who wait until it goes on
	calls = s.place(t, 45, long)
	eventuallyPlaying(t, 45, servers...)
	frozen := len(two.playing())
	two.freeze(t)
	release(t, calls...)
	serve(60)
	if n := underWay(calls); n != frozen || n < 10 {
		t.Errorf("%d calls wait for the stopped backend; want the %d that it has, about 15", n, frozen)
	}
	two.thaw(t)
	results := wait(t, 20*time.Second, calls...)
	mustBeServed(t, results)
	all = append(all, results...)

	// killed while it has no call; the next calls come before a probe does
	up("perl2", 1)
	three.kill()
	serve(60)
	three.start(t)
	up("perl3", 1)

	results = s.run(t, 45, 45, s.script("ivr"))
	mustBeServed(t, results)
	if by := servedBy(results); len(by) != 3 {
		t.Errorf("calls by backend with all three up again: %v; want all three", by)
	}
	all = append(all, results...)
	p.account(t, all, map[string]int{"completed": len(all) - len(lost), "lost": len(lost)})
}
