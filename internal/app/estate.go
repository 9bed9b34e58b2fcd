package app

import (
	"bytes"
	"encoding/gob"
	"time"

	"agiproxy/balancer"
	"agiproxy/internal/loop"
	"agiproxy/proxy"
)

// What two processes tell each other in a hand-over, by package gob: it leaves out
// what the other doesn't know, and so a field may come or go between versions. A
// change of what one means is a change of [handover.Version].

// A greeting is what the old process listens on. Its descriptors are in this order.
type greeting struct {
	Listeners []string // their addresses, as configured
	Admin     string   // "": there is no admin port
	Given     int      // sockets that somebody else has opened, see Options.Sockets
}

// A beginning is what the new process tells when the sessions are its own.
type beginning struct {
	Unwanted []string // addresses of the greeting's listeners that its configuration doesn't have
}

// A consignment is sessions, whose descriptors are in this order: each session's
// connection to Asterisk, and to its backend if there is one.
type consignment struct {
	Pools    map[string]proxy.PoolOptions // of these sessions, for a configuration that has them no more
	Sessions []movedSession
}

type movedSession struct {
	Session     *proxy.Moved
	Front, Back *loop.State
}

// An estate is what the old process knows and has counted.
type estate struct {
	Counted  *proxy.Counted
	Tally    talliedSessions
	Backends []backendStanding
	Endings  uint64    // how many there were
	Frozen   time.Time // since when nothing happens in the sessions
}

// A backendStanding is what the old process knows of one backend.
type backendStanding struct {
	Pool, Name, Address string
	Standing            balancer.Standing

	Drained  bool      // by an operator
	Share    int       // the weight that an operator has set; 0: none
	Deadline time.Time // of the drain; zero: there is none
}

// talliedSessions is what a tally has counted.
type talliedSessions struct {
	Outcomes map[string]uint64
	Served   []servedSessions
}

type servedSessions struct {
	Pool, Backend string
	N             uint64
}

// take returns what was counted, and begins anew.
func (t *tally) take() (all talliedSessions) {
	all.Outcomes, _ = t.read()
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, n := range t.served {
		all.Served = append(all.Served, servedSessions{k[0], k[1], n})
	}
	t.outcomes, t.served = [proxy.NumOutcomes]uint64{}, nil
	return all
}

// give adds what another tally has counted.
func (t *tally) give(all talliedSessions) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for o := range t.outcomes {
		t.outcomes[o] += all.Outcomes[proxy.Outcome(o).String()]
	}
	for _, s := range all.Served {
		if t.served == nil {
			t.served = make(map[[2]string]uint64)
		}
		t.served[[2]string{s.Pool, s.Backend}] += s.N
	}
}

// encode is for what this package has made, which can be encoded.
func encode(v any) []byte {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(v); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func decode(data []byte, v any) error { return gob.NewDecoder(bytes.NewReader(data)).Decode(v) }
