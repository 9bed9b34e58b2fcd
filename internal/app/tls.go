package app

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	"agiproxy/balancer"
	"agiproxy/config"
	"agiproxy/internal/legs"
	"agiproxy/proxy"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// keysLook is how often files of certificates are looked at.
	keysLook = 3 * time.Second
	// expiryWarning is how long before a certificate expires its operator is told,
	// once a day.
	expiryWarning = 14 * 24 * time.Hour
)

// keys are the credentials of a version, by their files.
type keys struct {
	all       map[legs.Files]*legs.Credentials
	listeners []*legs.Credentials // of each; nil: plain TCP
	pools     []*legs.Credentials // of each; nil: plain TCP

	renewed map[*legs.Credentials]*legs.Material // of the version before, once this one is in force
}

// loadKeys loads what cfg names. Files that the version before, which may be nil, has
// in use have the same credentials in this one.
func loadKeys(cfg *config.Config, before *keys) (*keys, error) {
	k := &keys{all: make(map[legs.Files]*legs.Credentials), renewed: make(map[*legs.Credentials]*legs.Material)}
	for _, l := range cfg.Listeners {
		var c *legs.Credentials
		if t := l.TLS; t != nil {
			var err error
			if c, err = k.load(legs.Files{Cert: t.CertFile, Key: t.KeyFile, CA: t.ClientCAFile}, before); err != nil {
				return nil, fmt.Errorf("listener %s: tls: %w", l.Address, err)
			}
		}
		k.listeners = append(k.listeners, c)
	}
	for _, p := range cfg.Pools {
		var c *legs.Credentials
		if t := p.TLS; t != nil {
			var err error
			if c, err = k.load(legs.Files{Cert: t.CertFile, Key: t.KeyFile, CA: t.CAFile}, before); err != nil {
				return nil, fmt.Errorf("pool %s: tls: %w", p.Name, err)
			}
		}
		k.pools = append(k.pools, c)
	}
	return k, nil
}

func (k *keys) load(f legs.Files, before *keys) (*legs.Credentials, error) {
	if c := k.all[f]; c != nil {
		return c, nil
	}
	m, err := legs.Load(f)
	if err != nil {
		return nil, err
	}
	var c *legs.Credentials
	if before != nil {
		c = before.all[f]
	}
	if c != nil {
		k.renewed[c] = m
	} else {
		c = legs.NewCredentials(m)
	}
	k.all[f] = c
	return c, nil
}

// use puts what was loaded into use, of files that were in use before.
func (k *keys) use() {
	for c, m := range k.renewed {
		c.Set(m)
	}
	k.renewed = nil
}

// A way is how a pool's backends are connected to by TLS.
type way struct {
	credentials *legs.Credentials // nil: plain TCP
	serverName  string            // "": the backend's host
}

// dial connects to a backend that way.
func (w way) dial(ctx context.Context, b *balancer.Backend) (*legs.Stream, error) {
	name := w.serverName
	if name == "" {
		name, _, _ = net.SplitHostPort(b.Address()) // it was checked
	}
	return legs.Dial(ctx, b.Addr(), w.credentials.Material().Client(name))
}

// dialer makes sessions' connections that way.
func (a *App) dialer(w way) func(proxy.Host, *balancer.Backend, proxy.Handler) proxy.Conn {
	return func(h proxy.Host, b *balancer.Backend, hd proxy.Handler) proxy.Conn {
		return a.legs.Connect(h.(host).Loop, b.Addr(), func(ctx context.Context) (*legs.Stream, error) {
			return w.dial(ctx, b)
		}, hd)
	}
}

// wayTo returns how a pool's backends are connected to.
func wayTo(p *config.Pool, c *legs.Credentials) way {
	if p.TLS == nil {
		return way{}
	}
	return way{c, p.TLS.ServerName}
}

// keepKeys has files of certificates that change taken into use, and tells of those
// that are about to expire.
func (a *App) keepKeys(ctx context.Context) {
	look := time.NewTicker(keysLook)
	defer look.Stop()
	warned := make(map[*legs.Credentials]time.Time)
	for {
		a.mu.Lock()
		v := a.version
		a.mu.Unlock()
		for f, c := range v.keys.all {
			a.refresh(f, c)
			left := time.Until(c.Material().Expires())
			if f.Cert != "" && left < expiryWarning && time.Since(warned[c]) > 24*time.Hour {
				warned[c] = time.Now()
				a.warnExpiry(f, left)
			}
		}
		for c := range warned {
			if !v.keys.has(c) {
				delete(warned, c)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// A certificateWarning says that a certificate hasn't long to live, or is dead.
type certificateWarning struct {
	file string
	left time.Duration // negative: since when it has expired
}

// String says it as check does.
func (w certificateWarning) String() string {
	if w.left <= 0 {
		return fmt.Sprintf("certificate %s has expired: the other side refuses it", w.file)
	}
	return fmt.Sprintf("certificate %s expires in %d days", w.file, int(w.left.Hours()/24))
}

// expiring returns the certificates that have expired or will soon, in the order of
// their files.
func (k *keys) expiring(now time.Time) (all []certificateWarning) {
	for f, c := range k.all {
		at := c.Material().Expires()
		if left := at.Sub(now); !at.IsZero() && left < expiryWarning {
			all = append(all, certificateWarning{f.Cert, left})
		}
	}
	slices.SortFunc(all, func(a, b certificateWarning) int { return cmp.Compare(a.file, b.file) })
	return slices.Compact(all) // one file may be used with several authorities
}

func (k *keys) has(c *legs.Credentials) bool { return k.all[c.Material().Files()] == c }

func (a *App) refresh(f legs.Files, c *legs.Credentials) {
	switch changed, err := c.Refresh(); {
	case err != nil:
		a.log.Error("certificates not reloaded, those before stay in use", "file", cmp.Or(f.Cert, f.CA), "error", err)
	case changed:
		a.log.Info("certificates reloaded", "file", cmp.Or(f.Cert, f.CA))
	}
}

func (a *App) warnExpiry(f legs.Files, left time.Duration) {
	if left <= 0 {
		a.log.Warn("certificate has expired", "file", f.Cert, "since", (-left).Round(time.Minute))
		return
	}
	a.log.Warn("certificate is about to expire", "file", f.Cert, "left", left.Round(time.Minute))
}

// expiries tells when certificates in use expire.
type expiries struct {
	app  *App
	desc *prometheus.Desc
}

func newExpiries(a *App) *expiries {
	return &expiries{a, prometheus.NewDesc("agiproxy_tls_certificate_expiry_timestamp_seconds",
		"When the certificate that is shown expires: by a listener to its clients, or to the backends of a pool.",
		[]string{"listener", "pool"}, nil)}
}

// Describe implements [prometheus.Collector].
func (e *expiries) Describe(ch chan<- *prometheus.Desc) { ch <- e.desc }

// Collect implements [prometheus.Collector].
func (e *expiries) Collect(ch chan<- prometheus.Metric) {
	e.app.mu.Lock()
	v := e.app.version
	e.app.mu.Unlock()
	if v == nil { // New is under way
		return
	}
	tell := func(c *legs.Credentials, listener, pool string) {
		if c == nil {
			return
		}
		if at := c.Material().Expires(); !at.IsZero() {
			ch <- prometheus.MustNewConstMetric(e.desc, prometheus.GaugeValue, float64(at.Unix()), listener, pool)
		}
	}
	for i, c := range v.keys.listeners {
		tell(c, v.config.Listeners[i].Address, "")
	}
	for i, c := range v.keys.pools {
		tell(c, "", v.config.Pools[i].Name)
	}
}
