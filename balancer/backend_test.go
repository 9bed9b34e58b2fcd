package balancer

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestNewBackend(t *testing.T) {
	b := NewBackend("ivr1", "ivr1.example.com:4573")
	if b.Name() != "ivr1" || b.Address() != "ivr1.example.com:4573" || b.Addr() != (netip.AddrPort{}) {
		t.Errorf("name %q, address %q, at %v; want ivr1, ivr1.example.com:4573, nowhere", b.Name(), b.Address(), b.Addr())
	}
	if b.State() != Down || !b.Healthy() || b.Weight() != 1 || b.Full() || b.Sessions() != 0 || b.Total() != 0 {
		t.Errorf("state %v, Healthy() = %v, weight %d, Full() = %v, %d sessions of %d; want down for want of an address, healthy, 1, not full, none",
			b.State(), b.Healthy(), b.Weight(), b.Full(), b.Sessions(), b.Total())
	}
	b.SetAddr(someAddr)
	if b.Addr() != someAddr || b.State() != Up {
		t.Errorf("with an address: at %v, %v; want %v, up", b.Addr(), b.State(), someAddr)
	}
	b.Configure(7, 0, false)
	if got := b.Weight(); got != 7 {
		t.Errorf("Weight() = %d; want 7", got)
	}
}

func TestState(t *testing.T) {
	for _, test := range []struct {
		address, up, busy, drained bool
		want                       State
		name                       string
	}{
		{true, true, false, false, Up, "up"},
		{true, true, true, false, Busy, "busy"},
		{true, false, false, false, Down, "down"},
		{true, false, true, false, Down, "down"}, // the verdict counts, not who waits in its line
		{false, true, false, false, Down, "down"},
		{false, true, true, false, Down, "down"},
		{false, false, false, false, Down, "down"},
		{true, true, false, true, Drained, "drained"},
		{true, true, true, true, Drained, "drained"},
		{true, false, false, true, Drained, "drained"}, // an operator's word comes before all
		{false, false, true, true, Drained, "drained"},
	} {
		b := NewBackend("ivr1", "")
		if test.address {
			b.SetAddr(someAddr)
		}
		b.SetUp(test.up)
		b.SetBusy(test.busy)
		b.Drain(test.drained)
		if got := b.State(); got != test.want || got.String() != test.name {
			t.Errorf("address: %v, up: %v, busy: %v, drained: %v: State() = %v; want %v, %q",
				test.address, test.up, test.busy, test.drained, got, test.want, test.name)
		}
		if b.Healthy() != test.up {
			t.Errorf("Healthy() = %v after SetUp(%v)", b.Healthy(), test.up)
		}
	}
}

func TestStateComesBack(t *testing.T) {
	b := newBackends(1)[0]
	for _, step := range []struct {
		do   func()
		want State
	}{
		{func() { b.SetBusy(true) }, Busy},
		{func() { b.SetUp(false) }, Down},
		{func() { b.Drain(true) }, Drained},
		{func() { b.SetUp(true) }, Drained},
		{func() { b.Drain(false) }, Busy},
		{func() { b.SetBusy(false) }, Up},
	} {
		step.do()
		if got := b.State(); got != step.want {
			t.Fatalf("State() = %v; want %v", got, step.want)
		}
	}
}

func TestNamesOfStates(t *testing.T) {
	seen := map[string]bool{}
	for s := range State(NumStates) {
		seen[s.String()] = true
	}
	if len(seen) != NumStates {
		t.Errorf("states %v; want %d names", seen, NumStates)
	}
}

// mustPanic wants f to panic with that message.
func mustPanic(t *testing.T, what, message string, f func()) {
	t.Helper()
	defer func() {
		if got := recover(); got != message {
			t.Errorf("%s: panic %v; want %q", what, got, message)
		}
	}()
	f()
}

func TestALoanIsGivenBackOnce(t *testing.T) {
	backends := newBackends(1)
	b := backends[0]
	pool := NewPool(RoundRobin{}, Options{}, backends)
	loan := mustPick(t, pool)
	if loan.Backend() != b || b.Sessions() != 1 || b.Total() != 1 {
		t.Errorf("loan of %v, %d sessions of %d; want one", loan.Backend(), b.Sessions(), b.Total())
	}
	copied := loan
	loan.Done()
	if loan.Backend() != nil || b.Sessions() != 0 || b.Total() != 1 {
		t.Errorf("after Done: loan of %v, %d sessions of %d; want none of 1", loan.Backend(), b.Sessions(), b.Total())
	}
	mustPanic(t, "a second Done", "balancer: Done of no loan", loan.Done)
	mustPanic(t, "Done of the zero Loan", "balancer: Done of no loan", new(Loan).Done)
	if b.Sessions() != 0 {
		t.Errorf("%d sessions after a second Done; want 0", b.Sessions())
	}
	mustPanic(t, "Done of a copy", "balancer: more loans given back than lent", copied.Done)
}

func TestTheLastPlaceIsNeverTakenByTwo(t *testing.T) {
	b := newBackends(1)[0]
	b.Configure(1, 1, false)
	var holders atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(300 * time.Millisecond)
	for range 2 {
		wg.Go(func() {
			for time.Now().Before(end) {
				for range 1000 {
					if !b.borrow() {
						continue
					}
					if n := holders.Add(1); n > 1 {
						t.Errorf("%d sessions at a time; want at most one", n)
						return
					}
					holders.Add(-1)
					b.sessions.Add(-1)
				}
			}
		})
	}
	wg.Wait()
}

func TestTurnsAreCountedOnce(t *testing.T) {
	backends := newBackends(1)
	b := backends[0]
	pool := NewPool(RoundRobin{}, Options{}, backends)
	one, two := mustPick(t, pool), mustPick(t, pool)
	for _, step := range []struct {
		do             func()
		waiting, moves int
	}{
		{func() { one.ServersTurn(true) }, 0, 0}, // as it begins
		{func() { one.ServersTurn(false) }, 1, 1},
		{func() { one.ServersTurn(false) }, 1, 1},
		{func() { two.ServersTurn(false) }, 2, 2},
		{func() { one.ServersTurn(true) }, 1, 2},
		{func() { one.ServersTurn(true) }, 1, 2},
		{func() { one.Done() }, 1, 2},
		{func() { two.Done() }, 0, 2}, // while the server owes nothing
	} {
		step.do()
		if w, m := b.waiting.Load(), b.moves.Load(); int(w) != step.waiting || int(m) != step.moves {
			t.Fatalf("the server owes nothing in %d sessions, after %d moves; want %d, %d", w, m, step.waiting, step.moves)
		}
	}
	checkAtRest(t, backends, 2)
}

func TestProgressing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backends := newBackends(1)
		b := backends[0]
		pool := NewPool(RoundRobin{}, Options{}, backends)
		want := func(want bool, why string) {
			t.Helper()
			if got := b.Progressing(); got != want {
				t.Errorf("Progressing() = %v; want %v: %s", got, want, why)
			}
		}
		const justBefore = progressWindow - time.Nanosecond

		want(false, "nobody is there")
		loan := mustPick(t, pool)
		want(false, "the server has done nothing yet")
		loan.ServersTurn(false)
		want(true, "it owes nothing")
		time.Sleep(time.Hour)
		want(true, "Asterisk may take as long as it likes")

		loan.ServersTurn(true)
		want(false, "it owes a move and the last was an hour ago")
		loan.ServersTurn(false)
		loan.ServersTurn(true)
		want(true, "it has made a move since")
		time.Sleep(justBefore)
		want(true, "that move was less than the window ago")
		time.Sleep(time.Nanosecond)
		want(false, "and now it wasn't")

		other := mustPick(t, pool)
		want(false, "another session proves nothing before the server's move")
		other.ServersTurn(false)
		other.ServersTurn(true)
		want(true, "one of the sessions moves")
		time.Sleep(justBefore)
		loan.Done()
		want(true, "the move counts though a session is gone")
		other.Done()
		want(false, "nobody is there, so nobody explains the wait")

		// Moves that nobody has asked about count from the question on.
		loan = mustPick(t, pool)
		loan.ServersTurn(false)
		loan.ServersTurn(true)
		time.Sleep(time.Minute)
		want(true, "it is the first look at that move")
		time.Sleep(progressWindow)
		want(false, "the first look was a window ago")
		loan.Done()
	})
}

func TestSinceIsOfTheState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBackend("ivr1", "")
		began := time.Now()
		step := func(what string, change func(), want bool) {
			t.Helper()
			before := b.Since()
			time.Sleep(time.Second)
			change()
			if got := b.Since() == time.Now(); got != want {
				t.Errorf("%s: the state began anew: %v; want %v", what, got, want)
			} else if !want && b.Since() != before {
				t.Errorf("%s: since %v; want %v still", what, b.Since(), before)
			}
		}
		if !b.Since().Equal(began) {
			t.Errorf("a new backend is down since %v; want %v", b.Since(), began)
		}
		step("an address", func() { b.SetAddr(someAddr) }, true)
		step("a good verdict on one that is up", func() { b.SetUp(true) }, false)
		step("busy", func() { b.SetBusy(true) }, true)
		step("down", func() { b.SetUp(false) }, true)
		step("not busy, but down", func() { b.SetBusy(false) }, false)
		step("drained", func() { b.Drain(true) }, true)
		step("drained again", func() { b.Drain(true) }, false)
		step("up, but drained", func() { b.SetUp(true) }, false)
		step("not drained any more", func() { b.Drain(false) }, true)
		step("a backup", func() { b.Configure(1, 7, true) }, false)
		if !b.Backup() || b.MaxSessions() != 7 {
			t.Errorf("Backup() = %v, MaxSessions() = %d; want a backup of 7", b.Backup(), b.MaxSessions())
		}
	})
}
