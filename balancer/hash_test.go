package balancer

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// owners returns who gets each of n keys in a pool at rest.
func owners(candidates []*Backend, n int) []*Backend {
	of := make([]*Backend, n)
	for i := range of {
		of[i] = Hash{}.Choose(candidates, mix(uint64(i)))
	}
	return of
}

func TestKeyIsFNV(t *testing.T) {
	for value, want := range map[string]uint64{
		"":  0xcbf29ce484222325,
		"a": 0xaf63dc4c8601ec8c, "foobar": 0x85944171f73967e8, // from the authors' own list of vectors
	} {
		if got := Key([]byte(value)); got != want {
			t.Errorf("Key(%q) = %#x; want %#x", value, got, want)
		}
	}
	check := func(value []byte) {
		h := fnv.New64a()
		h.Write(value)
		if got, want := Key(value), h.Sum64(); got != want {
			t.Errorf("Key(%q) = %#x; want %#x as hash/fnv has it", value, got, want)
		}
	}
	check([]byte("1764057600.42"))
	check([]byte{0, 255, 128})
}

// A session that comes after a restart, or through another agiproxy, has to be
// sent where the last one of its key was: this list must never change.
func TestHashChoosesTheSameForEver(t *testing.T) {
	backends := newBackends(1, 1, 1, 2)
	want := "adcddbdcdcddbbdaddad"
	var got string
	for i := range want {
		got += Hash{}.Choose(backends, Key(fmt.Appendf(nil, "1764057600.%d", i))).Name()
	}
	if got != want {
		t.Errorf("chosen %s; want %s, as ever", got, want)
	}
}

func TestHashIgnoresTheOrderOfBackends(t *testing.T) {
	backends := newBackends(3, 1, 4, 1, 5)
	before := owners(backends, 2000)
	slices.Reverse(backends)
	if after := owners(backends, 2000); !slices.Equal(before, after) {
		t.Error("other backends were chosen once their order was reversed")
	}
}

func TestHashGivesEachItsShareOfTheKeys(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 12))
		weights := randomWeights(rng)
		backends := newBackends(weights...)
		checkRandomShares(t, fmt.Sprintf("seed %d", seed), weights, func() int {
			return slices.Index(backends, Hash{}.Choose(backends, rng.Uint64()))
		})
	}
}

// Values that follow each other, as unique ids do, are no worse than random ones.
func TestHashSpreadsValuesThatFollowEachOther(t *testing.T) {
	weights := []int{1, 1, 1, 1, 1, 3, 3}
	backends, n := newBackends(weights...), 0
	checkRandomShares(t, "unique ids", weights, func() int {
		n++
		return slices.Index(backends, Hash{}.Choose(backends, Key(fmt.Appendf(nil, "1764057600.%d", n))))
	})
}

func TestHashMovesOnlyTheKeysOfABackendThatGoesOrComes(t *testing.T) {
	const keys = 5000
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 13))
		weights := append(randomWeights(rng), 1+rng.IntN(20))
		all := newBackends(weights...)
		away := rng.IntN(len(all))
		fewer := slices.Delete(slices.Clone(all), away, away+1)
		with, without := owners(all, keys), owners(fewer, keys)
		moved := 0
		for i := range keys {
			if with[i] == all[away] {
				moved++
			} else if with[i] != without[i] {
				t.Fatalf("seed %d, weights %v: key %d moved from %s to %s when %s went; want it left where it is",
					seed, weights, i, with[i].Name(), without[i].Name(), all[away].Name())
			}
		}
		p := float64(weights[away]) / float64(sum(weights))
		if want, off := keys*p, 5*math.Sqrt(keys*p*(1-p)); math.Abs(float64(moved)-want) > off+1 {
			t.Errorf("seed %d, weights %v: %d of %d keys moved; want %.0f, the share of %s, and at most %.0f off",
				seed, weights, moved, keys, want, all[away].Name(), off)
		}
	}
}

func TestHashMovesKeysOnlyToABackendThatGetsMoreWeight(t *testing.T) {
	backends := newBackends(2, 2, 2)
	before := owners(backends, 5000)
	backends[1].Configure(3, 0, false)
	moved := 0
	for i, b := range owners(backends, 5000) {
		if b != before[i] {
			moved++
			if b != backends[1] {
				t.Fatalf("key %d moved from %s to %s; want none to move but to b", i, before[i].Name(), b.Name())
			}
		}
	}
	// From a third to three sevenths.
	if moved < 350 || moved > 600 {
		t.Errorf("%d of 5000 keys moved; want about 476", moved)
	}
}

// The choice is that of an implementation without bound, arithmetic or haste,
// among those that are below the bound.
func TestHashTakesTheNextByTheSameNumbers(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 14))
		weights := randomWeights(rng)
		backends := newBackends(weights...)
		all := 0
		for _, b := range backends {
			n := rng.IntN(1 + b.Weight())
			b.sessions.Store(int32(n))
			all += n
		}
		for range 50 {
			key := rng.Uint64()
			var want *Backend
			score := 0.0
			for _, b := range backends {
				most := 1.25 * float64(all+1) * float64(b.Weight()) / float64(sum(weights))
				s := float64(b.Weight()) / -math.Log(uniform(mix(key^b.hash)))
				if float64(b.Sessions()) < most && s > score {
					want, score = b, s
				}
			}
			if got := (Hash{}).Choose(backends, key); got != want {
				t.Fatalf("seed %d, weights %v, key %#x: Choose = %s; want %s", seed, weights, key, got.Name(), want.Name())
			}
		}
	}
}

func TestHashNeverExceedsTheBound(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 15))
		weights := randomWeights(rng)
		backends := newBackends(weights...)
		pool := NewPool(Hash{}, Options{}, backends)
		keys := rand.NewZipf(rng, 1.5, 1, 1000) // a few have most of the sessions
		coming := churn{rng: rng, stay: 0.7}
		for range 500 {
			b := coming.next(t, pool, mix(keys.Uint64()))
			if b == nil {
				continue
			}
			all := len(coming.loans)
			most := int(math.Ceil(1.25 * float64(all) * float64(b.Weight()) / float64(sum(weights))))
			if b.Sessions() > most {
				t.Fatalf("seed %d, weights %v: %d of %d sessions on %s; want at most %d", seed, weights, b.Sessions(), all, b.Name(), most)
			}
		}
	}
}

// Bounds of all candidates together leave room for everybody.
func TestHashOfOneKeySpreadsWhatABackendCannotTake(t *testing.T) {
	backends := newBackends(1, 1, 2)
	pool := NewPool(Hash{}, Options{}, backends)
	for range 400 {
		mustPick(t, pool)
	}
	var counts []int
	for _, b := range backends {
		counts = append(counts, b.Sessions()*4/b.Weight())
	}
	if most := slices.Max(counts); most > 500 || most < 450 {
		t.Errorf("sessions for the weight, of one key, come to %v; want the fullest at a quarter above 400", counts)
	}
}

func TestUniformIsBetweenNoughtAndOne(t *testing.T) {
	for _, h := range []uint64{0, 1, 1 << 63, math.MaxUint64} {
		if u := uniform(h); u <= 0 || u >= 1 {
			t.Errorf("uniform(%#x) = %v; want between 0 and 1", h, u)
		}
	}
}
