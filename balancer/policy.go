package balancer

import "fmt"

// A Policy chooses one of the candidates, of which there is at least one, in
// the configuration's order; all of them can take a session. Choose is called
// for several sessions at once and must not block, nor change the candidates.
// Sessions of the same key are alike: [Hash] sends them to the same backend, the
// other policies here don't look at it.
type Policy interface {
	Choose(candidates []*Backend, key uint64) *Backend
}

// NewPolicy returns the policy of that name: "round-robin",
// "least-connections", "random", "hash" or "first".
func NewPolicy(name string) (Policy, error) {
	switch name {
	case "round-robin":
		return RoundRobin{}, nil
	case "least-connections":
		return LeastConnections{}, nil
	case "random":
		return Random{}, nil
	case "hash":
		return Hash{}, nil
	case "first":
		return First{}, nil
	}
	return nil, fmt.Errorf("no balancing policy %q", name)
}

// First fills one backend before it takes the next, in the configuration's
// order, so that those at the end can be switched off while there is little to
// do. It needs limits: a backend without one is never full.
type First struct{}

// Choose implements [Policy].
func (First) Choose(candidates []*Backend, _ uint64) *Backend { return candidates[0] }

// RoundRobin takes the backends in turn, each as often as its weight says and
// as evenly spread as that allows: weights 5, 1, 1 give a a b a c a a and not
// a a a a a b c.
//
// It is nginx's smooth weighted round-robin: every pick adds each candidate's
// weight to its current value, takes the candidate with the largest, and
// subtracts the sum of the weights from it. The values of all backends sum to
// zero after each pick, whatever the order in which picks that run side by side
// do their additions, so that a backend which gets a session too early waits the
// longer for its next. The value of one that is no candidate for a while stays
// as it is: there is nothing to catch up on when it comes back.
//
// Source: ngx_http_upstream_get_peer in nginx's ngx_http_upstream_round_robin.c.
type RoundRobin struct{}

// Choose implements [Policy].
func (RoundRobin) Choose(candidates []*Backend, _ uint64) *Backend {
	return smooth(candidates, perWeight, unlimited)
}

// smooth makes a round-robin pick among those candidates whose load by that
// measure is at most limit; nil if there is none.
func smooth(candidates []*Backend, m measure, limit load) (best *Backend) {
	var sum, most int64
	for _, b := range candidates {
		if limit.less(m.of(b)) {
			continue
		}
		weight := int64(b.weight.Load())
		sum += weight
		if current := b.current.Add(weight); best == nil || current > most {
			best, most = b, current
		}
	}
	if best != nil {
		best.current.Add(-sum)
	}
	return best
}

// load is a number of sessions for a weight; compared without a division.
type load struct{ sessions, weight int64 }

// unlimited is more than every load.
var unlimited = load{sessions: 1, weight: 0}

func (b *Backend) load() load {
	return load{int64(b.sessions.Load()) + b.penalty(), int64(b.weight.Load())}
}

func (l load) less(m load) bool { return l.sessions*m.weight < m.sessions*l.weight }

// A measure is what the sessions of a backend are held against.
type measure bool

const (
	perWeight measure = false
	perSlot   measure = true // a slot counts as much as the backend's weight
)

// of returns the backend's load by that measure.
func (m measure) of(b *Backend) load {
	l := b.load()
	if m == perSlot {
		l.weight *= int64(b.max.Load())
	}
	return l
}

// LeastConnections takes the backend with the fewest sessions for its weight,
// or, where every candidate has a limit, the one with the largest share of its
// slots free: a limit says how much a server can do, and where all have one that
// is the better measure. A weight other than 1 then counts on top of it. Where
// only some have a limit there is no share to compare, and their limits only
// keep them from being candidates.
//
// Where several have as few, as in a pool at rest, they take turns as in
// [RoundRobin].
type LeastConnections struct{}

// Choose implements [Policy].
func (LeastConnections) Choose(candidates []*Backend, _ uint64) *Backend {
	m, least := perSlot, unlimited
	if !limited(candidates) {
		m = perWeight
	}
	for _, b := range candidates {
		if l := m.of(b); l.less(least) {
			least = l
		}
	}
	if b := smooth(candidates, m, least); b != nil {
		return b
	}
	return smooth(candidates, m, unlimited) // every load has grown meanwhile
}

// limited reports whether every candidate has a limit.
func limited(candidates []*Backend) bool {
	for _, b := range candidates {
		if b.max.Load() == 0 {
			return false
		}
	}
	return true
}
