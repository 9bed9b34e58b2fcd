package balancer

import "fmt"

// A Policy chooses one of the candidates, of which there is at least one; all
// of them can take a session. Choose is called for several sessions at once and
// must not block, nor change the candidates. The key tells alike sessions from
// others; the policies here
// don't look at it.
type Policy interface {
	Choose(candidates []*Backend, key uint64) *Backend
}

// NewPolicy returns the policy of that name: "round-robin" or
// "least-connections".
func NewPolicy(name string) (Policy, error) {
	switch name {
	case "round-robin":
		return RoundRobin{}, nil
	case "least-connections":
		return LeastConnections{}, nil
	}
	return nil, fmt.Errorf("no balancing policy %q", name)
}

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
	return smooth(candidates, unlimited)
}

// smooth makes a round-robin pick among those candidates whose load, sessions
// for their weight, is at most limit; nil if there is none.
func smooth(candidates []*Backend, limit load) (best *Backend) {
	var sum, most int64
	for _, b := range candidates {
		if limit.less(b.load()) {
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

// LeastConnections takes the backend with the fewest sessions for its weight.
// Where several have as few, as in a pool at rest, they take turns as in
// [RoundRobin].
type LeastConnections struct{}

// Choose implements [Policy].
func (LeastConnections) Choose(candidates []*Backend, _ uint64) *Backend {
	least := unlimited
	for _, b := range candidates {
		if l := b.load(); l.less(least) {
			least = l
		}
	}
	if b := smooth(candidates, least); b != nil {
		return b
	}
	return smooth(candidates, unlimited) // every load has grown meanwhile
}
