package balancer

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"
)

// A model is a pool as one would write it without concurrency or speed: plain
// numbers, one pick at a time.
type model struct {
	least    bool // connections, or round-robin
	options  Options
	now      time.Duration
	backends []modelBackend
}

type modelBackend struct {
	address, down, busy, drained, backup bool
	weight, max, sessions, current       int
	total                                uint64

	recent, row       int           // failures
	forget            time.Duration // when the next recent one is
	ejected           bool
	times             int
	returned, returns time.Duration
	ejections         int
}

// usable says whether b takes sessions, but for its limit.
func (b *modelBackend) usable() bool { return b.address && !b.drained && !b.down && !b.ejected }

// rank is the group of the design's order that b serves in, -1 if it can't.
func (b *modelBackend) rank(panics bool) int {
	switch {
	case b.drained, !b.address, b.max > 0 && b.sessions >= b.max:
		return -1
	case !b.usable() && panics && !b.backup:
		return 4
	case !b.usable() && panics:
		return 5
	case !b.usable():
		return -1
	case !b.busy && !b.backup:
		return 0
	case !b.busy:
		return 1
	case !b.backup:
		return 2
	}
	return 3
}

func (m *model) full() bool {
	sessions := 0
	for _, b := range m.backends {
		sessions += b.sessions
	}
	return m.options.Sessions > 0 && sessions >= m.options.Sessions
}

// pick returns which backend a session gets, -1 for none.
func (m *model) pick(tried []int) int {
	if m.full() {
		return -1
	}
	all, usable := 0, 0
	for i := range m.backends {
		if b := &m.backends[i]; !b.drained {
			all++
			if b.usable() {
				usable++
			}
		}
	}
	panics := usable*100 < all*m.options.Panic
	for rank := range 6 {
		var candidates []int
		for i := range m.backends {
			if m.backends[i].rank(panics) == rank && !slices.Contains(tried, i) {
				candidates = append(candidates, i)
			}
		}
		if m.least {
			candidates = m.leastLoaded(candidates)
		}
		if len(candidates) > 0 {
			return m.take(candidates)
		}
	}
	return -1
}

func (m *model) leastLoaded(candidates []int) []int {
	slots := !slices.ContainsFunc(candidates, func(i int) bool { return m.backends[i].max == 0 })
	load := func(i int) float64 {
		b := &m.backends[i]
		weight := b.weight
		if slots {
			weight *= b.max
		}
		return (float64(b.sessions) + math.Pow(4, float64(b.recent)) - 1) / float64(weight)
	}
	least := 1e9
	for _, i := range candidates {
		least = min(least, load(i))
	}
	return slices.DeleteFunc(candidates, func(i int) bool { return load(i) > least })
}

// take is the loop of nginx's upstream module.
func (m *model) take(candidates []int) int {
	best, sum := -1, 0
	for _, i := range candidates {
		b := &m.backends[i]
		b.current += b.weight
		sum += b.weight
		if best < 0 || b.current > m.backends[best].current {
			best = i
		}
	}
	b := &m.backends[best]
	b.current -= sum
	b.sessions++
	b.total++
	return best
}

// fail is one failed session of backend i.
func (m *model) fail(i int) {
	b := &m.backends[i]
	if b.recent == 0 {
		b.forget = m.now + memory
	}
	b.recent = min(b.recent+1, 8)
	b.row++
	e := m.options.Ejection
	if e.Failures == 0 || b.row < e.Failures || b.ejected {
		return
	}
	ejected, usable := 0, 0
	for j := range m.backends {
		if other := &m.backends[j]; other.ejected {
			ejected++
		} else if j != i && other.usable() {
			usable++
		}
	}
	if usable == 0 || ejected > 0 && float64(ejected+1)/float64(len(m.backends)) > float64(e.MaxPercent)/100 {
		return
	}
	for n := (m.now - b.returned) / e.Time; n > 0 && b.times > 0; n-- {
		b.times--
	}
	if time.Duration(b.times)*e.Time < e.MaxTime {
		b.times++
	}
	b.ejected = true
	b.ejections++
	b.returns = m.now + min(time.Duration(b.times)*e.Time, e.MaxTime)
}

// uneject lets b come back now.
func (m *model) uneject(b *modelBackend) {
	if b.ejected {
		b.ejected, b.returned, b.row = false, m.now, 0
	}
}

// tick moves the time by less than what any of it is measured in.
func (m *model) tick(d time.Duration) {
	m.now += d
	for i := range m.backends {
		b := &m.backends[i]
		if b.recent > 0 && b.forget <= m.now {
			b.recent--
			b.forget += memory
		}
		if b.ejected && b.returns <= m.now {
			m.uneject(b)
		}
	}
}

// FuzzPick does the same things to a pool and to the model: each byte of script
// says what, and to which backend.
func FuzzPick(f *testing.F) {
	const pick, done, fail, tick, uneject = byte(0), byte(8), byte(72), byte(88), byte(96)
	f.Add(false, byte(0), []byte{5, 1, 1}, []byte{pick, pick, pick, pick, pick, pick, pick, done, done})
	f.Add(true, byte(0), []byte{3, 2, 1}, []byte{pick, pick, pick, done, pick, pick, done, pick})
	f.Add(true, byte(0), []byte{1, 1}, []byte{16, pick, pick, 24, 32, pick, 40, 17, pick, 48, pick, 56, pick})
	f.Add(false, byte(0), []byte{9, 9, 9, 9, 9, 9, 9, 9}, []byte{1, 2, 3, 17, 18, 25, 33, 42, 0, 0, 0, 50, 58, 2, 66, 0})
	f.Add(true, byte(1+4*1+16*1), []byte{1, 1, 1, 1}, []byte{pick, pick, pick, fail, fail, fail, fail + 1, tick, pick, pick, tick, tick + 7, tick + 7, uneject, fail, pick})
	f.Add(false, byte(2+4*2+16*2), []byte{1, 1, 1}, []byte{pick, pick, fail, fail, pick, pick, fail + 1, fail + 1, 16, 17, 18, pick, pick, pick, tick + 7, tick + 7, pick})
	f.Add(true, byte(64+1), []byte{1, 1, 1, 1}, []byte{pick, pick, pick, done, pick, pick, fail, done, done, pick, pick, pick})
	f.Fuzz(func(t *testing.T, least bool, options byte, weights, script []byte) {
		if len(weights) == 0 || len(weights) > 8 || len(script) > 4096 {
			t.Skip()
		}
		policy, m := Policy(RoundRobin{}), model{least: least}
		if least {
			policy = LeastConnections{}
		}
		clock := newFakeClock()
		m.options = Options{Clock: clock, Sessions: int(options/64) * 2, Panic: int(options/16%3) * 50, Ejection: Ejection{
			Failures: int(options % 4), MaxPercent: []int{0, 34, 50, 100}[options/4%4],
			Time: 2 * time.Second, MaxTime: 5 * time.Second,
		}}
		var backends []*Backend
		for _, w := range weights {
			weight := 1 + int(w)
			b := newBackends(weight)[0]
			backends = append(backends, b)
			m.backends = append(m.backends, modelBackend{weight: weight, address: true})
		}
		pool := NewPool(policy, m.options, backends)
		var loans []Loan
		var holds []int // the model's backends, one for each of loans
		for at, op := range script {
			what, which := op/8%13, int(op)%8
			i := which % len(backends)
			b, mb := backends[i], &m.backends[i]
			switch what {
			case 0: // pick; one of the backends was tried, unless which is 0
				var tried []*Backend
				var triedModel []int
				if which > 0 {
					tried, triedModel = backends[i:i+1], []int{i}
				}
				loan, err := pool.Pick(tried, 0)
				want := m.pick(triedModel)
				if want < 0 {
					wantErr := ErrNoBackend
					if m.full() {
						wantErr = ErrPoolFull
					}
					if !errors.Is(err, wantErr) || loan.Backend() != nil {
						t.Fatalf("step %d: Pick = %v, %v; want %v", at, loan.Backend(), err, wantErr)
					}
					continue
				}
				if got := slices.Index(backends, loan.Backend()); err != nil || got != want {
					t.Fatalf("step %d: Pick = backend %d, %v; want %d", at, got, err, want)
				}
				loans, holds = append(loans, loan), append(holds, want)
			case 1:
				if len(loans) == 0 {
					continue
				}
				n := which % len(loans)
				loans[n].Done()
				m.backends[holds[n]].sessions--
				loans, holds = slices.Delete(loans, n, n+1), slices.Delete(holds, n, n+1)
			case 2:
				mb.down = !mb.down
				b.SetUp(!mb.down)
			case 3:
				mb.busy = !mb.busy
				b.SetBusy(mb.busy)
			case 4:
				mb.drained = !mb.drained
				b.Drain(mb.drained)
			case 5:
				mb.backup = !mb.backup
				b.Configure(mb.weight, mb.max, mb.backup)
			case 6:
				mb.max = (mb.max + 1) % 4
				b.Configure(mb.weight, mb.max, mb.backup)
			case 7:
				mb.weight = mb.weight%5 + 1
				b.Configure(mb.weight, mb.max, mb.backup)
			case 8:
				if len(loans) > 0 {
					loans[which%len(loans)].ServersTurn(at%2 == 0)
				}
			case 9:
				if len(loans) > 0 {
					loans[which%len(loans)].Failed()
					m.fail(holds[which%len(loans)])
				}
			case 10:
				if len(loans) > 0 {
					loans[which%len(loans)].Served()
					m.backends[holds[which%len(loans)]].row = 0
				}
			case 11:
				for range 1 + which {
					clock.advance(500 * time.Millisecond)
					m.tick(500 * time.Millisecond)
				}
			case 12:
				b.Uneject()
				m.uneject(mb)
			}
		}
		for i, b := range backends {
			mb := m.backends[i]
			if b.Sessions() != mb.sessions || b.Total() != mb.total || int(b.current.Load()) != mb.current*rampSteps {
				t.Fatalf("backend %d ends with %d sessions of %d, current value %d; want %d, %d, %d",
					i, b.Sessions(), b.Total(), b.current.Load(), mb.sessions, mb.total, mb.current*rampSteps)
			}
		}
		for i, b := range backends {
			if mb := &m.backends[i]; b.State() == Ejected != (mb.ejected && !mb.down && !mb.drained) || int(b.Ejections()) != mb.ejections {
				t.Fatalf("backend %d ends %v after %d ejections; want ejected: %v, after %d", i, b.State(), b.Ejections(), mb.ejected, mb.ejections)
			}
		}
		total := int64(0)
		for i := range loans {
			loans[i].Done()
		}
		for _, b := range backends {
			total += int64(b.Total())
		}
		checkAtRest(t, backends, total)
	})
}

// FuzzQueue lets sessions come, go and wait by a script, and wants each slot to
// go to the first who can use it.
func FuzzQueue(f *testing.F) {
	const come, end, leave, down, drain, limit, fail, tick, reload = 0, 16, 32, 48, 64, 80, 96, 112, 128
	f.Add([]byte{1, 1}, []byte{come, come, come, come, come + 1, end, end, end, end})
	f.Add([]byte{1, 2, 0}, []byte{come, come, down, come, come + 2, come, drain + 1, drain + 1, down, leave, end, limit, reload, end})
	f.Add([]byte{2, 1}, []byte{fail, come, fail, fail, fail, come, come, come, come, leave + 1, tick, tick, reload + 1, tick, end, end})
	f.Add([]byte{64 + 3, 3, 3}, []byte{come, come, come + 1, come, end, end, reload + 1, come, come + 9, end, leave, reload, reload + 2, end, end})
	f.Fuzz(func(t *testing.T, limits, script []byte) {
		if len(limits) == 0 || len(limits) > 6 || len(script) > 2048 {
			t.Skip()
		}
		q := queueScript{t: t, clock: newFakeClock()}
		for _, l := range limits {
			b := newBackends(1)[0]
			b.Configure(1, int(l%4), l%8 > 5)
			q.backends = append(q.backends, b)
		}
		q.options = Options{Queue: 5, Sessions: int(limits[0] / 64), Clock: q.clock, Ejection: Ejection{Failures: 2, Time: time.Second, MaxTime: 3 * time.Second, MaxPercent: 50}}
		q.pool = NewPool(LeastConnections{}, q.options, q.backends)
		q.first = q.pool
		for _, op := range script {
			q.step(op/16%9, int(op)%16)
			q.check()
		}
	})
}

// A queueScript is a run of [FuzzQueue], and its own idea of who waits.
type queueScript struct {
	t           *testing.T
	clock       *fakeClock
	options     Options
	backends    []*Backend
	pool, first *Pool // the version in force, and the one that sessions use that came first
	loans       []Loan
	waiting     []*guest
}

func (q *queueScript) step(what byte, which int) {
	b := q.backends[which%len(q.backends)]
	switch what {
	case 0:
		q.come(which, b)
	case 1:
		if len(q.loans) > 0 {
			i := which % len(q.loans)
			l := q.loans[i]
			q.loans = slices.Delete(q.loans, i, i+1)
			l.Done()
		}
	case 2:
		if len(q.waiting) > 0 {
			i := which % len(q.waiting)
			if !q.first.Leave(&q.waiting[i].Waiter) {
				q.t.Fatalf("Leave = false of number %d of %d who wait; want true", i, len(q.waiting))
			}
			q.waiting = slices.Delete(q.waiting, i, i+1)
		}
	case 3:
		b.SetUp(!b.Healthy())
	case 4:
		b.Drain(b.State() != Drained)
	case 5:
		b.Configure(1, which/len(q.backends), false)
	case 6:
		if len(q.loans) > 0 {
			q.loans[which%len(q.loans)].Failed()
		}
	case 7:
		q.clock.advance(time.Duration(which) * 200 * time.Millisecond)
	case 8:
		fresh := newBackends(1)[0]
		fresh.Configure(1, 1+which%2, false)
		q.backends = slices.Clone(q.backends)
		q.backends[which%len(q.backends)] = fresh
		after := NewPool(LeastConnections{}, q.options, q.backends)
		after.Inherit(q.pool)
		q.pool = after
	}
}

// come has a session come that has tried b, unless which is even.
func (q *queueScript) come(which int, b *Backend) {
	var tried []*Backend
	if which%2 == 1 {
		tried = []*Backend{b}
	}
	pool := q.pool
	if which > 7 {
		pool = q.first
	}
	loan, err := pool.Pick(tried, 0)
	if err == nil {
		q.loans = append(q.loans, loan)
		return
	}
	g := newGuest("guest", tried...)
	switch err := pool.Wait(&g.Waiter); {
	case err == nil:
		q.waiting = append(q.waiting, g)
	case err == ErrNoBackend && !slices.ContainsFunc(q.backends, func(b *Backend) bool { return !slices.Contains(tried, b) }):
	case len(q.waiting) < q.options.Queue:
		q.t.Fatalf("Wait = %v with %d who wait of %d", err, len(q.waiting), q.options.Queue)
	}
}

// check finds out who was served in the last step.
func (q *queueScript) check() {
	var passedOver []*guest
	for _, g := range q.waiting {
		l := g.served()
		if l.Backend() == nil {
			passedOver = append(passedOver, g)
			continue
		}
		if slices.Contains(g.Tried, l.Backend()) {
			q.t.Fatalf("served by %s, which it has tried", l.Backend().Name())
		}
		for _, other := range passedOver {
			if !slices.Contains(other.Tried, l.Backend()) {
				q.t.Fatalf("%s goes to one who waits behind another who could use it", l.Backend().Name())
			}
		}
		if len(g.loan) > 0 {
			q.t.Fatal("served twice")
		}
		q.loans = append(q.loans, l)
	}
	q.waiting = passedOver
	if q.pool.Waiting() != len(q.waiting) {
		q.t.Fatalf("Waiting() = %d; want %d", q.pool.Waiting(), len(q.waiting))
	}
	if max := q.options.Sessions; max > 0 && len(q.loans) > max {
		q.t.Fatalf("%d sessions; want at most %d in the pool", len(q.loans), max)
	}
	held := make(map[*Backend]int)
	for _, l := range q.loans {
		held[l.Backend()]++
	}
	for _, b := range q.backends {
		if b.Sessions() != held[b] {
			q.t.Fatalf("%s has %d sessions; want %d", b.Name(), b.Sessions(), held[b])
		}
		if b.State() != Up || b.Full() || q.options.Sessions > 0 && len(q.loans) >= q.options.Sessions {
			continue
		}
		for i, g := range q.waiting {
			if !slices.Contains(g.Tried, b) {
				q.t.Fatalf("number %d of %d waits, and %s has room for it", i, len(q.waiting), b.Name())
			}
		}
	}
}
