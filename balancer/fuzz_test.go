package balancer

import (
	"errors"
	"slices"
	"testing"
)

// A model is a pool as one would write it without concurrency or speed: plain
// numbers, one pick at a time.
type model struct {
	least    bool // connections, or round-robin
	backends []modelBackend
}

type modelBackend struct {
	address, down, busy, drained, backup bool
	weight, max, sessions, current       int
	total                                uint64
}

// rank is the group of the design's order that b serves in, -1 if it can't.
func (b *modelBackend) rank() int {
	switch {
	case b.drained, b.down, !b.address, b.max > 0 && b.sessions >= b.max:
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

// pick returns which backend a session gets, -1 for none.
func (m *model) pick(tried []int) int {
	for rank := range 4 {
		var candidates []int
		for i := range m.backends {
			if m.backends[i].rank() == rank && !slices.Contains(tried, i) {
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
		if slots {
			return float64(b.sessions) / float64(b.weight*b.max)
		}
		return float64(b.sessions) / float64(b.weight)
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

// FuzzPick does the same things to a pool and to the model: each byte of script
// says what, and to which backend.
func FuzzPick(f *testing.F) {
	pick, done := byte(0), byte(8)
	f.Add(false, []byte{5, 1, 1}, []byte{pick, pick, pick, pick, pick, pick, pick, done, done})
	f.Add(true, []byte{3, 2, 1}, []byte{pick, pick, pick, done, pick, pick, done, pick})
	f.Add(true, []byte{1, 1}, []byte{16, pick, pick, 24, 32, pick, 40, 17, pick, 48, pick, 56, pick})
	f.Add(false, []byte{9, 9, 9, 9, 9, 9, 9, 9}, []byte{1, 2, 3, 17, 18, 25, 33, 42, 0, 0, 0, 50, 58, 2, 66, 0})
	f.Fuzz(func(t *testing.T, least bool, weights, script []byte) {
		if len(weights) == 0 || len(weights) > 8 || len(script) > 4096 {
			t.Skip()
		}
		policy, m := Policy(RoundRobin{}), model{least: least}
		if least {
			policy = LeastConnections{}
		}
		var backends []*Backend
		for _, w := range weights {
			weight := 1 + int(w)
			b := newBackends(weight)[0]
			backends = append(backends, b)
			m.backends = append(m.backends, modelBackend{weight: weight, address: true})
		}
		pool := NewPool(policy, Options{}, backends)
		var loans []Loan
		var holds []int // the model's backends, one for each of loans
		for at, op := range script {
			what, which := op/8%9, int(op)%8
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
					if !errors.Is(err, ErrNoBackend) || loan.Backend() != nil {
						t.Fatalf("step %d: Pick = %v, %v; want ErrNoBackend", at, loan.Backend(), err)
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
			}
		}
		for i, b := range backends {
			mb := m.backends[i]
			if b.Sessions() != mb.sessions || b.Total() != mb.total || int(b.current.Load()) != mb.current*rampSteps {
				t.Fatalf("backend %d ends with %d sessions of %d, current value %d; want %d, %d, %d",
					i, b.Sessions(), b.Total(), b.current.Load(), mb.sessions, mb.total, mb.current*rampSteps)
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
