package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// A reload takes a backend out of the pool while it has calls: they go on to their
// end, and the calls to come go elsewhere.
func TestReloadDrainsARemovedBackend(t *testing.T) {
	s := begin(t)
	one, two, three := s.fault(t, "ivr1", ""), s.fault(t, "ivr2", ""), s.fault(t, "ivr3", "")
	const settings = "balance: round-robin"
	p := s.proxy(t, s.pool(settings, one, two))
	before := s.place(t, 20, s.script("ivr", hold))
	eventually(t, 10*time.Second, "20 calls are held", func() bool { return one.begun()+two.begun() == 20 })
	on := [3]int{one.begun(), two.begun(), 0}

	p.reload(t, s.pool(settings, two, three), true)
	after := s.place(t, 20, s.script("ivr", hold))
	eventually(t, 10*time.Second, "20 more calls are held", func() bool {
		return one.begun()+two.begun()+three.begun() == 40
	})
	if one.begun() != on[0] || two.begun() != on[1]+10 || three.begun() != 10 {
		t.Errorf("scripts begun on ivr1, ivr2 and ivr3: %d, %d, %d; want %d, %d, 10",
			one.begun(), two.begun(), three.begun(), on[0], on[1]+10)
	}
	calls := append(before, after...)
	if n := underWay(calls); n != 40 {
		t.Errorf("%d of 40 calls are held; want all", n)
	}
	s.prometheus.scraped(t)
	if n := s.prometheus.sum(t, `agiproxy_sessions_active{backend!="ivr1"}`); n != 30 {
		t.Errorf("agiproxy_sessions_active of the backends that are left: %v; want 30", n)
	}
	release(t, calls...)
	results := wait(t, 10*time.Second, calls...)
	mustBeServed(t, results)
	mustNotRepeatFaults(t, one, two, three)
	p.account(t, results, map[string]int{"completed": 40})
}

// A file with a fault changes nothing, and agiproxy says what is wrong with it.
func TestReloadOfABadFileChangesNothing(t *testing.T) {
	s := begin(t)
	b := s.fault(t, "ivr1", "")
	good := s.pool("balance: round-robin", b)
	p := s.proxy(t, good)
	calls := s.place(t, 20, s.script("ivr", hold))
	eventually(t, 10*time.Second, "20 calls are held", func() bool { return b.begun() == 20 })

	p.reload(t, strings.Replace(good, "balance: round-robin", "balance: round-robbing", 1), false)
	if log := p.log(); !strings.Contains(log, "round-robbing") {
		t.Errorf("agiproxy's log does not say what is wrong with the file:\n%s", log)
	}
	more := s.run(t, 20, 20, s.script("ivr"))
	mustBeServed(t, more)
	if n := underWay(calls); n != 20 {
		t.Errorf("%d of 20 calls are held; want all", n)
	}
	p.reload(t, good, true)
	release(t, calls...)
	results := wait(t, 10*time.Second, calls...)
	mustBeServed(t, results)
	p.account(t, append(results, more...), map[string]int{"completed": 40})
}

// After TERM agiproxy takes no new call, serves those that it has to their end, and
// ends when they have.
func TestTermDrains(t *testing.T) {
	s := begin(t)
	b := s.fault(t, "ivr1", "")
	p := s.proxy(t, s.pool("", b))
	calls := s.place(t, 20, s.script("ivr", hold))
	eventually(t, 10*time.Second, "20 calls are held", func() bool { return b.begun() == 20 })

	if err := p.signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond)
	refused := wait(t, 10*time.Second, s.place(t, 5, s.script("ivr"))...)
	mustBe(t, refused, "FAILURE", "")
	s.prometheus.scraped(t) // a drain can be watched
	if n := s.prometheus.sum(t, "agiproxy_sessions_active"); n != 20 {
		t.Errorf("agiproxy_sessions_active while it drains: %v; want 20", n)
	}
	if n := underWay(calls); n != 20 {
		t.Errorf("%d of 20 calls are held; want all", n)
	}
	release(t, calls...)
	results := wait(t, 10*time.Second, calls...)
	mustBeServed(t, results)
	select {
	case <-p.exited:
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("agiproxy ended with exit code %d; want 0", code)
		}
	case <-time.After(5 * time.Second):
		t.Error("agiproxy has not ended 5s after its last call")
	}
	p.accountRecords(t, results, map[string]int{"completed": 20})
}
