package balancer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// seeded is a policy that chooses the same each time.
func seeded(seed uint64) Random { return Random{Rand: rand.NewPCG(seed, 8).Uint64} }

func TestRandomGivesEachItsShareAtRest(t *testing.T) {
	for seed := range uint64(20) {
		weights := randomWeights(rand.New(rand.NewPCG(seed, 9)))
		backends, policy := newBackends(weights...), seeded(seed)
		checkRandomShares(t, fmt.Sprintf("seed %d", seed), weights, func() int {
			return slices.Index(backends, policy.Choose(backends, 0))
		})
	}
}

// checkRandomShares wants choices to be distributed by weight, as far as chance
// goes: five standard deviations are exceeded once in a million times.
func checkRandomShares(t *testing.T, what string, weights []int, choose func() int) {
	t.Helper()
	const picks = 20000
	count := make([]int, len(weights))
	for range picks {
		count[choose()]++
	}
	for i, w := range weights {
		p := float64(w) / float64(sum(weights))
		want, off := picks*p, 5*math.Sqrt(picks*p*(1-p))
		if d := float64(count[i]) - want; d > off+1 || d < -off-1 {
			t.Errorf("%s, weights %v: %d of %d choices of %d; want %.0f, and at most %.0f off", what, weights, count[i], picks, i, want, off)
		}
	}
}

// The second is drawn as the first is, from those that are left.
func TestRandomDrawsTheSecondByWeight(t *testing.T) {
	backends, policy := newBackends(80, 1, 1, 2), seeded(1)
	backends[0].sessions.Store(1)
	checkRandomShares(t, "a is drawn first and has a session", []int{1, 1, 2}, func() int {
		return slices.Index(backends, policy.Choose(backends, 0)) - 1
	})
}

func TestRandomIsReproducible(t *testing.T) {
	choices := func(seed uint64) (names string) {
		backends := newBackends(3, 2, 1, 1)
		pool := NewPool(seeded(seed), Options{}, backends)
		for range 50 {
			loan := mustPick(t, pool)
			names += loan.Backend().Name()
		}
		return names
	}
	if one, two := choices(1), choices(1); one != two {
		t.Errorf("the same seed chose %s and %s", one, two)
	}
	if one, two := choices(1), choices(2); one == two {
		t.Errorf("two seeds both chose %s", one)
	}
}

// Of two backends both are always drawn.
func TestRandomTakesTheLessLoadedOfTwo(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 10))
		backends := newBackends(1+rng.IntN(9), 1+rng.IntN(9))
		pool := NewPool(seeded(seed), Options{}, backends)
		coming := churn{rng: rng, stay: 0.6}
		for range 200 {
			a, b := backends[0].load(), backends[1].load()
			got := coming.next(t, pool, 0)
			if got == backends[0] && b.less(a) || got == backends[1] && a.less(b) {
				t.Fatalf("seed %d: Pick = %s with loads %v, %v; want the less loaded", seed, got.Name(), a, b)
			}
		}
	}
}

// The gap between the fullest backend and the average is what two choices are
// famous for: ln ln n / ln 2, not ln n / ln ln n, plus a small constant.
func TestRandomLeavesASmallGap(t *testing.T) {
	for seed := range uint64(5) {
		backends := newBackends(slices.Repeat([]int{1}, 100)...)
		pool := NewPool(seeded(seed), Options{}, backends)
		const each = 30
		for range each * len(backends) {
			mustPick(t, pool)
		}
		most := 0
		for _, b := range backends {
			most = max(most, b.Sessions())
		}
		if most > each+5 {
			t.Errorf("seed %d: %d sessions on the fullest of %d backends; want at most 5 above the average of %d", seed, most, len(backends), each)
		}
	}
}

func TestRandomDrawsByWeight(t *testing.T) {
	backends := newBackends(1, 2, 3)
	for at := range int64(6 * rampSteps) {
		want := "abbccc"[at/rampSteps]
		if got := draw(backends, nil, at).Name(); got != string(want) {
			t.Errorf("draw at %d = %s; want %c", at, got, want)
		}
		if at >= 4*rampSteps {
			continue
		}
		want = "accc"[at/rampSteps]
		if got := draw(backends, backends[1], at).Name(); got != string(want) {
			t.Errorf("draw at %d, without b = %s; want %c", at, got, want)
		}
	}
	if got := draw(backends, backends[2], 1000).Name(); got != "b" {
		t.Errorf("draw beyond all weights, without c = %s; want b, the last", got)
	}
}

func TestBelow(t *testing.T) {
	for _, random := range []uint64{0, 1 << 63, math.MaxUint64} {
		r := Random{Rand: func() uint64 { return random }}
		for _, n := range []int64{1, 2, 7, 1 << 40} {
			if got := r.below(n); got < 0 || got >= n {
				t.Errorf("below(%d) = %d of %#x", n, got, random)
			}
		}
		if got := r.below(-3); got != 0 {
			t.Errorf("below(-3) = %d; want 0", got)
		}
	}
}

// Weights and limits change, as in a slow start or a reload, while others pick.
func TestPoliciesChooseSomebodyWhileWeightsChange(t *testing.T) {
	everyPolicy(t, func(t *testing.T, policy Policy) {
		backends := newBackends(1, 2, 3)
		var stop atomic.Bool
		var changes, picks sync.WaitGroup
		changes.Go(func() {
			for rng := rand.New(rand.NewPCG(1, 11)); !stop.Load(); {
				backends[rng.IntN(3)].Configure(1+rng.IntN(200), rng.IntN(3)*rng.IntN(99), false)
			}
		})
		for range 2 {
			picks.Go(func() {
				for key := range uint64(20000) {
					b := policy.Choose(backends, mix(key))
					if b == nil {
						t.Error("Choose = nil; want a candidate")
						return
					}
					b.sessions.Add(1 - 2*int32(key%2))
				}
			})
		}
		picks.Wait()
		stop.Store(true)
		changes.Wait()
	})
}
