package e2e

import (
	"testing"
	"time"
)

// With all backends gone the dialplan is told, and soon.
func TestAllBackendsGone(t *testing.T) {
	s := begin(t)
	servers := s.perls(t, "fork", []string{"perl1", "perl2", "perl3"}, quick...)
	p := s.proxy(t, s.pool(`balance: least-connections`, servers[0], servers[1], servers[2]))
	served := s.run(t, 10, 10, s.script("ivr"))
	mustBeServed(t, served)
	for _, b := range servers {
		b.kill()
	}
	// the first of these calls come before a probe has noticed
	down := s.run(t, 290, 50, s.script("ivr"))
	down = append(down, s.run(t, 10, 10, dial{exten: "111"})...)
	mustBe(t, down, "FAILURE", "NOBACKEND")
	for i, r := range down {
		if r.took() >= time.Second {
			t.Errorf("%v; want less than a second", r)
		}
		if i >= 290 && r.where != "down" {
			t.Errorf("%v; want the branch for an outage", r)
		}
	}
	p.account(t, append(served, down...), map[string]int{"completed": 10, "no_backend": 300})
}

// A backend that is killed while Asterisk carries out its command leaves the truth
// behind: FAILURE and BACKENDLOST, and never a SUCCESS.
func TestBackendKilledInAsterisksTurn(t *testing.T) {
	s := begin(t)
	for _, command := range []string{`WAIT FOR DIGIT 5000`, hold, `EXEC Wait 3`} {
		t.Run(command, func(t *testing.T) {
			one, two := s.fastagiServer(t, "ivr1"), s.fastagiServer(t, "ivr2")
			p := s.proxy(t, s.pool("balance: round-robin\nhealth: {probe: none}", one, two))
			const n = 100
			calls := s.place(t, n, s.script("ivr", command))
			// the first command is answered, so the second is under way
			eventually(t, 20*time.Second, "all calls are in Asterisk's turn", func() bool {
				return one.stats(t).Commands+two.stats(t).Commands == n
			})
			time.Sleep(200 * time.Millisecond)
			doomed := one.stats(t).Commands
			one.kill()
			if command == hold {
				eventually(t, 10*time.Second, "the calls of the killed backend have ended", func() bool {
					return underWay(calls) == n-doomed
				})
				release(t, calls...)
			}
			var lost, kept []result
			results := wait(t, 20*time.Second, calls...)
			for _, r := range results {
				if r.begun == "ivr1" {
					lost = append(lost, r)
				} else {
					kept = append(kept, r)
				}
			}
			mustBe(t, lost, "FAILURE", "BACKENDLOST")
			mustBeServed(t, kept)
			if len(lost) != doomed || doomed != n/2 {
				t.Errorf("%d calls were lost; want %d, which the killed backend had", len(lost), n/2)
			}
			p.account(t, results, map[string]int{"completed": n - doomed, "lost": doomed})
		})
	}
}

// What goes wrong in mid-session, as the dialplan sees it through agiproxy. Compare
// TestFaultsWithoutAProxy.
func TestFaultsInMidSession(t *testing.T) {
	s := begin(t)
	// the name is long, so that half of the line that sets SERVED would set it
	const name = "a-backend-with-a-name-that-is-longer-than-the-command-before-it"
	tests := []struct {
		fault                        string
		status, proxyStatus, outcome string
		served                       bool
	}{
		{"fault=slow&delay=100ms", "SUCCESS", "", "completed", true},
		{"fault=pipelined", "SUCCESS", "", "completed", true},
		// in its own turn with nothing unanswered: not to be told from a script's end
		{"fault=die&after=2", "SUCCESS", "", "completed", false},
		{"fault=die&after=2&reset=true", "FAILURE", "BACKENDLOST", "lost", false},
		{"fault=mid-command&after=1", "FAILURE", "BACKENDLOST", "lost", false},
		{"fault=mid-command&after=1&reset=true", "FAILURE", "BACKENDLOST", "lost", false},
		{"fault=half-line&after=2", "FAILURE", "BACKENDLOST", "lost", false},
		{"fault=half-line&after=2&reset=true", "FAILURE", "BACKENDLOST", "lost", false},
		{"fault=long-line&after=1", "FAILURE", "BACKENDLOST", "lost", false},
	}
	for _, test := range tests {
		t.Run(test.fault, func(t *testing.T) {
			b := s.fault(t, name, test.fault)
			p := s.proxy(t, s.pool(`health: {probe: none}`, b))
			results := wait(t, 20*time.Second, s.place(t, 10, s.script("ivr", `WAIT FOR DIGIT 300`))...)
			for _, r := range results {
				if r.status != test.status || r.proxyStatus != test.proxyStatus || (r.served == name) != test.served || (r.served != "") != test.served {
					t.Fatalf("%v; want AGISTATUS=%s AGIPROXYSTATUS=%s, served=%v", r, test.status, test.proxyStatus, test.served)
				}
			}
			mustNotRepeatFaults(t, b)
			p.account(t, results, map[string]int{test.outcome: len(results)})
		})
	}
}
