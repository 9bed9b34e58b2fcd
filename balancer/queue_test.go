package balancer

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A guest waits and tells what it was given.
type guest struct {
	Waiter
	name string
	loan chan Loan // has room for one more than may come
}

func newGuest(name string, tried ...*Backend) *guest {
	g := &guest{name: name, loan: make(chan Loan, 2)}
	g.Waiter = Waiter{Tried: tried, Ready: func(l Loan) { g.loan <- l }}
	return g
}

// served returns the loan that g was given, the zero Loan if none.
func (g *guest) served() Loan {
	select {
	case l := <-g.loan:
		return l
	default:
		return Loan{}
	}
}

// mustWait has g wait for a slot.
func mustWait(t *testing.T, p *Pool, g *guest) {
	t.Helper()
	if err := p.Wait(&g.Waiter); err != nil {
		t.Fatalf("Wait of %s: %v; want nil", g.name, err)
	}
}

// wantServed wants the guest to have been given b.
func wantServed(t *testing.T, g *guest, b *Backend) Loan {
	t.Helper()
	l := g.served()
	switch {
	case l.Backend() == nil && b != nil:
		t.Fatalf("%s waits; want it to have been given %s", g.name, b.Name())
	case l.Backend() != b && b == nil:
		t.Fatalf("%s was given %s; want it to wait", g.name, l.Backend().Name())
	case l.Backend() != b:
		t.Fatalf("%s was given %s; want %s", g.name, l.Backend().Name(), b.Name())
	}
	return l
}

// fullPool returns a pool of n backends that have one place each, and the loans
// that take them.
func fullPool(n, queue int) (*Pool, []*Backend, []Loan) {
	backends := newBackends(slices.Repeat([]int{1}, n)...)
	var loans []Loan
	for _, b := range backends {
		b.Configure(1, 1, false)
		loans = append(loans, lend(b))
	}
	return NewPool(LeastConnections{}, Options{Queue: queue}, backends), backends, loans
}

func TestFirstComeFirstServed(t *testing.T) {
	pool, backends, loans := fullPool(1, 100)
	var guests []*guest
	for i := range 20 {
		g := newGuest(fmt.Sprint("guest ", i))
		mustWait(t, pool, g)
		if pool.Waiting() != i+1 {
			t.Errorf("Waiting() = %d; want %d", pool.Waiting(), i+1)
		}
		guests = append(guests, g)
	}
	loan := loans[0]
	for i, g := range guests {
		wantServed(t, g, nil)
		loan.Done()
		loan = wantServed(t, g, backends[0])
		if n, total := backends[0].Sessions(), backends[0].Total(); n != 1 || total != uint64(i+2) {
			t.Errorf("%d sessions of %d; want 1 of %d: what was handed over is one", n, total, i+2)
		}
	}
	if pool.Waiting() != 0 {
		t.Errorf("Waiting() = %d; want 0", pool.Waiting())
	}
}

func TestOneIsPassedOverOnlyForWhatItHasTried(t *testing.T) {
	pool, b, loans := fullPool(3, 100)
	first, second, third := newGuest("first", b[0]), newGuest("second", b[0], b[1]), newGuest("third")
	mustWait(t, pool, first)
	mustWait(t, pool, second)
	mustWait(t, pool, third)
	loans[0].Done()
	loan := wantServed(t, third, b[0])
	wantServed(t, first, nil)
	wantServed(t, second, nil)
	loan.Done() // and nobody else who waits can use it
	if loan := mustPick(t, pool); loan.Backend() != b[0] {
		t.Errorf("Pick = %s; want a, which all who wait have tried", loan.Backend().Name())
	}
	loans[1].Done()
	wantServed(t, second, nil)
	wantServed(t, first, b[1])
	loans[2].Done()
	wantServed(t, second, b[2])
}

func TestNobodyOvertakesThoseWhoWait(t *testing.T) {
	pool, b, loans := fullPool(2, 100)
	g := newGuest("guest", b[1])
	mustWait(t, pool, g)
	loans[1].Done() // the guest has tried it
	wantServed(t, g, nil)
	b[0].sessions.Add(-1) // as in a Done that hasn't yet looked who waits
	loan, err := pool.Pick([]*Backend{b[1]}, 0)
	if !errors.Is(err, ErrNoBackend) {
		t.Errorf("Pick = %v, %v; want ErrNoBackend: the place belongs to who waits", loan.Backend(), err)
	}
	wantServed(t, g, b[0])

	// The same for one who only just stands in line.
	ahead, behind := newGuest("ahead", b[1]), newGuest("behind", b[1])
	mustWait(t, pool, ahead)
	b[0].sessions.Add(-1)
	mustWait(t, pool, behind)
	wantServed(t, ahead, b[0])
	wantServed(t, behind, nil)
}

func TestWhatServesTheHeadAtOnce(t *testing.T) {
	clock := newFakeClock()
	var loan Loan // of a
	for _, test := range []struct {
		name    string
		prepare func(a *Backend)
		do      func(pool *Pool, a *Backend)
	}{
		{"done", func(*Backend) {}, func(*Pool, *Backend) { loan.Done() }},
		{"up", func(a *Backend) { a.SetUp(false); loan.Done() }, func(_ *Pool, a *Backend) { a.SetUp(true) }},
		{"an address", func(a *Backend) { a.set(isNowhere, true); loan.Done() }, func(_ *Pool, a *Backend) { a.SetAddr(someAddr) }},
		{"no longer drained", func(a *Backend) { a.Drain(true); loan.Done() }, func(_ *Pool, a *Backend) { a.Drain(false) }},
		{"a higher limit", func(*Backend) {}, func(_ *Pool, a *Backend) { a.Configure(1, 2, false) }},
		{"no limit", func(*Backend) {}, func(_ *Pool, a *Backend) { a.Configure(1, 0, false) }},
		{"no longer ejected", func(a *Backend) { fail3(&loan); loan.Done() }, func(*Pool, *Backend) { clock.advance(10 * time.Second) }},
		{"let in by hand", func(a *Backend) { fail3(&loan); loan.Done() }, func(_ *Pool, a *Backend) { a.Uneject() }},
		{"not busy, with a place that nobody has seen", func(a *Backend) { a.SetBusy(true); a.sessions.Add(-1) }, func(_ *Pool, a *Backend) { a.SetBusy(false) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			backends := newBackends(1, 1)
			a, full := backends[0], backends[1]
			for _, b := range backends {
				b.Configure(1, 1, false)
			}
			pool := NewPool(RoundRobin{}, Options{Queue: 10, Ejection: envoys, Clock: clock}, backends)
			loan = lend(a)
			lend(full)
			g, next := newGuest("guest"), newGuest("next", a)
			mustWait(t, pool, g)
			mustWait(t, pool, next)
			// What is prepared must not serve it yet.
			pool.waiting.Store(0)
			test.prepare(a)
			pool.waiting.Store(2)
			wantServed(t, g, nil)
			test.do(pool, a)
			wantServed(t, g, a)
			wantServed(t, next, nil)
			if pool.Waiting() != 1 {
				t.Errorf("Waiting() = %d; want 1, who has tried a", pool.Waiting())
			}
		})
	}
}

// fail3 has the session fail as often as ejects its backend.
func fail3(l *Loan) {
	for range 3 {
		l.Failed()
	}
}

func TestAHigherLimitServesAsManyAsItAllows(t *testing.T) {
	pool, b, _ := fullPool(1, 100)
	var guests []*guest
	for i := range 6 {
		g := newGuest(fmt.Sprint("guest ", i))
		mustWait(t, pool, g)
		guests = append(guests, g)
	}
	b[0].Configure(1, 5, false)
	for i, g := range guests {
		if i < 4 {
			wantServed(t, g, b[0])
		} else {
			wantServed(t, g, nil)
		}
	}
}

func TestWaitWithRoomServesAtOnce(t *testing.T) {
	pool, b, loans := fullPool(2, 1)
	loans[1].Done()
	g := newGuest("guest")
	mustWait(t, pool, g) // the place was freed between its pick and this
	wantServed(t, g, b[1])
	if pool.Waiting() != 0 {
		t.Errorf("Waiting() = %d; want 0", pool.Waiting())
	}
}

func TestTheQueueHasALimit(t *testing.T) {
	for _, limit := range []int{0, 1, 3} {
		pool, _, loans := fullPool(1, limit)
		var guests []*guest
		for i := range limit {
			g := newGuest(fmt.Sprint("guest ", i))
			mustWait(t, pool, g)
			guests = append(guests, g)
		}
		g := newGuest("one too many")
		if err := pool.Wait(&g.Waiter); !errors.Is(err, ErrQueueFull) || pool.Waiting() != limit {
			t.Errorf("limit %d: Wait = %v, %d wait; want ErrQueueFull", limit, err, pool.Waiting())
		}
		for i := range guests {
			if !pool.Leave(&guests[i].Waiter) {
				t.Errorf("limit %d: Leave = false; want true: it waits", limit)
			}
		}
		loans[0].Done()
		wantServed(t, g, nil)
	}
}

// TestWhoHasWaitedElsewhereIsNoNewcomer is about calls that come with a hand-over: the
// configuration may have a shorter queue by then, or none.
func TestWhoHasWaitedElsewhereIsNoNewcomer(t *testing.T) {
	pool, _, loans := fullPool(1, 0)
	g := newGuest("moved")
	g.Again = true
	mustWait(t, pool, g)
	if pool.Waiting() != 1 {
		t.Errorf("%d wait; want the one that has waited before", pool.Waiting())
	}
	loans[0].Done()
	wantServed(t, g, pool.Backends()[0])
}

func TestLeave(t *testing.T) {
	pool, b, loans := fullPool(1, 10)
	first, second := newGuest("first"), newGuest("second")
	if pool.Leave(&first.Waiter) {
		t.Error("Leave = true of one who never waited; want false")
	}
	mustWait(t, pool, first)
	mustWait(t, pool, second)
	if !pool.Leave(&first.Waiter) || pool.Leave(&first.Waiter) || pool.Waiting() != 1 {
		t.Errorf("Leave of the first isn't true once, or %d wait; want 1", pool.Waiting())
	}
	loans[0].Done()
	wantServed(t, first, nil)
	wantServed(t, second, b[0])
	if pool.Leave(&second.Waiter) {
		t.Error("Leave = true of one who was served; want false")
	}
}

func TestInheritTakesOverWhoWaits(t *testing.T) {
	before, b, loans := fullPool(2, 2)
	first, second := newGuest("first"), newGuest("second", b[0])
	mustWait(t, before, first)
	mustWait(t, before, second)
	kept := b[1:]
	after := NewPool(RoundRobin{}, Options{Queue: 1}, kept)
	after.Inherit(before)
	if before.Waiting() != 0 || after.Waiting() != 2 {
		t.Errorf("%d wait in the version before and %d in the one after; want 0, 2", before.Waiting(), after.Waiting())
	}
	third := newGuest("third")
	if err := before.Wait(&third.Waiter); !errors.Is(err, ErrQueueFull) {
		t.Errorf("Wait in the version before = %v; want ErrQueueFull, as in the one after", err)
	}
	loans[0].Done() // of a backend that is no longer there
	if loan, err := before.Pick(nil, 0); !errors.Is(err, ErrNoBackend) {
		t.Errorf("Pick in the version before = %v, %v; want ErrNoBackend: it isn't that one's choice any more", loan.Backend(), err)
	}
	if !before.Leave(&second.Waiter) || after.Waiting() != 1 {
		t.Errorf("Leave in the version before isn't true, or %d wait; want 1", after.Waiting())
	}
	loans[1].Done() // a loan of the version before
	loan := wantServed(t, first, kept[0])
	loan.Done()
	for _, pool := range []*Pool{before, after} {
		if loan := mustPick(t, pool); loan.Backend() != kept[0] {
			t.Errorf("Pick = %s; want b, the one that is left", loan.Backend().Name())
		} else {
			loan.Done()
		}
	}
}

func TestANewBackendServesTheHeadAtOnce(t *testing.T) {
	before, b, _ := fullPool(2, 10)
	fresh := newBackends(1)[0]
	fresh.Configure(1, 2, false)
	guests := []*guest{newGuest("first", fresh), newGuest("second"), newGuest("third", b[0]), newGuest("fourth")}
	for _, g := range guests {
		mustWait(t, before, g)
	}
	second := NewPool(RoundRobin{}, Options{Queue: 10}, append(slices.Clone(b), fresh))
	second.Inherit(before)
	wantServed(t, guests[0], nil)
	wantServed(t, guests[1], fresh)
	wantServed(t, guests[2], fresh)
	wantServed(t, guests[3], nil)

	// And through more than one version, which may be inherited from late.
	other := newBackends(1)[0]
	third := NewPool(RoundRobin{}, Options{Queue: 10}, []*Backend{other})
	third.Inherit(before)
	wantServed(t, guests[0], other)
	wantServed(t, guests[3], other)
	late := newGuest("late")
	mustWait(t, before, late) // in the first version, as its session knows no other
	wantServed(t, late, other)
}

func TestTheSystemClockServesWhoWaitsForAnEjected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backends := newBackends(1, 1)
		pool := NewPool(RoundRobin{}, Options{Queue: 10, Ejection: envoys}, backends)
		fail(backends[0], 3)
		backends[1].SetUp(false)
		g := newGuest("guest")
		mustWait(t, pool, g)
		start := time.Now()
		if loan := <-g.loan; loan.Backend() != backends[0] || time.Since(start) != 10*time.Second {
			t.Errorf("served by %s after %v; want a after 10s", loan.Backend().Name(), time.Since(start))
		}
		synctest.Wait()
	})
}

// What there is to wait for is a matter of the backends after a reload.
func TestWhoHasTriedAllDoesNotWait(t *testing.T) {
	before, backends, loans := fullPool(1, 10)
	tried := newGuest("who has tried all", backends[0])
	if err := before.Wait(&tried.Waiter); !errors.Is(err, ErrNoBackend) || before.Waiting() != 0 {
		t.Errorf("Wait = %v, %d wait; want %v, none", err, before.Waiting(), ErrNoBackend)
	}

	more := newBackends(1)[0]
	more.Configure(1, 1, false)
	larger := NewPool(LeastConnections{}, before.opts, append(slices.Clone(backends), more))
	larger.Inherit(before)
	loan := lend(more)
	mustWait(t, before, tried)
	loan.Done()
	loan = wantServed(t, tried, more)

	smaller := NewPool(LeastConnections{}, before.opts, backends)
	smaller.Inherit(larger)
	both := newGuest("who has tried what is left", backends...)
	if err := before.Wait(&both.Waiter); !errors.Is(err, ErrNoBackend) {
		t.Errorf("Wait = %v once the other backend is gone; want %v", err, ErrNoBackend)
	}
	loan.Done()
	loans[0].Done()
}

// Who waits and what serves him come at the same time.
func TestNoWakeUpIsLost(t *testing.T) {
	pool, backends, loans := fullPool(1, 10)
	b, loan := backends[0], loans[0]
	for round := range 30_000 {
		g := newGuest("guest")
		wait := func() { mustWait(t, pool, g) }
		switch round % 3 {
		case 0:
			together(wait, loan.Done)
		case 1:
			b.SetUp(false)
			loan.Done()
			together(wait, func() { b.SetUp(true) })
		case 2:
			together(wait, func() { b.Configure(1, 2, false) })
			b.Configure(1, 1, false)
			loan.Done()
		}
		if loan = g.served(); loan.Backend() != b {
			t.Fatalf("round %d: the guest waits; want it to have been given what is free", round)
		}
	}
}

// Newcomers press for the only slot all the time, and get it only when nobody
// waits. Each who waits gives it back when he has been served, so that the order
// of two is no matter of chance.
func TestNobodyOvertakesUnderPressure(t *testing.T) {
	const rounds, guests = 30, 30
	for range rounds {
		pool, _, loans := fullPool(1, guests)
		order := make(chan int, guests)
		given := make([]Loan, guests)
		for i := range guests {
			w := &Waiter{Ready: func(l Loan) { given[i] = l; order <- i }}
			if err := pool.Wait(w); err != nil {
				t.Fatal(err)
			}
		}
		var left atomic.Int32
		left.Store(guests)
		var stop atomic.Bool
		var newcomers sync.WaitGroup
		for range 3 {
			newcomers.Go(func() {
				for !stop.Load() {
					loan, err := pool.Pick(nil, 0)
					if err != nil {
						runtime.Gosched()
						continue
					}
					if n := left.Load(); n > 0 {
						t.Errorf("a newcomer is lent the slot for which %d wait", n)
					}
					loan.Done()
				}
			})
		}
		loan := loans[0]
		for i := range guests {
			loan.Done()
			if got := <-order; got != i {
				t.Errorf("guest %d is served; want %d", got, i)
			}
			loan = given[i]
			left.Add(-1)
		}
		loan.Done()
		stop.Store(true)
		newcomers.Wait()
		if t.Failed() {
			return
		}
	}
}

// A crowd does at random, from many goroutines, all that can be done to a pool.
type crowd struct {
	t      *testing.T
	clock  *fakeClock
	pool   atomic.Pointer[Pool]
	reload sync.Mutex
	served atomic.Int64 // who waited
	left   atomic.Int64
}

// A member is one goroutine of a crowd. It keeps what it has between two rounds.
type member struct {
	*crowd
	rng     *rand.Rand
	loans   []Loan
	waiting []*guest
}

func (m *member) act() {
	p := m.pool.Load()
	backends := p.Backends()
	b, yes := backends[m.rng.IntN(len(backends))], m.rng.IntN(2) == 0
	switch m.rng.IntN(16) {
	case 0, 1, 2, 3:
		m.come(p, b)
	case 4, 5, 6, 7:
		m.end()
	case 8:
		m.leave(p)
	case 9:
		b.SetUp(yes)
	case 10:
		b.SetBusy(yes)
	case 11:
		b.Drain(yes)
	case 12:
		b.Configure(1+m.rng.IntN(3), m.rng.IntN(4), yes)
	case 13:
		m.clock.advance(time.Duration(m.rng.IntN(2000)) * time.Millisecond)
	case 14:
		b.Uneject()
	case 15:
		if m.rng.IntN(20) == 0 {
			m.renew()
		}
	}
	m.waiting = slices.DeleteFunc(m.waiting, func(g *guest) bool {
		l := g.served()
		if l.Backend() != nil {
			m.loans = append(m.loans, l)
			m.crowd.served.Add(1)
		}
		return l.Backend() != nil
	})
}

// come has a session come: it picks, and if it gets nothing, waits.
func (m *member) come(p *Pool, b *Backend) {
	var tried []*Backend
	if m.rng.IntN(3) == 0 {
		tried = []*Backend{b}
	}
	loan, err := p.Pick(tried, m.rng.Uint64())
	if err == nil {
		m.loans = append(m.loans, loan)
		return
	}
	g := newGuest("guest", tried...)
	if p.Wait(&g.Waiter) == nil {
		m.waiting = append(m.waiting, g)
	}
}

// end has a session end.
func (m *member) end() {
	if len(m.loans) == 0 {
		return
	}
	i := m.rng.IntN(len(m.loans))
	l := m.loans[i]
	m.loans = slices.Delete(m.loans, i, i+1)
	switch m.rng.IntN(4) {
	case 0, 1:
		l.Failed()
	case 2:
		l.Served()
	}
	l.Done()
}

// leave has a session that waits leave, unless it is served first.
func (m *member) leave(p *Pool) {
	if len(m.waiting) == 0 {
		return
	}
	g := m.waiting[0]
	m.waiting = m.waiting[1:]
	if p.Leave(&g.Waiter) {
		m.left.Add(1)
		if l := g.served(); l.Backend() != nil {
			m.t.Error("one has left and was served")
		}
		return
	}
	m.loans = append(m.loans, <-g.loan) // at once, or soon
	m.crowd.served.Add(1)
}

// renew makes another version of the pool, with one new backend for an old one.
func (m *member) renew() {
	m.reload.Lock()
	defer m.reload.Unlock()
	before := m.pool.Load()
	backends := slices.Clone(before.Backends())
	fresh := newBackends(1)[0]
	fresh.Configure(1, 1+m.rng.IntN(2), false)
	backends[m.rng.IntN(len(backends))] = fresh
	after := NewPool(before.policy, before.opts, backends)
	after.Inherit(before)
	m.pool.Store(after)
}

// check wants the crowd, which is at rest, to have all that it could have.
func (c *crowd) check(members []*member) {
	c.t.Helper()
	p := c.pool.Load()
	if len(p.queue) != p.Waiting() {
		c.t.Fatalf("Waiting() = %d; want %d", p.Waiting(), len(p.queue))
	}
	for i, w := range p.queue {
		for _, b := range p.backends {
			if b.flags.Load()&unusable == 0 && !b.Full() && !slices.Contains(w.Tried, b) {
				c.t.Fatalf("number %d of %d waits, and %s is %v with %d sessions of %d", i, len(p.queue), b.Name(), b.State(), b.Sessions(), b.max.Load())
			}
		}
	}
	sessions := make(map[*Backend]int)
	waiting := 0
	for _, m := range members {
		for _, l := range m.loans {
			sessions[l.Backend()]++
		}
		for _, g := range m.waiting {
			switch len(g.loan) {
			case 0:
				waiting++
			case 1: // found in the next round
				l := <-g.loan
				sessions[l.Backend()]++
				g.loan <- l
			default:
				c.t.Fatal("one who waited was served twice")
			}
		}
	}
	if waiting != p.Waiting() {
		c.t.Fatalf("%d think that they wait, and %d do", waiting, p.Waiting())
	}
	for b, n := range sessions {
		if b.Sessions() != n {
			c.t.Fatalf("%s has %d sessions; want %d, as many as have it", b.Name(), b.Sessions(), n)
		}
	}
	for _, b := range p.backends {
		if b.Sessions() != sessions[b] {
			c.t.Fatalf("%s has %d sessions; want %d, as many as have it", b.Name(), b.Sessions(), sessions[b])
		}
	}
}

// Whatever happens at the same time, nobody waits while there is a slot that he
// could use, and each is served once.
func TestACrowd(t *testing.T) {
	everyPolicy(t, func(t *testing.T, policy Policy) {
		var served, left int64
		for seed := range uint64(20) {
			c := &crowd{t: t, clock: newFakeClock()}
			backends := newBackends(1, 1, 1, 1)
			for i, b := range backends {
				b.Configure(1, 1+i%2, i == 3)
			}
			ejection := envoys
			ejection.Time = time.Second
			c.pool.Store(NewPool(policy, Options{Queue: 20, Panic: 50, Ejection: ejection, Clock: c.clock}, backends))
			var members []*member
			for w := range uint64(6) {
				members = append(members, &member{crowd: c, rng: rand.New(rand.NewPCG(seed, w))})
			}
			for range 100 {
				var wg sync.WaitGroup
				for _, m := range members {
					wg.Go(func() {
						for range 20 {
							m.act()
						}
					})
				}
				wg.Wait()
				if c.check(members); t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
			served, left = served+c.served.Load(), left+c.left.Load()
		}
		if served < 100 || left < 100 {
			t.Errorf("%d were served and %d left; want many of both, or this shows little", served, left)
		}
	})
}
