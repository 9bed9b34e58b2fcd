package e2e

import (
	"testing"
	"time"
)

// With no backend left, the pool's own commands take the call elsewhere in the
// dialplan, which is told why.
func TestFallbackTakesTheCallElsewhere(t *testing.T) {
	s := begin(t)
	const n = 20
	gone := s.fault(t, "ivr1", "fault=refuse")
	p := s.proxy(t, s.pool(`
		health: {probe: none}
		fallback: {commands: ["SET VARIABLE FELL yes", "EXEC Playback welcome", "SET CONTEXT elsewhere", "SET EXTENSION taken", "SET PRIORITY 1"], then: completed}`, gone))
	atRest := p.atRest(t)
	results := wait(t, 20*time.Second, s.place(t, n, s.script("ivr"))...)
	for _, r := range results {
		if r.where != "elsewhere" || r.status != "SUCCESS" || r.proxyStatus != "NOBACKEND" || r.fell != "yes" || r.served != "" {
			t.Errorf("%v; want SUCCESS, NOBACKEND, elsewhere, fell=yes", r)
		}
		if r.took() < time.Second {
			t.Errorf("%v; want that the sound is played, which takes more than a second", r)
		}
	}
	p.account(t, results, map[string]int{"no_backend": n})
	p.mustLeakNothing(t, atRest)
}

// Each command awaits its reply, however many lines that has, and the dialplan is
// told that nobody has served the call.
func TestFallbackThenFailure(t *testing.T) {
	s := begin(t)
	const n = 20
	gone := s.fault(t, "ivr1", "fault=refuse")
	// abc is no number, so the usage is the answer; the variable is of three lines
	p := s.proxy(t, s.pool(`
		health: {probe: none}
		fallback: {commands: ["SAY NUMBER abc 0", 'EXEC Exec "Set(LINES=${URIDECODE(1%0A200 result=1%0A3)})"', "GET VARIABLE LINES", "EXEC Playback beep", "SET VARIABLE FELL yes"], then: failure}`, gone))
	atRest := p.atRest(t)
	results := wait(t, 20*time.Second, s.place(t, n, s.script("ivr"))...)
	mustBe(t, results, "FAILURE", "NOBACKEND")
	for _, r := range results {
		if r.where != "after" || r.fell != "yes" {
			t.Errorf("%v; want fell=yes, and that the dialplan goes on after AGI()", r)
		}
	}
	p.account(t, results, map[string]int{"no_backend": n})
	p.mustLeakNothing(t, atRest)
}

// A caller who leaves while a fallback's command runs has its end: the commands that
// Asterisk would carry out without the caller are not sent.
func TestFallbackEndsWhenTheCallerLeaves(t *testing.T) {
	s := begin(t)
	const n = 20
	gone := s.fault(t, "ivr1", "fault=refuse")
	p := s.proxy(t, s.pool(`
		health: {probe: none}
		fallback: {commands: ["EXEC Playback demo-instruct", "SET VARIABLE FELL yes"], then: completed}`, gone))
	atRest := p.atRest(t)
	d := s.script("ivr")
	d.leave = time.Second
	results := wait(t, 10*time.Second, s.place(t, n, d)...)
	mustBe(t, results, "HANGUP", "")
	for _, r := range results {
		if r.fell != "" {
			t.Errorf("%v; want that nothing follows the command in which the caller left", r)
		}
	}
	p.account(t, results, map[string]int{"no_backend": n})
	p.mustLeakNothing(t, atRest)
}
