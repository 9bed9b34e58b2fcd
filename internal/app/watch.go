package app

import (
	"context"
	"sync"

	"agiproxy/balancer"
	"agiproxy/health"
)

// watchers are the goroutines that watch a version's backends.
type watchers struct {
	cancel context.CancelFunc
	wg     *sync.WaitGroup
}

// stop ends the watchers and waits for them.
func (w watchers) stop() {
	if w.cancel != nil {
		w.cancel()
		w.wg.Wait()
	}
}

// watch starts to watch v's backends; the series of those that only the version
// before had are forgotten.
func (a *App) watch(v, before *version) watchers {
	ctx, cancel := context.WithCancel(context.Background())
	w := watchers{cancel, new(sync.WaitGroup)}
	if before != nil {
		for _, old := range before.backends {
			if !v.has(old) {
				a.probes.Forget(old.pool, old.conf.Name)
			}
		}
	}
	for _, b := range v.backends {
		b.Configure(b.conf.Weight, b.conf.MaxSessions, b.conf.Backup)
		if !b.name.Fixed() {
			w.wg.Go(func() { b.name.Keep(ctx) })
		}
		if c := a.checker(b); c != nil {
			w.wg.Go(func() { c.Run(ctx) })
		} else {
			b.SetUp(true)
		}
	}
	return w
}

func (v *version) has(b *backend) bool {
	for _, mine := range v.backends {
		if mine.pool == b.pool && mine.conf.Name == b.conf.Name {
			return true
		}
	}
	return false
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

// checker returns the health check of b, nil if there is to be none.
func (a *App) checker(b *backend) *health.Checker {
	h := b.heal
	t := &target{Backend: b.Backend}
	if h.OnDown == "lose" {
		t.lose = func() {
			a.onLoops(func(w *worker) { w.sessions.Lose(b.Backend) })
		}
	}
	c := &health.Checker{
		Target: t, Interval: h.Interval, FastInterval: h.FastInterval, Timeout: h.Timeout,
		Rise: h.Rise, Fall: h.Fall, Up: b.Healthy(), Fresh: !b.kept,
		Metrics: a.probes.Backend(b.pool, b.conf.Name),
		Log:     a.log.Named("health").With("pool", b.pool, "backend", b.conf.Name, "address", b.conf.Address),
	}
	switch h.Probe {
	case "agi":
		c.Probe = health.AGI(health.AGIOptions{Address: b.conf.Address, Script: h.Script, Expect: h.Expect})
	case "tcp":
		c.Probe = health.TCP(b.conf.Address)
	default:
		return nil
	}
	return c
}
