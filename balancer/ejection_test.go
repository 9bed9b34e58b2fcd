package balancer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// envoys is an ejection with the defaults of the configuration.
var envoys = Ejection{Failures: 3, Time: 10 * time.Second, MaxTime: 300 * time.Second, MaxPercent: 50}

// fail has n sessions fail one after the other through b.
func fail(b *Backend, n int) {
	for range n {
		loan := lend(b)
		loan.Failed()
		loan.Done()
	}
}

// lend returns a loan of b, whatever its pool's policy would choose.
func lend(b *Backend) Loan {
	if !b.borrow() {
		panic("full")
	}
	return Loan{backend: b}
}

func TestFailuresInARowEject(t *testing.T) {
	for _, test := range []struct {
		failures int
		sessions string // f: failed, s: served, n: no evidence
		want     bool
	}{
		{3, "ff", false},
		{3, "fff", true},
		{3, "ffs", false},
		{3, "ffsff", false},
		{3, "ffsfff", true},
		{3, "fnfnnf", true},
		{3, "nnnn", false},
		{3, "sss", false},
		{1, "sf", true},
		{0, "fffffffff", false}, // never
	} {
		backends := newBackends(1, 1)
		options := Options{Ejection: envoys, Clock: newFakeClock()}
		options.Ejection.Failures = test.failures
		NewPool(RoundRobin{}, options, backends)
		b := backends[0]
		for _, s := range test.sessions {
			loan := lend(b)
			switch s {
			case 'f':
				loan.Failed()
			case 's':
				loan.Served()
			}
			loan.Done()
		}
		if got := b.State() == Ejected; got != test.want {
			t.Errorf("%d failures in a row eject, sessions %s: ejected: %v; want %v", test.failures, test.sessions, got, test.want)
		}
		if got := b.Ejections() == 1; got != test.want {
			t.Errorf("%d failures in a row eject, sessions %s: %d ejections; want one: %v", test.failures, test.sessions, b.Ejections(), test.want)
		}
	}
}

func TestEjectionIsToldAndEnds(t *testing.T) {
	var told []string
	clock := newFakeClock()
	backends := newBackends(1, 1)
	a := backends[0]
	pool := NewPool(RoundRobin{}, Options{
		Ejection: envoys,
		Clock:    clock,
		Ejected:  func(b *Backend, d time.Duration) { told = append(told, fmt.Sprint(b.Name(), " ", d, " ", b.State())) },
		Returned: func(b *Backend) { told = append(told, fmt.Sprint(b.Name(), " ", b.State())) },
	}, backends)
	want := func(until time.Time, n uint64, want ...string) {
		t.Helper()
		if got := a.EjectedUntil(); !got.Equal(until) || a.Ejections() != n {
			t.Errorf("EjectedUntil() = %v after %d ejections; want %v after %d", got, a.Ejections(), until, n)
		}
		if !slices.Equal(told, want) {
			t.Errorf("told %q; want %q", told, want)
		}
		told = nil
	}
	want(time.Time{}, 0)
	fail(a, 3)
	want(clock.Now().Add(10*time.Second), 1, "a 10s ejected")
	for range 10 {
		if loan := mustPick(t, pool); loan.Backend() == a {
			t.Fatal("Pick = a, which is ejected; want b")
		}
	}
	fail(a, 5) // sessions that were under way
	clock.advance(10*time.Second - 1)
	want(clock.Now().Add(1), 1)
	clock.advance(1)
	want(time.Time{}, 1, "a up")
	fail(a, 2)
	want(time.Time{}, 1) // what failed meanwhile doesn't count
	clock.advance(time.Hour)
	want(time.Time{}, 1)
	fail(a, 1)
	want(clock.Now().Add(10*time.Second), 2, "a 10s ejected")
	a.Uneject()
	want(time.Time{}, 2, "a up")
	a.Uneject()
	want(time.Time{}, 2)
}

func TestEjectionsInARowTakeLonger(t *testing.T) {
	type step struct{ spent, want time.Duration } // among the others before the ejection, which takes that long
	for _, test := range []struct {
		name  string
		e     Ejection
		steps []step
	}{
		{"each right after the one before", envoys, []step{{0, 10e9}, {0, 20e9}, {1e9, 30e9}, {9.999e9, 40e9}}},
		{"one less for each time spent", envoys, []step{{0, 10e9}, {0, 20e9}, {0, 30e9}, {10e9, 30e9}, {20e9, 20e9}, {19.9e9, 20e9}}},
		{"forgotten", envoys, []step{{0, 10e9}, {0, 20e9}, {0, 30e9}, {30e9, 10e9}, {time.Hour, 10e9}}},
		{"up to the longest", Ejection{1, 10e9, 35e9, 50}, []step{{0, 10e9}, {0, 20e9}, {0, 30e9}, {0, 35e9}, {0, 35e9}, {0, 35e9}, {10e9, 35e9}, {20e9, 30e9}}},
		{"the longest is shorter than one", Ejection{1, 10e9, 5e9, 50}, []step{{0, 10e9}, {0, 10e9}, {10e9, 10e9}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			clock := newFakeClock()
			backends := newBackends(1, 1)
			NewPool(RoundRobin{}, Options{Ejection: test.e, Clock: clock}, backends)
			b := backends[0]
			for i, s := range test.steps {
				clock.advance(s.spent)
				fail(b, test.e.Failures)
				if got := b.EjectedUntil().Sub(clock.Now()); got != s.want {
					t.Fatalf("ejection %d, after %v among the others, takes %v; want %v", i+1, s.spent, got, s.want)
				}
				clock.advance(s.want)
				if b.State() != Up {
					t.Fatalf("%v after ejection %d; want up", b.State(), i+1)
				}
			}
		})
	}
}

// A callback of an ejection that was ended before its time must not end the next.
func TestAnEjectionIsNotEndedByTheTimerOfAnother(t *testing.T) {
	clock := newFakeClock()
	backends := newBackends(1, 1)
	NewPool(RoundRobin{}, Options{Ejection: envoys, Clock: clock}, backends)
	b := backends[0]
	fail(b, 3) // for 10 s
	clock.advance(5 * time.Second)
	b.Uneject()
	fail(b, 3) // for 20 s
	clock.advance(19 * time.Second)
	if b.State() != Ejected {
		t.Errorf("%v 19 s into an ejection of 20; want ejected", b.State())
	}
	clock.advance(time.Second)
	if b.State() != Up {
		t.Errorf("%v after its ejection; want up", b.State())
	}
}

func TestEjectionKeepsToItsBounds(t *testing.T) {
	none := func([]*Backend) {}
	for _, test := range []struct {
		name     string
		backends int
		percent  int
		change   func([]*Backend)
		want     string // who is ejected when all fail, one after the other
	}{
		{"the only one", 1, 100, none, ""},
		{"one of two", 2, 50, none, "a"},
		{"one of two, though that is more than may", 2, 10, none, "a"},
		{"one of two, though none may", 2, 0, none, "a"},
		{"all but the last", 3, 100, none, "ab"},
		{"half of four", 4, 50, none, "ab"},
		{"half of five", 5, 50, none, "ab"},
		{"a third of six", 6, 34, none, "ab"},
		{"not the last that is up", 3, 100, func(b []*Backend) { b[1].SetUp(false); b[2].Drain(true) }, "bc"},
		{"one besides a busy one", 2, 50, func(b []*Backend) { b[1].SetBusy(true) }, "a"},
		{"one besides a backup", 2, 50, func(b []*Backend) { b[1].Configure(1, 0, true) }, "a"},
		{"one besides a full one", 2, 50, func(b []*Backend) { b[1].Configure(1, 1, false) }, "a"},
		{"those that are down count for the percentage", 4, 50, func(b []*Backend) { b[0].SetUp(false); b[1].SetUp(false) }, "ab"},
		{"one that is down, but no two that are up", 3, 100, func(b []*Backend) { b[0].SetUp(false) }, "ab"},
	} {
		backends := newBackends(slices.Repeat([]int{1}, test.backends)...)
		options := Options{Ejection: envoys, Clock: newFakeClock()}
		options.Ejection.MaxPercent = test.percent
		NewPool(RoundRobin{}, options, backends)
		test.change(backends)
		got := ""
		for _, b := range backends {
			if fail(b, 9); b.flags.Load()&isEjected != 0 {
				got += b.Name()
			}
		}
		if got != test.want {
			t.Errorf("%s: ejected %q; want %q", test.name, got, test.want)
		}
	}
}

// One that the bounds have saved goes at its first failure after they have room,
// unless it has served meanwhile.
func TestASavedBackendIsEjectedLater(t *testing.T) {
	clock := newFakeClock()
	backends := newBackends(1, 1, 1)
	options := Options{Ejection: envoys, Clock: clock}
	NewPool(RoundRobin{}, options, backends)
	a, b, c := backends[0], backends[1], backends[2]
	for _, x := range backends {
		fail(x, 3)
	}
	served := lend(c)
	served.Served()
	served.Done()
	clock.advance(10 * time.Second)
	fail(b, 1)
	if a.State() != Up || b.State() != Ejected {
		t.Errorf("a, whose ejection is over, is %v, and b %v after one more failure; want up, ejected", a.State(), b.State())
	}
	b.Uneject()
	if fail(c, 2); c.State() != Up {
		t.Errorf("c, which has served, is %v; want up", c.State())
	}
}

func TestTheStateOfAnEjectedBackend(t *testing.T) {
	backends := newBackends(1, 1)
	pool := NewPool(RoundRobin{}, Options{Ejection: envoys, Clock: newFakeClock()}, backends)
	b := backends[0]
	fail(b, 3)
	backends[1].Drain(true)
	for _, step := range []struct {
		do       func()
		want     State
		canServe bool
	}{
		{func() {}, Ejected, false},
		{func() { b.SetBusy(true) }, Ejected, false},
		{func() { b.SetUp(false) }, Down, false},
		{func() { b.Drain(true) }, Drained, false},
		{func() { b.SetUp(true) }, Drained, false},
		{func() { b.Drain(false) }, Ejected, false}, // neither a good probe nor an operator who lets it in again ends it
		{func() { b.Uneject() }, Busy, true},
	} {
		step.do()
		if got, can := b.State(), pool.CanServe(); got != step.want || can != step.canServe {
			t.Fatalf("State() = %v, CanServe() = %v; want %v, %v", got, can, step.want, step.canServe)
		}
	}
	if want := "ejected"; Ejected.String() != want {
		t.Errorf("Ejected is called %q; want %q", Ejected, want)
	}
}

func TestTheSystemClockEndsAnEjection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backends := newBackends(1, 1)
		pool := NewPool(RoundRobin{}, Options{Ejection: envoys}, backends)
		b := backends[0]
		fail(b, 3)
		time.Sleep(10*time.Second - 1)
		synctest.Wait()
		if b.State() != Ejected || b.penalty() != 3 { // two of three are forgotten
			t.Errorf("just before the end: %v, recent failures count as %d; want ejected, 3", b.State(), b.penalty())
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if b.State() != Up || !pool.CanServe() {
			t.Errorf("after its ejection: %v; want up", b.State())
		}
	})
}

func TestAReloadKeepsEjections(t *testing.T) {
	clock := newFakeClock()
	backends := newBackends(1, 1, 1)
	a, b, c := backends[0], backends[1], backends[2]
	before := NewPool(RoundRobin{}, Options{Ejection: envoys, Clock: clock}, backends)
	loan := mustPick(t, before) // by a session that keeps the old version
	for loan.Backend() != b {
		loan = mustPick(t, before)
	}
	fail(a, 3)
	var returned []*Backend
	options := Options{Ejection: envoys, Clock: clock, Returned: func(b *Backend) { returned = append(returned, b) }}
	options.Ejection.MaxPercent, options.Ejection.Failures = 100, 1
	after := NewPool(RoundRobin{}, options, backends)
	after.Inherit(before)
	if a.State() != Ejected || len(returned) > 0 {
		t.Errorf("a is %v after the reload, told of %d that returned; want ejected, none", a.State(), len(returned))
	}
	loan.Failed()
	loan.Done()
	if b.State() != Ejected {
		t.Errorf("b is %v after a failure; want ejected by the new version's options", b.State())
	}

	// Without c there would be nobody left.
	last := NewPool(RoundRobin{}, options, backends[:2])
	last.Inherit(after)
	if a.State() != Up || b.State() != Ejected || !slices.Equal(returned, []*Backend{a}) {
		t.Errorf("a is %v and b %v in a version without another; want a up, since one must be, and b ejected", a.State(), b.State())
	}
	clock.advance(time.Hour)
	if b.State() != Up || len(returned) != 2 {
		t.Errorf("b is %v after its ejection, told of %d that returned; want up, 2", b.State(), len(returned))
	}
	c.SetUp(false)
}

// bound is how many of n backends may be ejected at a time.
func (e *Ejection) bound(n int) int { return min(max(1, e.MaxPercent*n/100), n-1) }

func TestTwoThatFailAtTheSameTimeAreNotBothEjected(t *testing.T) {
	backends := newBackends(1, 1)
	NewPool(RoundRobin{}, Options{Ejection: envoys, Clock: newFakeClock()}, backends)
	a, b := backends[0], backends[1]
	for range 10_000 {
		fail(a, 2)
		fail(b, 2)
		together(func() { fail(a, 1) }, func() { fail(b, 1) })
		if a.State() == b.State() {
			t.Fatalf("both are %v after three failures; want one ejected, and the other up", a.State())
		}
		for _, b := range backends {
			b.Uneject()
			b.ejection.failures.Store(0) // of the one that was spared
		}
	}
}

// Whatever fails at the same time, there are never more ejected than may be.
func TestConcurrentEjectionsKeepToTheirBounds(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 7))
		backends := newBackends(randomWeights(rng)...)
		clock := newFakeClock()
		options := Options{Ejection: Ejection{Failures: 1 + rng.IntN(3), Time: time.Second, MaxTime: time.Minute, MaxPercent: rng.IntN(101)}, Clock: clock}
		bound := options.Ejection.bound(len(backends))
		var mu sync.Mutex // of what the callbacks count
		out, most, ejections := 0, 0, uint64(0)
		options.Ejected = func(*Backend, time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			out++
			ejections++
			most = max(most, out)
		}
		options.Returned = func(*Backend) {
			mu.Lock()
			defer mu.Unlock()
			out--
		}
		pool := NewPool(LeastConnections{}, options, backends)
		count := func() (n int) {
			pool.mu.Lock()
			defer pool.mu.Unlock()
			for _, b := range backends {
				if b.flags.Load()&isEjected != 0 {
					n++
				}
			}
			return n
		}
		var wg sync.WaitGroup
		for w := range uint64(4) {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(seed, w))
				for range 2000 {
					loan, err := pool.Pick(nil, 0)
					if err != nil {
						t.Errorf("seed %d: Pick: %v; want a backend: not all may be ejected", seed, err)
						return
					}
					switch rng.IntN(8) {
					case 0:
						loan.Served()
					case 1:
						backends[rng.IntN(len(backends))].Uneject()
					case 2:
						clock.advance(time.Duration(rng.IntN(500)) * time.Millisecond)
					default:
						loan.Failed()
					}
					loan.Done()
					if n := count(); n > bound {
						t.Errorf("seed %d: %d of %d are ejected; want at most %d", seed, n, len(backends), bound)
						return
					}
				}
			})
		}
		wg.Wait()
		for _, b := range backends {
			ejections -= b.Ejections()
		}
		if ejections != 0 || out != count() {
			t.Errorf("seed %d: told of %d more ejections than there were, and that %d are out; want %d", seed, ejections, out, count())
		}
		clock.advance(time.Hour)
		if n := count(); n != 0 || clock.armed() != 0 {
			t.Errorf("seed %d: an hour later %d are ejected and %d timers armed; want none", seed, n, clock.armed())
		}
	}
}

// An operator may take out any backend, the last one too, and for longer or
// shorter than it is out already.
func TestEjectByHand(t *testing.T) {
	clock := newFakeClock()
	backends := newBackends(1, 1)
	a, b := backends[0], backends[1]
	pool := NewPool(RoundRobin{}, Options{Ejection: envoys, Clock: clock}, backends)
	a.Eject(time.Minute)
	b.Eject(time.Hour)
	if a.State() != Ejected || b.State() != Ejected || pool.CanServe() {
		t.Fatalf("states %v and %v; want both ejected", a.State(), b.State())
	}
	if a.Ejections() != 0 {
		t.Errorf("%d ejections for failures; want none", a.Ejections())
	}
	clock.advance(30 * time.Second)
	a.Eject(time.Minute)
	clock.advance(30 * time.Second) // the first ejection's end
	if a.State() != Ejected || !a.EjectedUntil().Equal(clock.Now().Add(30*time.Second)) {
		t.Errorf("ejected anew: %v until %v; want ejected for another 30s", a.State(), a.EjectedUntil())
	}
	clock.advance(30 * time.Second)
	if a.State() != Up {
		t.Errorf("after its time: %v; want up", a.State())
	}
	b.Uneject()
	if b.State() != Up || !b.EjectedUntil().IsZero() {
		t.Errorf("unejected: %v until %v; want up", b.State(), b.EjectedUntil())
	}
	fail(a, 3)
	if got := a.EjectedUntil().Sub(clock.Now()); got != 10*time.Second {
		t.Errorf("then ejected for its failures: for %v; want 10s, as the first time", got)
	}
}

// An operator ejects a backend while its ejection before ends.
func TestEjectAndUnejectTogether(t *testing.T) {
	b := newBackends(1)[0]
	NewPool(RoundRobin{}, Options{Clock: newFakeClock()}, []*Backend{b})
	for round := range 20_000 {
		b.Eject(time.Hour)
		together(b.Uneject, func() { b.Eject(time.Hour) })
		if until := b.EjectedUntil(); until.IsZero() != (b.State() == Up) {
			t.Fatalf("round %d: the backend is %v, and ejected until %v", round, b.State(), until)
		}
		b.Uneject()
	}
}

// A reload ends an ejection that the pool can't spare the backend for, but not an
// operator's, who has not asked what it can.
func TestOperatorsEjectionOutlastsAReload(t *testing.T) {
	backends := newBackends(1, 1)
	before := NewPool(RoundRobin{}, Options{Ejection: Ejection{Failures: 1, Time: time.Minute, MaxPercent: 100}, Clock: newFakeClock()}, backends)
	loan := lend(backends[1])
	loan.Failed()
	loan.Done()
	backends[0].Eject(time.Hour)
	after := NewPool(RoundRobin{}, before.opts, backends)
	after.Inherit(before)
	if a, b := backends[0].State(), backends[1].State(); a != Ejected || b != Up {
		t.Errorf("after a reload the backends are %v and %v; want the operator's ejected, and the one that had failed up", a, b)
	}
}
