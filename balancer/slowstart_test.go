package balancer

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// eighteen seconds are one for each step.
const eighteen = 18 * time.Second

// comeBack takes a backend down and up again.
func comeBack(b *Backend) {
	b.SetUp(false)
	b.SetUp(true)
}

// wantParts wants that many twentieths of b's weight to count.
func wantParts(t *testing.T, b *Backend, want int, when string) {
	t.Helper()
	synctest.Wait()
	if got := b.weight.Load(); int(got) != want*b.Weight() {
		t.Errorf("%s: weight %d of %d parts; want %d of 20 for each of %d", when, got, rampSteps*b.Weight(), want, b.Weight())
	}
}

func TestSlowStartRisesFromATenthToTheWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(3)[0]
		NewPool(RoundRobin{}, Options{SlowStart: eighteen}, []*Backend{b})
		wantParts(t, b, 20, "when the process starts")
		b.SetUp(true)
		wantParts(t, b, 20, "after the first good verdict")
		b.SetUp(false)
		comeBack(b)
		for parts := 2; parts <= 20; parts++ {
			wantParts(t, b, parts, fmt.Sprint(parts-2, " steps after it came back"))
			time.Sleep(time.Second)
		}
		time.Sleep(time.Hour)
		wantParts(t, b, 20, "an hour later")
	})
}

func TestSlowStartBeginsAnewWithEachReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(1)[0]
		NewPool(RoundRobin{}, Options{SlowStart: eighteen}, []*Backend{b})
		comeBack(b)
		time.Sleep(10*time.Second + time.Millisecond)
		wantParts(t, b, 12, "after ten seconds")
		comeBack(b)
		wantParts(t, b, 2, "as it comes back once more")
		time.Sleep(999 * time.Millisecond)
		wantParts(t, b, 2, "where the first start would have gone on")
		time.Sleep(17 * time.Second)
		wantParts(t, b, 19, "just before the end")
		time.Sleep(time.Second)
		wantParts(t, b, 20, "at the end")
	})
}

func TestSlowStartKeepsToAWeightThatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(2)[0]
		NewPool(RoundRobin{}, Options{SlowStart: eighteen}, []*Backend{b})
		comeBack(b)
		time.Sleep(3500 * time.Millisecond) // between two steps
		b.Configure(7, 0, false)
		wantParts(t, b, 5, "with another weight")
		time.Sleep(15 * time.Second)
		wantParts(t, b, 20, "at the end")
	})
}

func TestWithoutSlowStartTheWholeWeightCountsAtOnce(t *testing.T) {
	backends := newBackends(1, 1)
	NewPool(RoundRobin{}, Options{}, backends[:1])
	for _, b := range backends { // the second is in no pool
		comeBack(b)
		if got := b.weight.Load(); got != rampSteps {
			t.Errorf("%s is back: %d of %d parts count; want all", b.Name(), got, rampSteps)
		}
	}
}

// What a backend that is back gets of the calls rises with its weight, whatever
// the policy that looks at weights.
func TestSlowStartHoldsBackCalls(t *testing.T) {
	const picks = 6000
	for _, name := range []string{"round-robin", "least-connections", "random", "hash"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				policy, err := NewPolicy(name)
				if err != nil {
					t.Fatal(err)
				}
				backends := newBackends(1, 1)
				pool := NewPool(policy, Options{SlowStart: eighteen}, backends)
				comeBack(backends[0])
				for parts := 2; parts <= 20; parts += 6 {
					before := backends[0].Total()
					for key := range uint64(picks) {
						loan, err := pool.Pick(nil, mix(key))
						if err != nil {
							t.Fatal(err)
						}
						loan.Done()
					}
					share := float64(backends[0].Total()-before) / picks
					want := float64(parts) / float64(parts+rampSteps)
					if d := share - want; d > 0.03 || d < -0.03 {
						t.Errorf("with %d of 20 parts it got %.3f of the calls; want about %.3f", parts, share, want)
					}
					time.Sleep(6 * time.Second)
					synctest.Wait()
				}
			})
		})
	}
}
