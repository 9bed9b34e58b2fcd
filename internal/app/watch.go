package app

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"agiproxy/balancer"
	"agiproxy/health"
	"agiproxy/internal/proxyheader"
	"agiproxy/proxy"
)

// A task is a goroutine that runs until its context is cancelled. The zero task
// is none.
type task struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func start(run func(context.Context)) task {
	ctx, cancel := context.WithCancel(context.Background())
	t := task{cancel, make(chan struct{})}
	go func() {
		defer close(t.done)
		run(ctx)
	}()
	return t
}

func (t task) running() bool { return t.cancel != nil }

// end stops tasks, all at the same time, and waits for them.
func end(tasks ...task) {
	for _, t := range tasks {
		if t.running() {
			t.cancel()
		}
	}
	for _, t := range tasks {
		if t.running() {
			<-t.done
		}
	}
}

// watch watches v's backends from now on: their names and their health. What
// the version before, which may be nil, watches in the same way goes on without
// a break, so that a verdict keeps its streak, a probe that waits its place, and
// a name its turn, however often there is a reload.
func (a *App) watch(v, before *version) {
	assumed := func(b *backend) bool { return !b.known } // whether its verdict was never found out
	if before != nil {
		before.handOver(v)
		a.forget(before, v)
		assumed = func(b *backend) bool {
			old := before.find(b.Backend)
			return old == nil || old.health.Probe == "none"
		}
	}
	for _, b := range v.backends {
		if !b.naming.running() && !b.name.Fixed() {
			b.naming = start(b.name.Keep)
		}
		if b.probing.running() {
			continue
		}
		if probe := b.probe(); probe != nil {
			b.probing = start(a.checker(b, probe, assumed(b)).Run)
		} else {
			b.SetUp(true)
		}
	}
}

// unwatch ends the watching of v's backends, and what operators have set going.
func (v *version) unwatch() {
	var tasks []task
	for _, b := range v.backends {
		tasks = append(tasks, b.naming, b.probing)
	}
	end(tasks...)
	for _, b := range v.backends {
		b.life.deadline.stop()
	}
}

// handOver gives v's tasks to the version after it, and ends what that doesn't
// want in the same way.
func (v *version) handOver(after *version) {
	var unwanted []task
	for _, old := range v.backends {
		b := after.find(old.Backend)
		if b == nil {
			unwanted = append(unwanted, old.naming, old.probing)
			continue
		}
		b.naming = old.naming
		if b.health == old.health && b.announces == old.announces && b.way == old.way {
			b.probing = old.probing
		} else {
			unwanted = append(unwanted, old.probing)
		}
	}
	end(unwanted...)
}

// forget drops the probes' series of those backends that are probed no more.
func (a *App) forget(before, now *version) {
	for _, old := range before.backends {
		probed := slices.ContainsFunc(now.backends, func(b *backend) bool {
			return b.pool == old.pool && b.conf.Name == old.conf.Name && b.health.Probe != "none"
		})
		if !probed {
			a.probes.Forget(old.pool, old.conf.Name)
		}
	}
}

// find returns v's entry for b, nil if it has none.
func (v *version) find(b *balancer.Backend) *backend {
	for _, mine := range v.backends {
		if mine.Backend == b {
			return mine
		}
	}
	return nil
}

// loseDown ends, or resumes, the sessions on backends whose verdict, or whose
// drain's deadline, came while nothing happened in them.
func (a *App) loseDown() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.loseDownLocked()
}

// loseDownLocked is loseDown with a.mu held.
func (a *App) loseDownLocked() {
	for _, b := range a.version.backends {
		if b.health.OnDown == "lose" && !b.Healthy() {
			a.onLoops(func(w *worker) { w.sessions.Lose(b.Backend, proxy.ErrDown) })
		}
		if at := b.life.deadline.at; !at.IsZero() && time.Until(at) <= 0 {
			a.lose(b)
		}
	}
}

// A target is a backend as its health check sees it.
type target struct {
	*balancer.Backend
	lose func() // what becomes of the sessions when it goes down; nil: nothing
}

// SetUp implements [health.Target].
func (t *target) SetUp(up bool) {
	t.Backend.SetUp(up)
	if !up && t.lose != nil {
		t.lose()
	}
}

// checker returns the health check of b.
func (a *App) checker(b *backend, probe health.Probe, fresh bool) *health.Checker {
	t := &target{Backend: b.Backend}
	if b.health.OnDown == "lose" {
		t.lose = func() {
			a.onLoops(func(w *worker) { w.sessions.Lose(b.Backend, proxy.ErrDown) })
		}
	}
	h := b.health
	return &health.Checker{
		Probe: probe, Target: t, Interval: h.Interval, FastInterval: h.FastInterval, Timeout: h.Timeout,
		Rise: h.Rise, Fall: h.Fall, Up: b.Healthy(), Fresh: fresh,
		Told:    b.life.probed,
		Metrics: a.probes.Backend(b.pool, b.conf.Name),
		Log:     a.log.Named("health").With("pool", b.pool, "backend", b.conf.Name, "address", b.conf.Address),
	}
}

// dial connects to b as sessions do.
func (b *backend) dial(ctx context.Context) (net.Conn, error) {
	if b.way.credentials == nil {
		return new(net.Dialer).DialContext(ctx, "tcp", b.Addr().String())
	}
	s, err := b.way.dial(ctx, b.Backend)
	if err != nil { // and s is nil, which as a net.Conn would be something
		return nil, err
	}
	return s, nil
}

var errNoAddress = errors.New("its name has no address")

// probe returns how b is probed, nil if it isn't. A probe goes where sessions
// go: to the one address that the backend has at the time, and not to another
// of its name's that might answer better.
func (b *backend) probe() health.Probe {
	var probe health.Probe
	preamble := proxyheader.Append(nil, b.announces, netip.AddrPort{}, netip.AddrPort{}) // agiproxy speaks for itself
	switch b.health.Probe {
	case "agi":
		probe = health.AGI(health.AGIOptions{
			Address: b.conf.Address, Script: b.health.Script, Expect: b.health.Expect, Preamble: preamble,
			Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return b.dial(ctx) },
		})
	case "tcp":
		probe = health.Connect(b.dial, preamble)
	default:
		return nil
	}
	return func(ctx context.Context, report func(health.Stage)) error {
		if !b.Addr().IsValid() {
			return &health.Error{Reason: health.Unreachable, Err: errNoAddress}
		}
		return probe(ctx, report)
	}
}
