package app

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"agiproxy/admin"
	"agiproxy/config"

	"github.com/hashicorp/go-hclog"
)

// ErrNoFile says that there is no configuration file to read again.
var ErrNoFile = errors.New("started without a configuration file")

// errStopping refuses a reload that comes too late.
var errStopping = errors.New("agiproxy is stopping")

// Reload reads the configuration anew and goes on with it. On an error, which
// is also logged and counted, nothing has changed. No session is cut: those
// under way end with what they began with. One reload waits for another, so
// that what was read last is what is in force; and for an upgrade that is under way.
// If another process has taken over, that one is told, and the error is [ErrHanded].
func (a *App) Reload() error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	if a.hasHanded() {
		return a.passOnReload()
	}
	a.opts.Notify.Reloading()
	defer func() {
		a.opts.Notify.Status(a.summary())
		a.opts.Notify.Ready()
	}()
	err := a.reload()
	if !errors.Is(err, ErrNoFile) { // which says nothing about a configuration
		a.reloaded(err)
	}
	if err != nil {
		a.log.Error("configuration not reloaded", "error", err)
		return err
	}
	a.log.Info("configuration reloaded")
	return nil
}

// passOnReload has the process read its configuration that has taken over.
func (a *App) passOnReload() error {
	if err := a.successor.Reload(); err != nil {
		a.log.Error("configuration not reloaded", "error", fmt.Errorf("%w: process %d: %w", ErrHanded, a.successor.PID(), err))
		return fmt.Errorf("%w: process %d: %w", ErrHanded, a.successor.PID(), err)
	}
	a.log.Info("reload passed on to the new process", "pid", a.successor.PID())
	return fmt.Errorf("%w, and is told to reload: process %d", ErrHanded, a.successor.PID())
}

// reloaded takes the result of reading the configuration.
func (a *App) reloaded(err error) {
	a.metrics.reloaded(err)
	a.mu.Lock()
	now := a.version.config
	a.mu.Unlock()
	r := admin.Reload{Time: time.Now(), OK: err == nil, NeedRestart: a.needRestart(now)}
	if err != nil {
		r.Error = err.Error()
	}
	a.lastReload.Store(&r)
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
	version, fronts := a.version, a.fronts
	a.mu.Unlock()
	v, err := a.build(cfg, version)
	if err != nil {
		return err
	}
	opened, err := a.listen(v, fronts)
	if err != nil {
		return err
	}
	if !a.adopt(v, opened) {
		closeFronts(without(opened, fronts))
		return errStopping
	}
	return nil
}

// adopt goes over to a version that has been built whole, and reports whether
// it did: it doesn't when agiproxy is stopping. Nothing else stands in its way.
func (a *App) adopt(v *version, fronts []*front) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped || a.given {
		return false
	}
	for _, key := range a.needRestart(v.config) {
		a.log.Warn("change needs a restart or an upgrade", "key", key)
	}
	a.warnDescriptors(v.config)
	a.warn(v.config)
	a.log.SetLevel(hclog.LevelFromString(v.config.Log.Level))
	before, opened, closed := a.version, without(fronts, a.fronts), without(a.fronts, fronts)
	a.version, a.fronts = v, fronts
	v.keys.use()
	a.server.Swap(a.table(v, a.server.Table()))
	for i, f := range fronts {
		o := listenerOptions(&v.config.Listeners[i], v.tokens[i])
		if slices.Contains(opened, f) {
			f.listener.Configure(o)
			f.tls = v.keys.listeners[i]
		} else {
			a.configure(f, o, v.keys.listeners[i])
		}
	}
	if a.serving {
		a.watch(v, before)
		a.open(opened)
		a.shut(closed)
	} else {
		closeFronts(closed)
	}
	for _, old := range before.backends {
		if n := old.Sessions(); n > 0 && v.find(old.Backend) == nil {
			a.log.Info("removed backend drains", "pool", old.pool, "backend", old.conf.Name, "address", old.conf.Address, "sessions", n)
		}
	}
	return true
}

// without returns those fronts that are not among others.
func without(fronts, others []*front) []*front {
	return slices.DeleteFunc(slices.Clone(fronts), func(f *front) bool { return slices.Contains(others, f) })
}

// closeFronts closes fronts that no loop has been given.
func closeFronts(fronts []*front) {
	for _, f := range fronts {
		f.socket.Close()
	}
}

// needRestart returns the keys in which now differs from what this process began
// with, and which hold until a restart or an upgrade whatever the file says.
func (a *App) needRestart(now *config.Config) []string {
	start, keys := a.opts.Config, []string{}
	for _, fixed := range []struct {
		key     string
		changed bool
	}{
		{"admin.address", start.Admin.Address != now.Admin.Address},
		{"admin.web_config_file", start.Admin.WebConfigFile != now.Admin.WebConfigFile},
		{"loops", start.Loops != now.Loops},
		{"engine", start.Engine != now.Engine},
		{"log.format", start.Log.Format != now.Log.Format},
	} {
		if fixed.changed {
			keys = append(keys, fixed.key)
		}
	}
	return keys
}
