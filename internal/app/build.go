package app

import (
	"context"
	"fmt"
	"sync"

	"agiproxy/balancer"
	"agiproxy/config"
	"agiproxy/internal/resolve"
	"agiproxy/proxy"
)

// A version is one configuration, built.
type version struct {
	config   *config.Config
	table    *proxy.Table
	backends []*backend
}

// A backend is one of a pool, with what is needed to watch it.
type backend struct {
	*balancer.Backend
	pool string
	conf config.Backend
	heal config.Health
	name *resolve.Name
	kept bool // from the version before
}

// build makes a version of cfg. Backends of the version before that have kept
// pool, name and address are the same afterwards, with their sessions and their
// verdict; nothing else of before, which may be nil, is touched.
func (a *App) build(cfg *config.Config, before *version) (*version, error) {
	v := &version{config: cfg, table: new(proxy.Table)}
	for _, pc := range cfg.Pools {
		policy, err := balancer.NewPolicy(pc.Balance)
		if err != nil {
			return nil, fmt.Errorf("pool %s: %w", pc.Name, err)
		}
		var members []*balancer.Backend
		for _, bc := range pc.Backends {
			b := a.backend(pc, bc, before)
			v.backends = append(v.backends, b)
			members = append(members, b.Backend)
		}
		pool := proxy.NewPool(pc.Name, poolOptions(&pc), balancer.NewPool(policy, members), a.counts)
		v.table.Pools = append(v.table.Pools, pool)
	}
	routes, err := routes(cfg)
	if err != nil {
		return nil, err
	}
	v.table.Routes = routes
	v.resolve(a)
	return v, nil
}

// backend returns the backend of that configuration, the one before if it is
// the same server.
func (a *App) backend(pc config.Pool, bc config.Backend, before *version) *backend {
	b := &backend{pool: pc.Name, conf: bc, heal: pc.Health}
	if before != nil {
		for _, old := range before.backends {
			if old.pool == pc.Name && old.conf.Name == bc.Name && old.conf.Address == bc.Address {
				b.Backend, b.name, b.kept = old.Backend, old.name, true
			}
		}
	}
	if !b.kept {
		b.Backend = balancer.NewBackend(bc.Name, bc.Address)
		b.name = &resolve.Name{Address: bc.Address, Set: b.SetAddr, Log: a.log.Named("resolve")}
	}
	return b
}

// resolve looks up the names that are new. A name without an address is no
// error: its backend is down until there is one.
func (v *version) resolve(a *App) {
	var wg sync.WaitGroup
	for _, b := range v.backends {
		if b.kept {
			continue
		}
		wg.Go(func() {
			if err := b.name.First(context.Background()); err != nil {
				a.log.Warn("name has no address", "pool", b.pool, "backend", b.conf.Name, "address", b.conf.Address, "error", err)
			}
		})
	}
	wg.Wait()
}

// poolOptions are a pool's options as package proxy has them.
func poolOptions(p *config.Pool) proxy.PoolOptions {
	o := proxy.PoolOptions{
		ConnectTimeout:      p.ConnectTimeout,
		FirstCommandTimeout: p.FirstCommandTimeout,
		DispatchTimeout:     p.DispatchTimeout,
		Attempts:            p.Attempts,
		ThinkTimeout:        p.ThinkTimeout,
		HangupTimeout:       p.HangupTimeout,
	}
	switch p.Replay {
	case "unanswered":
		o.Replay = proxy.ReplayUnanswered
	case "never":
		o.Replay = proxy.ReplayNever
	}
	if p.OnBackendLoss == "close" {
		o.OnLoss = proxy.LossClose
	}
	return o
}

// routes are a configuration's routes; without any, all goes to the only pool.
func routes(cfg *config.Config) ([]proxy.Route, error) {
	if len(cfg.Routes) == 0 {
		r, err := proxy.NewRoute(cfg.Pools[0].Name)
		return []proxy.Route{r}, err
	}
	var all []proxy.Route
	for i, rc := range cfg.Routes {
		var matches []proxy.Match
		for _, m := range rc.Match {
			matches = append(matches, proxy.Match(m))
		}
		r, err := proxy.NewRoute(rc.Pool, matches...)
		if err != nil {
			return nil, fmt.Errorf("route %d: %w", i+1, err)
		}
		all = append(all, r)
	}
	return all, nil
}
