package balancer

import (
	"math/bits"
	"math/rand/v2"
)

// Random draws two backends, each as likely as its weight says, and takes the
// one with the fewer sessions for its weight; where both have as few, the one
// that was drawn first. Two are nearly as good as all of them, and where several
// balancers in front of the same servers don't see each other's sessions they
// are better: what looks least loaded to one is not chosen by all at once.
//
// Source: Mitzenmacher, The Power of Two Choices in Randomized Load Balancing,
// 2001; weights as in nginx's "random two least_conn".
type Random struct {
	Rand func() uint64 // must be safe for concurrent use; nil means that of math/rand/v2
}

// Choose implements [Policy].
func (r Random) Choose(candidates []*Backend, _ uint64) *Backend {
	if len(candidates) == 1 {
		return candidates[0]
	}
	var sum int64
	for _, b := range candidates {
		sum += int64(b.weight.Load())
	}
	one := draw(candidates, nil, r.below(sum))
	two := draw(candidates, one, r.below(sum-int64(one.weight.Load())))
	if two.load().less(one.load()) {
		return two
	}
	return one
}

// draw returns the candidate within whose weight at lies, were the weights laid
// side by side, without that of the one drawn before. If weights have become
// less since at was chosen, that is the last.
func draw(candidates []*Backend, before *Backend, at int64) (b *Backend) {
	for _, c := range candidates {
		if c == before {
			continue
		}
		b = c
		if at -= int64(b.weight.Load()); at < 0 {
			break
		}
	}
	return b
}

// below returns a random number from 0 up to n. The high half of the product is
// a division's result without one; numbers are even to n parts in 2^64. n may be
// 0 or less where weights have changed since they were added up: then it is 0.
func (r Random) below(n int64) int64 {
	random := r.Rand
	if random == nil {
		random = rand.Uint64
	}
	high, _ := bits.Mul64(random(), uint64(max(n, 0)))
	return int64(high)
}
