package balancer

import "math"

// Hash sends sessions of the same key to the same backend for as long as it can
// take them. It is weighted rendezvous hashing: the key and the name of each
// candidate together give a number that decides between them, so that every
// agiproxy of the same configuration chooses alike, none remembers anything, and
// a backend that goes away or comes moves its own keys and no others.
//
// A backend's load is bounded, since a few keys may have most of the sessions: a
// candidate that would have more than its share, by half of a half, is passed
// over, and the next by the same numbers takes its session.
//
// Sources: Thaler and Ravishankar, Using Name-Based Mappings to Increase Hit
// Rates, 1998; weights as in Schindelhauer and Schomaker, Weighted Distributed
// Hash Tables, 2005; Mirrokni, Thorup and Zadimoghaddam, Consistent Hashing with
// Bounded Loads, 2016.
type Hash struct{}

// The most that a backend may have of the average load for its weight: 5/4. A
// tighter bound moves keys at each small unevenness; with a looser one a server
// whose calls all but fill it at the average is overrun. At 5/4 a server that is
// sized for four fifths of what it can do always copes.
const (
	boundOver  = 5
	boundUnder = 4
)

// Choose implements [Policy].
//
// Think of each backend as a clock that rings after a random time, shorter on
// average the larger its weight: the first to ring gets the session. Times that
// are exponentially distributed, with the weights as their rates, make that
// happen to each as often as its weight says.
func (Hash) Choose(candidates []*Backend, key uint64) *Backend {
	bound := bound(candidates)
	var best *Backend
	first := math.Inf(1)
	for _, b := range candidates {
		l := b.load()
		if !l.less(bound) {
			continue
		}
		weight, u := float64(l.weight), uniform(mix(key^b.hash))
		// -ln(u) is at least 1-u, which spares nearly all candidates the logarithm.
		if 1-u >= first*weight {
			continue
		}
		if rings := -math.Log(u) / weight; rings < first {
			best, first = b, rings
		}
	}
	if best == nil {
		return candidates[0] // each has got sessions since they were added up
	}
	return best
}

// bound is what the load of a backend must be less than for it to get another
// session. The session is counted in the average and the bound rounded up to
// whole sessions, so that some candidate is always below it and a pool at rest
// has room everywhere: n < ceil(x) is n < x for a whole n.
func bound(candidates []*Backend) load {
	var all load
	for _, b := range candidates {
		l := b.load()
		all.sessions += l.sessions
		all.weight += l.weight
	}
	return load{sessions: boundOver * (all.sessions + 1), weight: boundUnder * all.weight}
}

// uniform turns a hash into a number between 0 and 1, neither of them included.
func uniform(h uint64) float64 { return (float64(h>>12) + 0.5) / (1 << 52) }

// mix makes each bit of the result depend on each of x.
//
// Source: the finalizer of Stafford's variant 13, as in splitmix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Key returns the key of what sessions have in common, such as the value of a
// header field. It is the same in every version of agiproxy and on every
// machine.
//
// It is FNV-1a of 64 bits: a dozen bytes need no faster one, its definition
// fits here, and what it leaves uneven [Hash] mixes.
func Key(value []byte) uint64 {
	h := uint64(0xcbf29ce484222325)
	for _, c := range value {
		h = (h ^ uint64(c)) * 0x100000001b3
	}
	return h
}
