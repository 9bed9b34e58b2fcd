package balancer

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var someAddr = netip.MustParseAddrPort("192.0.2.1:4573")

// newBackends returns backends of these weights that are up, named a, b, c …
func newBackends(weights ...int) []*Backend {
	var backends []*Backend
	for i, weight := range weights {
		name := fmt.Sprint(i)
		if i < 26 {
			name = string(rune('a' + i))
		}
		b := NewBackend(name, someAddr.String())
		b.SetAddr(someAddr)
		b.Configure(weight, 0, false)
		backends = append(backends, b)
	}
	return backends
}

// randomWeights returns up to eight weights, small ones and large ones.
func randomWeights(rng *rand.Rand) []int {
	weights := make([]int, 1+rng.IntN(8))
	for i := range weights {
		weights[i] = 1 + rng.IntN([]int{1, 3, 20, 100}[rng.IntN(4)])
	}
	return weights
}

func sum(weights []int) (n int) {
	for _, w := range weights {
		n += w
	}
	return n
}

// currents returns the sum of the backends' current values.
func currents(backends []*Backend) (n int64) {
	for _, b := range backends {
		n += b.current.Load()
	}
	return n
}

// policyNames are those that NewPolicy knows.
var policyNames = []string{"round-robin", "least-connections", "random", "hash", "first"}

func TestPolicyNames(t *testing.T) {
	for i, want := range []Policy{RoundRobin{}, LeastConnections{}, Random{}, Hash{}, First{}} {
		got, err := NewPolicy(policyNames[i])
		if fmt.Sprintf("%T", got) != fmt.Sprintf("%T", want) || err != nil {
			t.Errorf("NewPolicy(%q) = %T, %v; want %T", policyNames[i], got, err, want)
		}
	}
	for _, name := range []string{"", "maglev", "Round-Robin"} {
		if got, err := NewPolicy(name); got != nil || err == nil || !strings.Contains(err.Error(), `"`+name+`"`) {
			t.Errorf("NewPolicy(%q) = %T, %v; want an error that names it", name, got, err)
		}
	}
}

func TestRoundRobinTakesTurnsAsNginxDoes(t *testing.T) {
	for _, test := range []struct {
		weights []int
		want    string
	}{
		{[]int{1}, "aaa"},
		{[]int{1, 1, 1}, "abcabc"},
		{[]int{7, 7}, "abab"},
		{[]int{2, 1}, "abaaba"},
		{[]int{5, 1, 1}, "aabacaa" + "aabacaa"}, // the example that nginx gives
		{[]int{1, 1, 5}, "ccacbcc" + "ccacbcc"},
		{[]int{4, 2, 1}, "abacaba" + "abacaba"},
	} {
		backends := newBackends(test.weights...)
		var got string
		for range test.want {
			got += RoundRobin{}.Choose(backends, 0).Name()
		}
		if got != test.want {
			t.Errorf("weights %v: chosen %s; want %s", test.weights, got, test.want)
		}
	}
}

func TestRoundRobinGivesEachItsShareAndNoBursts(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 1))
		weights := randomWeights(rng)
		backends, all := newBackends(weights...), sum(weights)
		checkShares(t, fmt.Sprintf("seed %d, weights %v", seed, weights), backends, weights, 2*all)
		for _, b := range backends {
			if c := b.current.Load(); c != 0 {
				t.Fatalf("seed %d, weights %v: current value %d of %s after two periods; want 0", seed, weights, c, b.Name())
			}
		}
	}
}

// checkShares makes so many picks and wants each backend's to be spread evenly
// from wherever it was, and exact after each period.
func checkShares(t *testing.T, what string, backends []*Backend, weights []int, picks int) {
	t.Helper()
	all := sum(weights)
	count, run := make([]int, len(weights)), 0
	var last *Backend
	for n := 1; n <= picks; n++ {
		b := RoundRobin{}.Choose(backends, 0)
		i := slices.Index(backends, b)
		count[i]++
		if run++; b != last {
			run, last = 1, b
		}
		if s := currents(backends); s != 0 {
			t.Fatalf("%s: current values sum to %d after %d picks; want 0", what, s, n)
		}
		if len(weights) > 1 && 2*weights[i] <= all && run > 2 {
			t.Fatalf("%s: %s was chosen %d times in a row; want at most twice: its weight is no more than half", what, b.Name(), run)
		}
		for i, w := range weights {
			// In units of a pick: never a whole one ahead of its share, and not two behind.
			if behind := n*w - count[i]*all; behind <= -all || behind >= 2*all {
				t.Fatalf("%s: %d picks of %d for %s; want its share of %d in %d, less than one more and two less", what, count[i], n, backends[i].Name(), w, all)
			}
			if n%all == 0 && count[i] != n/all*w {
				t.Fatalf("%s: %d picks of %d for %s; want %d", what, count[i], n, backends[i].Name(), n/all*w)
			}
		}
	}
}

func TestRoundRobinDoesNotBurstOnABackendThatComesBack(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 2))
		weights := append(randomWeights(rng), 1+rng.IntN(20))
		backends, all := newBackends(weights...), sum(weights)
		away := rng.IntN(len(backends))
		others := slices.Delete(slices.Clone(backends), away, away+1)
		for range rng.IntN(all) {
			RoundRobin{}.Choose(backends, 0)
		}
		before := backends[away].current.Load()
		for range rng.IntN(2000) {
			if b := (RoundRobin{}).Choose(others, 0); b == backends[away] {
				t.Fatalf("seed %d: %s was chosen; want it left out", seed, b.Name())
			}
		}
		if after := backends[away].current.Load(); after != before {
			t.Fatalf("seed %d: current value of the absent %s went from %d to %d; want it kept", seed, backends[away].Name(), before, after)
		}
		count := make([]int, len(backends))
		for n := 1; n <= 3*all; n++ {
			i := slices.Index(backends, RoundRobin{}.Choose(backends, 0))
			count[i]++
			if extra := count[i]*all - n*weights[i]; extra >= 3*all {
				t.Fatalf("seed %d, weights %v, %s was away: %d of the %d picks since for %s; want its share and less than three more",
					seed, weights, backends[away].Name(), count[i], n, backends[i].Name())
			}
		}
	}
}

// Sessions whose attempts fail leave out what they have tried, so that the
// candidates change with each pick.
func TestRoundRobinStaysFairWhenEachPickLeavesSomebodyOut(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 3))
		backends := newBackends(1, 1, 1, 1, 1)
		fair, count := make([]float64, len(backends)), make([]float64, len(backends))
		var candidates []*Backend
		for range 20000 {
			candidates = candidates[:0]
			for _, b := range backends {
				if rng.IntN(3) > 0 {
					candidates = append(candidates, b)
				}
			}
			if len(candidates) == 0 {
				continue
			}
			for _, b := range candidates {
				fair[slices.Index(backends, b)] += 1 / float64(len(candidates))
			}
			count[slices.Index(backends, RoundRobin{}.Choose(candidates, 0))]++
		}
		for i, b := range backends {
			if d := count[i]/fair[i] - 1; d > 0.02 || d < -0.02 {
				t.Errorf("seed %d: %v picks for %s; want %.1f, and at most two in a hundred off", seed, count[i], b.Name(), fair[i])
			}
			if c := b.current.Load() / rampSteps; c > 15 || c < -15 {
				t.Errorf("seed %d: current value of %s is %d after 20000 picks; want it not to run away", seed, b.Name(), c)
			}
		}
		if s := currents(backends); s != 0 {
			t.Errorf("seed %d: current values sum to %d; want 0", seed, s)
		}
	}
}

func TestRoundRobinIsFairUnderConcurrentPicks(t *testing.T) {
	const workers, picks = 8, 7 * 2000
	weights := []int{5, 1, 1}
	backends, all := newBackends(weights...), sum(weights)
	count := make([]atomic.Int64, len(backends))
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range picks {
				count[slices.Index(backends, RoundRobin{}.Choose(backends, 0))].Add(1)
			}
		})
	}
	wg.Wait()
	if s := currents(backends); s != 0 {
		t.Errorf("current values sum to %d; want 0", s)
	}
	for i, b := range backends {
		got, want := count[i].Load(), int64(workers*picks*weights[i]/all)
		if d := got - want; d > 2*workers || d < -2*workers {
			t.Errorf("%d picks for %s; want %d, and off by no more than two for each of the %d that run at once", got, b.Name(), want, workers)
		}
	}
}

func TestLeastConnectionsHoldsSessionsByWeight(t *testing.T) {
	backends := newBackends(3, 2, 1)
	pool := NewPool(LeastConnections{}, Options{}, backends)
	for n := 1; n <= 60; n++ {
		mustPick(t, pool)
		if n%6 != 0 {
			continue
		}
		for i, b := range backends {
			if got, want := b.Sessions(), n*(3-i)/6; got != want {
				t.Errorf("%d sessions, of which %s has %d; want %d", n, b.Name(), got, want)
			}
		}
	}
}

func TestLeastConnectionsSpreadsAPoolAtRestEvenly(t *testing.T) {
	for _, weights := range [][]int{{1, 1, 1}, {5, 1, 1}, {2, 3}} {
		backends := newBackends(weights...)
		pool := NewPool(LeastConnections{}, Options{}, backends)
		const periods = 40
		for range periods * sum(weights) {
			loan := mustPick(t, pool)
			loan.Done()
		}
		for i, b := range backends {
			if got, want := int(b.Total()), periods*weights[i]; got != want {
				t.Errorf("weights %v: %d sessions for %s; want %d, its share", weights, got, b.Name(), want)
			}
		}
	}
}

func TestLeastConnectionsTakesTheLeastLoaded(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 4))
		backends := newBackends(randomWeights(rng)...)
		pool := NewPool(LeastConnections{}, Options{}, backends)
		var loans []Loan
		for range 200 {
			if len(loans) > 0 && rng.IntN(5) < 2 {
				i := rng.IntN(len(loans))
				loans[i].Done()
				loans = slices.Delete(loans, i, i+1)
				continue
			}
			before := make([]float64, len(backends)) // sessions for the weight
			for i, b := range backends {
				before[i] = float64(b.Sessions()) / float64(b.Weight())
			}
			loan := mustPick(t, pool)
			loans = append(loans, loan)
			if got := before[slices.Index(backends, loan.Backend())]; got != slices.Min(before) {
				t.Fatalf("seed %d: Pick = %s with load %v of %v; want one with the least", seed, loan.Backend().Name(), got, before)
			}
		}
	}
}

func TestLeastConnectionsFillsEqualSharesOfTheSlots(t *testing.T) {
	for _, test := range []struct {
		name         string
		weights, max []int
		sessions     int
		want         []int
	}{
		{"slots alone", []int{1, 1, 1}, []int{10, 40, 50}, 50, []int{5, 20, 25}},
		{"slots alone, nearly full", []int{1, 1, 1}, []int{10, 40, 50}, 90, []int{9, 36, 45}},
		{"a weight on top", []int{2, 1}, []int{50, 100}, 80, []int{40, 40}},
		{"one has no limit: by weight", []int{1, 1, 1}, []int{10, 40, 0}, 30, []int{10, 10, 10}},
		{"one has no limit: by weight, until somebody is full", []int{1, 1, 2}, []int{3, 40, 0}, 33, []int{3, 10, 20}},
	} {
		backends := newBackends(test.weights...)
		for i, b := range backends {
			b.Configure(test.weights[i], test.max[i], false)
		}
		pool := NewPool(LeastConnections{}, Options{}, backends)
		for range test.sessions {
			mustPick(t, pool)
		}
		for i, b := range backends {
			if got := b.Sessions(); got != test.want[i] {
				t.Errorf("%s: weights %v, limits %v: %s has %d of %d sessions; want %d", test.name, test.weights, test.max, b.Name(), got, test.sessions, test.want[i])
			}
		}
	}
}

func TestLeastConnectionsTakesTheLargestFreeShare(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 7))
		backends := newBackends(make([]int, 1+rng.IntN(8))...)
		for _, b := range backends {
			b.Configure(1, 1+rng.IntN(60), false)
		}
		pool := NewPool(LeastConnections{}, Options{}, backends)
		coming := churn{rng: rng, stay: 0.6}
		for range 300 {
			used := make([]float64, len(backends)) // of the slots; a full one has none to share
			for i, b := range backends {
				used[i] = float64(b.Sessions()) / float64(b.max.Load())
			}
			if got := coming.next(t, pool, 0); got != nil && used[slices.Index(backends, got)] != slices.Min(used) {
				t.Fatalf("seed %d: Pick = %s where %v of the slots are used; want one with the least", seed, got.Name(), used)
			}
		}
	}
}

// A churn is sessions that come and go at random.
type churn struct {
	rng   *rand.Rand
	stay  float64 // the share of steps in which one comes
	loans []Loan
}

// next has a session of that key come, or one go, and returns the backend that
// was picked, if one was.
func (c *churn) next(t *testing.T, pool *Pool, key uint64) *Backend {
	t.Helper()
	loan, err := Loan{}, ErrNoBackend
	if c.rng.Float64() < c.stay {
		loan, err = pool.Pick(nil, key)
	}
	if err == nil {
		c.loans = append(c.loans, loan)
		return loan.Backend()
	}
	if n := len(c.loans); n > 0 {
		i := c.rng.IntN(n)
		c.loans[i].Done()
		c.loans = slices.Delete(c.loans, i, i+1)
	}
	return nil
}

func TestFirstFillsOneBeforeTheNext(t *testing.T) {
	backends := newBackends(1, 9, 1)
	for i, max := range []int{2, 3, 0} {
		backends[i].Configure(backends[i].Weight(), max, false)
	}
	pool := NewPool(First{}, Options{}, backends)
	var got string
	var loans []Loan
	for range 7 {
		loans = append(loans, mustPick(t, pool))
		got += loans[len(loans)-1].Backend().Name()
	}
	if got != "aabbbcc" {
		t.Errorf("filled in the order %s; want aabbbcc", got)
	}
	loans[3].Done()
	loans[0].Done()
	one, two := mustPick(t, pool), mustPick(t, pool)
	if one.Backend() != backends[0] || two.Backend() != backends[1] {
		t.Errorf("places free on b and a went to %s, then %s; want a, then b", one.Backend().Name(), two.Backend().Name())
	}
}

// The load of every candidate may grow between the two looks that a choice takes
// at it.
func TestLeastConnectionsAlwaysChoosesSomebody(t *testing.T) {
	backends := newBackends(1)
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			backends[0].sessions.Add(1)
		}
	})
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
		if (LeastConnections{}).Choose(backends, 0) == nil {
			t.Error("Choose = nil; want the candidate")
			break
		}
	}
	stop.Store(true)
	wg.Wait()
}

// mustPick borrows a backend from a pool that has one.
func mustPick(t *testing.T, p *Pool, tried ...*Backend) Loan {
	t.Helper()
	loan, err := p.Pick(tried, 0)
	if err != nil || loan.Backend() == nil {
		t.Fatalf("Pick = %v, %v; want a backend", loan.Backend(), err)
	}
	return loan
}
