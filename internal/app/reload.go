package app

import (
	"errors"
	"fmt"
	"slices"

	"agiproxy/config"

	"github.com/hashicorp/go-hclog"
)

// ErrNoFile says that there is no configuration file to read again.
var ErrNoFile = errors.New("started without a configuration file")

// Reload reads the configuration anew and goes on with it. On an error, which
// is also logged and counted, nothing has changed. No session is cut: those
// under way end with what they began with.
func (a *App) Reload() error {
	err := a.reload()
	a.metrics.reloaded(err)
	if err != nil {
		a.log.Error("configuration not reloaded", "error", err)
		return err
	}
	a.log.Info("configuration reloaded")
	return nil
}

func (a *App) reload() error {
	if a.opts.Reload == nil {
		return ErrNoFile
	}
	cfg, err := a.opts.Reload()
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped {
		return errors.New("agiproxy is stopping")
	}
	v, err := a.build(cfg, a.version)
	if err != nil {
		return err
	}
	fronts, err := a.listen(cfg.Listeners, a.fronts)
	if err != nil {
		return err
	}
	a.adopt(v, fronts)
	return nil
}

// adopt goes over to a version that has been built whole. Nothing here fails.
func (a *App) adopt(v *version, fronts []*front) {
	before := a.version
	a.warnFixed(before.config, v.config)
	a.log.SetLevel(hclog.LevelFromString(v.config.Log.Level))
	a.watchers.stop()
	a.server.Swap(v.table)
	a.watchers = a.watch(v, before)
	var opened, closed []*front
	for i, f := range fronts {
		f.listener.Configure(listenerOptions(&v.config.Listeners[i]))
		if !slices.Contains(a.fronts, f) {
			opened = append(opened, f)
		}
	}
	for _, f := range a.fronts {
		if !slices.Contains(fronts, f) {
			closed = append(closed, f)
		}
	}
	a.open(opened)
	a.shut(closed)
	a.fronts, a.version = fronts, v
	for _, old := range before.backends {
		if n := old.Sessions(); n > 0 && !v.has(old) {
			a.log.Info("removed backend drains", "pool", old.pool, "backend", old.conf.Name, "sessions", n)
		}
	}
}

// warnFixed tells of changes that only a restart brings about.
func (a *App) warnFixed(before, now *config.Config) {
	for _, fixed := range []struct {
		key     string
		changed bool
	}{
		{"admin.address", before.Admin.Address != now.Admin.Address},
		{"loops", before.Loops != now.Loops},
		{"log.format", before.Log.Format != now.Log.Format},
	} {
		if fixed.changed {
			a.log.Warn("change needs a restart", "key", fixed.key, "error", fmt.Errorf("%s is read at start only", fixed.key))
		}
	}
}
