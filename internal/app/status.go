package app

import (
	"sync"

	"agiproxy/proxy"
)

// Status is what an App is doing at one moment.
type Status struct {
	Sessions int // under way
	Outcomes map[string]uint64
	Pools    []PoolStatus
}

// PoolStatus is one pool of a [Status].
type PoolStatus struct {
	Name     string
	Backends []BackendStatus
}

// BackendStatus is one backend of a [PoolStatus].
type BackendStatus struct {
	Name, Address string
	State         string // up, busy, down, ejected or drained
	Sessions      int    // under way, attempts included
	Served        uint64 // sessions that have ended with this backend
}

// Status returns what the App is doing now.
func (a *App) Status() Status {
	st := Status{Sessions: a.server.Sessions()}
	var served map[[2]string]uint64
	st.Outcomes, served = a.tally.read()
	for _, p := range a.server.Table().Pools {
		ps := PoolStatus{Name: p.Name()}
		for _, b := range p.Backends().Backends() {
			ps.Backends = append(ps.Backends, BackendStatus{
				Name: b.Name(), Address: b.Address(), State: b.State().String(),
				Sessions: b.Sessions(), Served: served[[2]string{p.Name(), b.Name()}],
			})
		}
		st.Pools = append(st.Pools, ps)
	}
	return st
}

// A tally counts sessions as they end, for Status. Its methods are safe for
// concurrent use.
type tally struct {
	mu       sync.Mutex
	outcomes [proxy.NumOutcomes]uint64
	served   map[[2]string]uint64 // by pool and backend
}

func (t *tally) count(r proxy.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.outcomes[r.Outcome]++
	if r.Outcome == proxy.Completed || r.Outcome == proxy.Hangup {
		if t.served == nil {
			t.served = make(map[[2]string]uint64)
		}
		t.served[[2]string{r.Pool, r.Backend}]++
	}
}

func (t *tally) read() (outcomes map[string]uint64, served map[[2]string]uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	outcomes = make(map[string]uint64)
	for o, n := range t.outcomes {
		if n > 0 {
			outcomes[proxy.Outcome(o).String()] = n
		}
	}
	served = make(map[[2]string]uint64, len(t.served))
	for k, n := range t.served {
		served[k] = n
	}
	return outcomes, served
}
