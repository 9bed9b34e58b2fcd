package app

import (
	"context"
	"fmt"
	"sync"
	"time"

	"agiproxy/balancer"
	"agiproxy/config"
	"agiproxy/internal/proxyheader"
	"agiproxy/internal/resolve"
	"agiproxy/proxy"

	"github.com/hashicorp/go-hclog"
)

// A version is one configuration, built.
type version struct {
	config   *config.Config
	pools    []pool
	routes   []proxy.Route
	backends []*backend      // of all pools
	tokens   [][]proxy.Token // of each listener
	keys     *keys
}

// A pool is what becomes a [proxy.Pool].
type pool struct {
	config   config.Pool
	policy   balancer.Policy
	backends []*balancer.Backend
	way      way
}

// A backend is one of a pool, with what is needed to watch it.
type backend struct {
	*balancer.Backend
	pool      string
	conf      config.Backend
	health    config.Health
	announces proxyheader.Version // to it, of whom its sessions are
	name      *resolve.Name
	life      *life
	kept      bool // from the version before
	known     bool // another process has found its verdict out
	edited    bool // kept, but its own entry says something else
	way       way

	naming, probing task // once the version serves
}

// build makes a version of cfg. Backends of the version before that have kept
// pool, name and address are the same afterwards, with their sessions and their
// verdict; nothing else of before, which may be nil, is touched, and nothing of
// the new version can be seen until its table is made.
func (a *App) build(cfg *config.Config, before *version) (*version, error) {
	v := &version{config: cfg}
	var err error
	if v.keys, err = loadKeys(cfg, before.keysOf()); err != nil {
		return nil, err
	}
	for i, pc := range cfg.Pools {
		policy, err := balancer.NewPolicy(pc.Balance)
		if err != nil {
			return nil, fmt.Errorf("pool %s: %w", pc.Name, err)
		}
		p := pool{config: pc, policy: policy, way: wayTo(&pc, v.keys.pools[i])}
		for _, bc := range pc.Backends {
			b := a.backend(pc, bc, before)
			b.way = p.way
			v.backends = append(v.backends, b)
			p.backends = append(p.backends, b.Backend)
		}
		v.pools = append(v.pools, p)
	}
	if v.routes, err = routes(cfg); err != nil {
		return nil, err
	}
	if v.tokens, err = a.tokens(cfg); err != nil {
		return nil, err
	}
	v.resolve(a.log)
	return v, nil
}

// keysOf returns v's keys, nil if there is no version.
func (v *version) keysOf() *keys {
	if v == nil {
		return nil
	}
	return v.keys
}

// backend returns the backend of that configuration, the one before if it is
// the same server.
func (a *App) backend(pc config.Pool, bc config.Backend, before *version) *backend {
	b := &backend{pool: pc.Name, conf: bc, health: pc.Health, announces: proxyVersion(pc.SendProxyProtocol)}
	if before != nil {
		for _, old := range before.backends {
			if old.pool == pc.Name && old.conf.Name == bc.Name && old.conf.Address == bc.Address {
				b.Backend, b.name, b.life, b.kept, b.edited = old.Backend, old.name, old.life, true, old.conf != bc
				return b
			}
		}
	}
	b.Backend = balancer.NewBackend(bc.Name, bc.Address)
	b.life = new(life)
	b.name = &resolve.Name{
		Address: bc.Address, Set: b.SetAddr, Lookup: a.opts.Lookup,
		Log: a.log.Named("resolve").With("pool", pc.Name, "backend", bc.Name),
	}
	return b
}

// resolve looks up the names that are new. A name without an address is no
// error: its backend is down until there is one.
func (v *version) resolve(log hclog.Logger) {
	var wg sync.WaitGroup
	for _, b := range v.backends {
		if b.kept {
			continue
		}
		wg.Go(func() {
			if err := b.name.First(context.Background()); err != nil {
				log.Warn("name has no address", "pool", b.pool, "backend", b.conf.Name, "address", b.conf.Address, "error", err)
			}
		})
	}
	wg.Wait()
}

// table gives the backends what v says of them and makes what sessions see. It is
// called once, when v comes into force after before. Sessions that wait for a
// slot do so in the pool's new version from then on.
func (a *App) table(v *version, before *proxy.Table) *proxy.Table {
	for _, b := range v.backends {
		if b.edited {
			a.forgetOperator(b)
		}
		b.Configure(b.weight(), b.conf.MaxSessions, b.conf.Backup)
	}
	t := &proxy.Table{Routes: v.routes}
	for _, p := range v.pools {
		o := balancerOptions(&p.config)
		logEjections(&o, a.log.Named("balancer").With("pool", p.config.Name))
		pool := balancer.NewPool(p.policy, o, p.backends)
		for _, old := range before.Pools {
			if old.Name() == p.config.Name {
				pool.Inherit(old.Backends())
			}
		}
		po := poolOptions(&p.config)
		if p.way.credentials != nil {
			po.Dial = a.dialer(p.way)
		}
		t.Pools = append(t.Pools, proxy.NewPool(p.config.Name, po, pool))
	}
	return t
}

// balancerOptions are a pool's options as package balancer has them.
func balancerOptions(p *config.Pool) balancer.Options {
	return balancer.Options{
		Ejection:  balancer.Ejection(p.Ejection),
		Panic:     p.PanicThreshold,
		SlowStart: p.SlowStart,
		Sessions:  p.MaxSessions,
		Queue:     p.Queue.Limit,
	}
}

// logEjections has ejections logged.
func logEjections(o *balancer.Options, log hclog.Logger) {
	o.Ejected = func(b *balancer.Backend, d time.Duration) {
		log.Warn("backend ejected", "backend", b.Name(), "address", b.Address(), "duration", d)
	}
	o.Returned = func(b *balancer.Backend) {
		log.Info("backend returns from ejection", "backend", b.Name(), "address", b.Address())
	}
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
		HedgeDelay:          p.HedgeDelay,
		QueueTimeout:        p.Queue.Timeout,
		Music:               p.Queue.Music,
		Fallback:            p.Fallback.Commands,
		FallbackCompletes:   p.Fallback.Then == "completed",
		MaxLine:             p.Commands.MaxLine,
		Commands:            proxy.CommandRules{Allow: p.Commands.Allow, Deny: p.Commands.Deny, Strict: p.Commands.Strict},
	}
	o.SendProxyHeader = proxyVersion(p.SendProxyProtocol)
	if p.Balance == "hash" {
		o.HashField = p.HashField
	}
	switch p.Replay {
	case "unanswered":
		o.Replay = proxy.ReplayUnanswered
	case "never":
		o.Replay = proxy.ReplayNever
	}
	switch p.OnBackendLoss {
	case "close":
		o.OnLoss = proxy.LossClose
	case "resume":
		o.OnLoss = proxy.LossResume
	}
	return o
}

// proxyVersion returns the version of the PROXY protocol that a configuration names.
func proxyVersion(name string) proxyheader.Version {
	switch name {
	case "v1":
		return proxyheader.V1
	case "v2":
		return proxyheader.V2
	}
	return proxyheader.None
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
