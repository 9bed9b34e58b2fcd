package balancer

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// together runs these at the same time, as nearly as two goroutines can, and
// waits for them.
func together(do ...func()) {
	var ready atomic.Int32
	var wg sync.WaitGroup
	for _, f := range do {
		wg.Go(func() {
			for ready.Add(1); int(ready.Load()) < len(do); {
				runtime.Gosched()
			}
			f()
		})
	}
	wg.Wait()
}

// everyPolicy runs f as a subtest for each policy.
func everyPolicy(t *testing.T, f func(t *testing.T, policy Policy)) {
	for _, name := range policyNames {
		policy, err := NewPolicy(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) { f(t, policy) })
	}
}

// picks returns the names of the backends that one session gets whose attempts
// all fail, and the error that ends them.
func picks(p *Pool) (names string, err error) {
	var tried []*Backend
	for {
		loan, err := p.Pick(tried, 0)
		if err != nil {
			return names, err
		}
		names += loan.Backend().Name()
		tried = append(tried, loan.Backend())
		loan.Done()
	}
}

// The backends that ranked returns, by what each is.
const (
	primary = iota
	backup
	busyPrimary
	busyBackup
	down
	drained
	nameless
)

func ranked() []*Backend {
	b := newBackends(1, 1, 1, 1, 1, 1, 1)
	b[backup].Configure(1, 0, true)
	b[busyPrimary].SetBusy(true)
	b[busyBackup].SetBusy(true)
	b[busyBackup].Configure(1, 0, true)
	b[down].SetUp(false)
	b[drained].Drain(true)
	b[nameless] = NewBackend("g", "no.address.yet:4573")
	return b
}

func TestPickGoesThroughTheRanks(t *testing.T) {
	everyPolicy(t, func(t *testing.T, policy Policy) {
		for _, test := range []struct {
			name   string
			change func(b []*Backend)
			want   string // the names in the order of the attempts
		}{
			{"each in its rank", func([]*Backend) {}, "abcd"},
			{"order of the configuration doesn't matter", func(b []*Backend) { slices.Reverse(b) }, "abcd"},
			{"the primary is full", func(b []*Backend) { b[primary].Configure(1, 1, false); b[primary].borrow() }, "bcd"},
			{"the primary is drained", func(b []*Backend) { b[primary].Drain(true) }, "bcd"},
			{"all that were up are down", func(b []*Backend) { b[primary].SetUp(false); b[backup].SetUp(false) }, "cd"},
			{"a busy one is down", func(b []*Backend) { b[busyPrimary].SetUp(false) }, "abd"},
			{"a busy one is full", func(b []*Backend) { b[busyBackup].Configure(1, 1, true); b[busyBackup].borrow() }, "abc"},
			{"a busy one is up again", func(b []*Backend) { b[busyPrimary].SetBusy(false); b[primary].Drain(true) }, "cbd"},
			{"the one that was down is up again, and a backup", func(b []*Backend) {
				b[down].SetUp(true)
				b[down].Configure(1, 0, true)
				b[backup].Drain(true)
			}, "aecd"},
			{"the one without a name has an address, and the others are gone", func(b []*Backend) {
				for _, other := range b {
					other.Drain(true)
				}
				b[nameless].Drain(false)
				b[nameless].SetAddr(someAddr)
			}, "g"},
		} {
			t.Run(test.name, func(t *testing.T) {
				backends := ranked()
				test.change(backends)
				got, err := picks(NewPool(policy, Options{}, backends))
				if got != test.want || !errors.Is(err, ErrNoBackend) {
					t.Errorf("attempts at %q, then %v; want %q, then ErrNoBackend", got, err, test.want)
				}
			})
		}
	})
}

func TestPickSkipsTriedBackends(t *testing.T) {
	everyPolicy(t, func(t *testing.T, policy Policy) {
		pool := NewPool(policy, Options{}, newBackends(100, 1, 1, 1))
		for range 50 {
			names, err := picks(pool)
			if sorted := strings.Join(slices.Sorted(strings.SplitSeq(names, "")), ""); sorted != "abcd" || !errors.Is(err, ErrNoBackend) {
				t.Fatalf("attempts at %q, then %v; want each once, then ErrNoBackend", names, err)
			}
		}
		for _, b := range pool.Backends() {
			if n := b.Sessions(); n != 0 || b.Total() != 50 {
				t.Errorf("%s has %d sessions, and had %d; want 0 and 50", b.Name(), n, b.Total())
			}
		}
	})
}

func TestPickOfAnEmptyPool(t *testing.T) {
	pool := NewPool(RoundRobin{}, Options{}, nil)
	if loan, err := pool.Pick(nil, 0); !errors.Is(err, ErrNoBackend) || loan.Backend() != nil {
		t.Errorf("Pick = %v, %v; want ErrNoBackend", loan.Backend(), err)
	}
	if pool.CanServe() {
		t.Error("CanServe() = true; want false: there is nobody")
	}
}

func TestPickKeepsToMaxSessions(t *testing.T) {
	everyPolicy(t, func(t *testing.T, policy Policy) {
		backends := newBackends(1, 1)
		backends[0].Configure(10, 1, false)
		backends[1].Configure(1, 2, false)
		pool := NewPool(policy, Options{}, backends)
		loans := []Loan{mustPick(t, pool), mustPick(t, pool), mustPick(t, pool)}
		if !backends[0].Full() || !backends[1].Full() {
			t.Errorf("Full() = %v, %v after three picks; want both", backends[0].Full(), backends[1].Full())
		}
		if loan, err := pool.Pick(nil, 0); !errors.Is(err, ErrNoBackend) {
			t.Fatalf("Pick = %v, %v; want ErrNoBackend: all are full", loan.Backend(), err)
		}
		if !pool.CanServe() {
			t.Error("CanServe() = false; want true: being full is no state")
		}
		freed := loans[1].Backend()
		loans[1].Done()
		if loan := mustPick(t, pool); loan.Backend() != freed {
			t.Errorf("Pick = %s; want %s, which has room", loan.Backend().Name(), freed.Name())
		}

		backends[0].Configure(1, 3, false) // two more, while sessions are under way
		for range 2 {
			if loan := mustPick(t, pool); loan.Backend() != backends[0] {
				t.Errorf("Pick = %s; want a, which has got room", loan.Backend().Name())
			}
		}
		backends[0].Configure(1, 1, false) // and fewer than it has
		if loan, err := pool.Pick(nil, 0); !errors.Is(err, ErrNoBackend) {
			t.Errorf("Pick = %v, %v; want ErrNoBackend: a has more than it may", loan.Backend(), err)
		}
	})
}

func TestConcurrentPicksKeepToMaxSessions(t *testing.T) {
	everyPolicy(t, func(t *testing.T, policy Policy) {
		const workers, rounds = 16, 2000
		backends := newBackends(3, 1, 1)
		limits := []int{4, 1, 2}
		for i, b := range backends {
			b.Configure(b.Weight(), limits[i], false)
		}
		pool := NewPool(policy, Options{}, backends)
		holders := make([]atomic.Int64, len(backends))
		var served, refused atomic.Int64
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(w), 5))
				for range rounds {
					loan, err := pool.Pick(nil, 0)
					if err != nil {
						refused.Add(1)
						runtime.Gosched()
						continue
					}
					i := slices.Index(backends, loan.Backend())
					if n := holders[i].Add(1); int(n) > limits[i] {
						t.Errorf("%d sessions on %s; want at most %d", n, loan.Backend().Name(), limits[i])
					}
					for range rng.IntN(4) {
						loan.ServersTurn(rng.IntN(2) == 0)
						runtime.Gosched() // the others want a place meanwhile
					}
					served.Add(1)
					holders[i].Add(-1)
					loan.Done()
				}
			})
		}
		wg.Wait()
		if served.Load() == 0 || refused.Load() == 0 {
			t.Errorf("%d sessions served and %d refused; want some of both", served.Load(), refused.Load())
		}
		checkAtRest(t, backends, served.Load())
	})
}

// checkAtRest wants no session on any backend, and total in all so far.
func checkAtRest(t *testing.T, backends []*Backend, total int64) {
	t.Helper()
	for _, b := range backends {
		if b.Sessions() != 0 || b.waiting.Load() != 0 {
			t.Errorf("%s has %d sessions, of which the server owes nothing in %d; want none", b.Name(), b.Sessions(), b.waiting.Load())
		}
		total -= int64(b.Total())
	}
	if total != 0 {
		t.Errorf("the backends' totals are %d short of the picks; want them equal", total)
	}
	if s := currents(backends); s != 0 {
		t.Errorf("current values sum to %d; want 0", s)
	}
}

// Where everybody has room a pick never fails, whatever changes meanwhile.
func TestConcurrentPicksAreServedWhileSomebodyIsUp(t *testing.T) {
	everyPolicy(t, func(t *testing.T, policy Policy) {
		backends := newBackends(1, 2, 3, 4)
		pool := NewPool(policy, Options{}, backends)
		var stop atomic.Bool
		var changes sync.WaitGroup
		changes.Go(func() {
			for rng := rand.New(rand.NewPCG(1, 6)); !stop.Load(); {
				b, yes := backends[1+rng.IntN(3)], rng.IntN(2) == 0 // a stays up
				switch rng.IntN(4) {
				case 0:
					b.SetUp(yes)
				case 1:
					b.SetBusy(yes)
				case 2:
					b.Drain(yes)
				case 3:
					b.Configure(1+rng.IntN(9), rng.IntN(3), yes)
				}
			}
		})
		var workers sync.WaitGroup
		var total atomic.Int64
		for range 8 {
			workers.Go(func() {
				for range 2000 {
					loan, err := pool.Pick(nil, 0)
					if err != nil {
						t.Errorf("Pick: %v; want a backend: a is up and has no limit", err)
						return
					}
					total.Add(1)
					loan.Done()
				}
			})
		}
		workers.Wait()
		stop.Store(true)
		changes.Wait()
		checkAtRest(t, backends, total.Load())
	})
}

func TestCanServe(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(b *Backend)
		want   bool
	}{
		{"up", func(*Backend) {}, true},
		{"busy", func(b *Backend) { b.SetBusy(true) }, true},
		{"backup", func(b *Backend) { b.Configure(1, 0, true) }, true},
		{"full", func(b *Backend) { b.Configure(1, 1, false); b.borrow() }, true},
		{"down", func(b *Backend) { b.SetUp(false) }, false},
		{"drained", func(b *Backend) { b.Drain(true) }, false},
	} {
		backends := newBackends(1, 1)
		backends[1].SetUp(false)
		test.change(backends[0])
		if got := NewPool(RoundRobin{}, Options{}, backends).CanServe(); got != test.want {
			t.Errorf("one is down and one is %s: CanServe() = %v; want %v", test.name, got, test.want)
		}
	}
}

func TestPoolKeepsItsBackends(t *testing.T) {
	backends := newBackends(1, 1)
	want := slices.Clone(backends)
	pool := NewPool(RoundRobin{}, Options{}, backends)
	backends[0] = nil
	if got := pool.Backends(); !slices.Equal(got, want) {
		t.Errorf("Backends() = %v; want those that the pool was made of, in their order", got)
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	everyPolicy(t, func(t *testing.T, policy Policy) {
		backends := newBackends(3, 2, 1)
		pool := NewPool(policy, Options{}, backends)
		tried := backends[:1]
		if n := testing.AllocsPerRun(1000, func() {
			loan, err := pool.Pick(tried, 0)
			if err != nil {
				t.Error(err)
				return
			}
			loan.ServersTurn(false)
			loan.Done()
		}); n != 0 {
			t.Errorf("a pick allocates %v times; want never", n)
		}
	})
}

// BenchmarkPick is a pick and the loan's end, by one goroutine and by all.
func BenchmarkPick(b *testing.B) {
	for _, policy := range policyNames {
		for _, n := range []int{3, 100, 1000} {
			weights := make([]int, n)
			for i := range weights {
				weights[i] = 1 + i%3
			}
			p, err := NewPolicy(policy)
			if err != nil {
				b.Fatal(err)
			}
			pick := func(b *testing.B, pool *Pool) {
				loan, err := pool.Pick(nil, 0)
				if err != nil {
					b.Error(err)
					return
				}
				loan.Done()
			}
			b.Run(fmt.Sprintf("%s/%d", policy, n), func(b *testing.B) {
				pool := NewPool(p, Options{}, newBackends(weights...))
				b.ReportAllocs()
				for b.Loop() {
					pick(b, pool)
				}
			})
			b.Run(fmt.Sprintf("%s/%d/parallel", policy, n), func(b *testing.B) {
				pool := NewPool(p, Options{}, newBackends(weights...))
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						pick(b, pool)
					}
				})
			})
		}
	}
}

func TestPanic(t *testing.T) {
	out := func(b ...*Backend) {
		for _, b := range b {
			b.SetUp(false)
		}
	}
	for _, test := range []struct {
		name    string
		percent int
		queue   int
		change  func(b []*Backend) // five, of which e is a backup
		want    string             // the names of those that are tried, rank by rank
	}{
		{"all up", 50, 0, func([]*Backend) {}, "abcd e"},
		{"three of five usable", 50, 0, func(b []*Backend) { out(b[0], b[1]) }, "cd e"},
		{"two of five usable", 50, 0, func(b []*Backend) { out(b[0], b[1], b[2]) }, "d e abc"},
		{"two of four usable, for one is drained", 50, 0, func(b []*Backend) { out(b[0], b[1]); b[2].Drain(true) }, "d e"},
		{"a backup comes last", 50, 0, func(b []*Backend) { out(b...) }, "abcd e"},
		{"busy is usable", 50, 0, func(b []*Backend) { out(b[0], b[1]); b[3].SetBusy(true) }, "c e d"},
		{"ejected isn't", 50, 0, func(b []*Backend) { fail(b[0], 3); fail(b[1], 3); out(b[2]) }, "d e abc"},
		{"nothing without an address", 50, 0, func(b []*Backend) { out(b...); b[1].set(isNowhere, true) }, "acd e"},
		{"nothing that is full", 50, 0, func(b []*Backend) { out(b...); b[1].Configure(1, 1, false); lend(b[1]) }, "acd e"},
		{"nothing that is drained", 50, 0, func(b []*Backend) { out(b...); b[0].Drain(true) }, "bcd e"},
		{"no backup that is drained", 50, 0, func(b []*Backend) { out(b...); b[4].Drain(true) }, "abcd"},
		{"all drained", 50, 0, func(b []*Backend) {
			for _, b := range b {
				b.Drain(true)
			}
		}, ""},
		{"off", 0, 0, func(b []*Backend) { out(b...) }, ""},
		{"sessions wait instead", 50, 10, func(b []*Backend) { out(b...) }, ""},
		{"always", 100, 0, func(b []*Backend) { out(b[0]) }, "bcd e a"},
	} {
		backends := newBackends(1, 1, 1, 1, 1)
		backends[4].Configure(1, 0, true)
		pool := NewPool(RoundRobin{}, Options{Panic: test.percent, Queue: test.queue, Ejection: envoys, Clock: newFakeClock()}, backends)
		test.change(backends)
		got, err := picks(pool)
		if got := rankByRank(got, test.want); got != test.want || !errors.Is(err, ErrNoBackend) {
			t.Errorf("%s: attempts at %q, then %v; want %q, then ErrNoBackend", test.name, got, err, test.want)
		}
		if can := slices.ContainsFunc(backends, func(b *Backend) bool { return b.flags.Load()&unusable == 0 }); pool.CanServe() != can {
			t.Errorf("%s: CanServe() = %v; want %v: panic is no state to be ready in", test.name, pool.CanServe(), can)
		}
	}
}

// rankByRank sorts names in groups as long as those of like: whom the policy
// prefers among the backends of a rank is its business.
func rankByRank(names, like string) string {
	var groups []string
	for group := range strings.FieldsSeq(like) {
		n := min(len(group), len(names))
		groups = append(groups, strings.Join(slices.Sorted(strings.SplitSeq(names[:n], "")), ""))
		names = names[n:]
	}
	return strings.Join(append(groups, strings.Fields(names)...), " ")
}
