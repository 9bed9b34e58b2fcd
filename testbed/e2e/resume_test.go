package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"agiproxy/testbed/fastagi/fault"
)

// resuming is a pool that tries everything to lose no call. An ejection would send
// fewer calls to the backend that is to fail.
const resuming = `
	balance: round-robin
	replay: unanswered
	on_backend_loss: resume
	first_command_timeout: 5s
	think_timeout: 2s
	ejection: {failures: 0}
	health: {probe: none}
`

// leaveAMark returns a script that asks for a variable, sets it, and then does the
// rest. A backend that resumes a call finds what another one has set.
func leaveAMark(rest ...string) []string {
	return append([]string{"GET VARIABLE MARK", "SET VARIABLE MARK seen"}, rest...)
}

// marked is how many commands are answered when the rest of such a script begins:
// BEGUN is set before it.
const marked = 3

// mustBeResumed fails the test unless want of a backend's calls were begun by
// another one: their headers say so, and what that one has set is there.
func mustBeResumed(t *testing.T, calls []fault.Session, want int) {
	t.Helper()
	resumed := 0
	for _, c := range calls {
		attempt, yes, mark := "", "", "200 result=0"
		if c.Attempt != "" {
			attempt, yes, mark = "2", "yes", "200 result=1 (seen)"
			resumed++
		}
		if c.Attempt != attempt || c.Resumed != yes || len(c.Replies) < 2 || c.Replies[1] != mark {
			t.Errorf("a session with agi_attempt %q, agi_resumed %q, replies %q; want %q, %q, and %q to the second command",
				c.Attempt, c.Resumed, c.Replies, attempt, yes, mark)
		}
	}
	if resumed != want {
		t.Errorf("%d calls were resumed; want %d", resumed, want)
	}
}

// mustCountResumed fails the test unless agiproxy says the same.
func (p *proxy) mustCountResumed(t *testing.T, want int) {
	t.Helper()
	p.suite.prometheus.scraped(t)
	if n := p.suite.prometheus.sum(t, "agiproxy_resumed_sessions_total"); n != float64(want) {
		t.Errorf("agiproxy_resumed_sessions_total: %v; want %d", n, want)
	}
}

// A backend is killed while Asterisk carries out its command, whatever that is, and
// another one goes on with its calls. Asterisk notices nothing.
func TestResumeAfterAKillInAsterisksTurn(t *testing.T) {
	s := begin(t)
	const n = 20
	for _, test := range []struct {
		command string
		held    bool // until a key is pressed
	}{
		{`WAIT FOR DIGIT 3000`, false},
		{hold, true},
		{`GET DATA demo-instruct 3000 4`, true},
		{`EXEC Wait 2`, false},
		{`SAY NUMBER 17 ""`, false},
	} {
		t.Run(test.command, func(t *testing.T) {
			one, two := s.fastagiServer(t, "ivr1"), s.fastagiServer(t, "ivr2")
			p := s.proxy(t, s.pool(resuming, one, two))
			atRest := p.atRest(t)
			calls := s.place(t, n, s.script("ivr", leaveAMark(test.command)...))
			inCommand := func(servers ...*fastagiServer) (commands int) {
				for _, b := range servers {
					commands += b.stats(t).Commands
				}
				return commands
			}
			eventually(t, 20*time.Second, "all calls are in Asterisk's turn", func() bool { return inCommand(one, two) == marked*n })
			time.Sleep(200 * time.Millisecond)
			doomed := one.stats(t).Begun
			one.kill()
			if test.held {
				eventually(t, 20*time.Second, "the calls of the killed backend are in the same command of another one", func() bool {
					return inCommand(two) == marked*n
				})
				time.Sleep(200 * time.Millisecond)
				if under := underWay(calls); under != n {
					t.Errorf("%d of %d calls are held; want all", under, n)
				}
				release(t, calls...)
			}
			results := wait(t, 30*time.Second, calls...)
			mustBeServed(t, results)
			if by := servedBy(results); by["ivr2"] != n || doomed != n/2 {
				t.Errorf("calls by who served them: %v, and the killed backend had %d; want all on ivr2, and %d", by, doomed, n/2)
			}
			mustBeResumed(t, two.calls(t), doomed)
			p.account(t, results, map[string]int{"completed": n})
			p.mustCountResumed(t, doomed)
			p.mustLeakNothing(t, atRest)
		})
	}
}

// Every other way in which a backend can leave its calls but one: a clean close in
// its own turn, which is how scripts end.
func TestResumeAfterEachLoss(t *testing.T) {
	s := begin(t)
	const n = 20
	for _, query := range []string{
		"fault=die&after=3&reset=true",
		"fault=mid-command&after=3",
		"fault=mid-command&after=3&reset=true",
		"fault=half-line&after=3",
		"fault=half-line&after=3&reset=true",
		"fault=long-line&after=3",
	} {
		t.Run(query, func(t *testing.T) {
			good, bad := s.fault(t, "good", ""), s.fault(t, "bad", query)
			p := s.proxy(t, s.pool(resuming, good, bad))
			atRest := p.atRest(t)
			results := wait(t, 30*time.Second, s.place(t, n, s.script("ivr", leaveAMark("WAIT FOR DIGIT 500")...))...)
			mustBeServed(t, results)
			if by := servedBy(results); by["good"] != n {
				t.Errorf("calls by who served them: %v; want all on good", by)
			}
			lost := bad.begun()
			if lost != n/2 {
				t.Errorf("the bad backend began %d calls; want %d", lost, n/2)
			}
			mustBeResumed(t, good.Calls(), lost)
			p.account(t, results, map[string]int{"completed": n})
			p.mustCountResumed(t, lost)
			p.mustLeakNothing(t, atRest)
		})
	}
}

// A backend that is stopped thinks for ever; think_timeout finds it out. When it goes
// on, nobody listens to it any more.
func TestResumeAfterAStop(t *testing.T) {
	s := begin(t)
	const n = 20
	one, two := s.fastagiServer(t, "ivr1"), s.fastagiServer(t, "ivr2")
	p := s.proxy(t, s.pool(resuming, one, two))
	atRest := p.atRest(t)
	calls := s.place(t, n, s.script("ivr", leaveAMark("WAIT FOR DIGIT 1500", "WAIT FOR DIGIT 300")...))
	eventually(t, 20*time.Second, "all calls are in Asterisk's turn", func() bool {
		return one.stats(t).Commands+two.stats(t).Commands == marked*n
	})
	one.freeze(t)
	results := wait(t, 30*time.Second, calls...)
	one.thaw(t)
	mustBeServed(t, results)
	if by := servedBy(results); by["ivr2"] != n {
		t.Errorf("calls by who served them: %v; want all on ivr2", by)
	}
	mustBeResumed(t, two.calls(t), n/2)
	p.account(t, results, map[string]int{"completed": n})
	p.mustLeakNothing(t, atRest)
}

// A caller who hangs up while the lost backend's command is waited for is not taken
// to another backend.
func TestResumeStopsWhenTheCallerHangsUp(t *testing.T) {
	s := begin(t)
	const n = 20
	bad, good := s.fault(t, "bad", "fault=mid-command&after=1"), s.fault(t, "good", "")
	p := s.proxy(t, s.pool(resuming, bad, special{good, "backup: true"}))
	atRest := p.atRest(t)
	// nothing but a hangup ends the command before its time
	d := s.script("ivr", "EXEC Wait 10")
	d.leave = 1500 * time.Millisecond
	results := wait(t, 20*time.Second, s.place(t, n, d)...)
	mustBe(t, results, "HANGUP", "")
	if st := good.Stats(); st.Accepted != 0 {
		t.Errorf("the sessions of the other backend: %+v; want none", st)
	}
	p.account(t, results, map[string]int{"hangup": n})
	p.mustCountResumed(t, 0)
	p.mustLeakNothing(t, atRest)
}

// Where every backend fails in mid-call, the dialplan is told the truth.
func TestResumeWithNoBackendLeft(t *testing.T) {
	s := begin(t)
	const n = 20
	one, two := s.fault(t, "ivr1", "fault=mid-command&after=3"), s.fault(t, "ivr2", "fault=mid-command&after=3")
	p := s.proxy(t, s.pool(resuming+"\nattempts: 2", one, two))
	atRest := p.atRest(t)
	results := wait(t, 20*time.Second, s.place(t, n, s.script("ivr", leaveAMark("WAIT FOR DIGIT 2000")...))...)
	mustBe(t, results, "FAILURE", "BACKENDLOST")
	mustBeResumed(t, append(one.Calls(), two.Calls()...), n)
	p.account(t, results, map[string]int{"lost": n})
	p.mustLeakNothing(t, atRest)
}

// The Perl application is killed, all its processes at once, while it plays.
func TestResumeOfAPerlApplication(t *testing.T) {
	s := begin(t)
	const n = 20
	servers := s.perls(t, "fork", []string{"perl1", "perl2", "perl3"},
		"FASTAGI_WAIT=0", "FASTAGI_SOUND=demo-instruct", "FASTAGI_DIGITS=#")
	p := s.proxy(t, s.pool(resuming, servers[0], servers[1], servers[2]))
	atRest := p.atRest(t)
	calls := s.place(t, n, s.script("ivr"))
	eventuallyPlaying(t, n, servers...)
	one := servers[0]
	doomed := len(one.playing())
	if err := one.signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-one.exited
	eventuallyPlaying(t, n, servers[1:]...)
	release(t, calls...)
	results := wait(t, 20*time.Second, calls...)
	mustBeServed(t, results)
	if by := servedBy(results); by["perl1"] != 0 || doomed == 0 {
		t.Errorf("calls by who served them: %s, and the killed backend had %d; want none on perl1, which had some", fmt.Sprint(by), doomed)
	}
	p.account(t, results, map[string]int{"completed": n})
	p.mustCountResumed(t, doomed)
	p.mustLeakNothing(t, atRest)
}

// A backend is killed while Asterisk's reply is on its way to it, which takes a while
// where agiproxy's machine is busy. The reply has reached nobody, so the close is no
// end of a script, even where agiproxy learns of it after the reply.
func TestResumeWhenADeadBackendHasNotReadTheReply(t *testing.T) {
	s := begin(t)
	for _, first := range []string{"the reply comes first", "the death comes first"} {
		t.Run(first, func(t *testing.T) { resumeWithBoth(t, s, first == "the reply comes first") })
	}
}

func resumeWithBoth(t *testing.T, s *suite, replyFirst bool) {
	const n = 20
	one, two := s.fastagiServer(t, "ivr1"), s.fastagiServer(t, "ivr2")
	p := s.proxy(t, s.pool(resuming, one, two))
	atRest := p.atRest(t)
	calls := s.place(t, n, s.script("ivr", leaveAMark("WAIT FOR DIGIT 1000")...))
	eventually(t, 20*time.Second, "all calls are in Asterisk's turn", func() bool {
		return one.stats(t).Commands+two.stats(t).Commands == marked*n
	})
	p.freeze(t)
	if !replyFirst {
		one.kill()
	}
	time.Sleep(1500 * time.Millisecond) // until Asterisk has replied
	if replyFirst {
		one.kill()
	}
	p.thaw(t)
	results := wait(t, 30*time.Second, calls...)
	mustBeServed(t, results)
	mustBeResumed(t, two.calls(t), n/2)
	p.account(t, results, map[string]int{"completed": n})
	p.mustLeakNothing(t, atRest)
}
