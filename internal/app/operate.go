package app

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"agiproxy/admin"
	"agiproxy/health"
	"agiproxy/proxy"
)

// A life is what is remembered of a backend beyond one version: what its probes
// came to, and what an operator has said of it. The latter holds until a reload
// changes the backend's own entry.
type life struct {
	probe  atomic.Pointer[health.Result] // the last; nil before the first
	failed atomic.Pointer[health.Result] // the last that failed

	// App.mu guards these.
	drained  bool
	deadline deadline
	share    int       // the weight; 0 is the configuration's
	ejected  time.Time // until then, by an operator
}

// probed is told what a probe came to.
func (l *life) probed(r health.Result) {
	if r.Err != nil {
		l.failed.Store(&r)
	}
	l.probe.Store(&r)
}

// weight is the backend's share as an operator or the configuration says.
func (b *backend) weight() int {
	if b.life.share != 0 {
		return b.life.share
	}
	return b.conf.Weight
}

// A deadline is when a drain gives up. The zero deadline is never.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
	*d = deadline{}
}

// forgetOperator has a backend be as its configuration says. a.mu is held.
func (a *App) forgetOperator(b *backend) {
	l := b.life
	if l.drained || l.share != 0 {
		a.log.Info("operator's changes end with a changed configuration", "pool", b.pool, "backend", b.conf.Name)
	}
	l.deadline.stop()
	l.share = 0
	if l.drained {
		l.drained = false
		b.Drain(false)
	}
}

// change has an operator do something to a backend of the configuration that is
// in force.
func (a *App) change(pool, name string, do func(b *backend)) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.given { // the other process would never hear of it
		return fmt.Errorf("%w: %w", admin.ErrConflict, ErrUpgrading)
	}
	i := slices.IndexFunc(a.version.backends, func(b *backend) bool { return b.pool == pool && b.conf.Name == name })
	if i < 0 {
		return fmt.Errorf("pool %s: backend %q: %w", pool, name, admin.ErrNotFound)
	}
	do(a.version.backends[i])
	return nil
}

// told logs what an operator did.
func (a *App) told(what string, b *backend, more ...any) {
	a.log.Info(what, append([]any{"pool", b.pool, "backend", b.conf.Name, "sessions", b.Sessions()}, more...)...)
}

// A control is an App as its admin port sees it.
type control struct{ *App }

func (c control) Drain(pool, name string, after time.Duration) error {
	return c.change(pool, name, func(b *backend) {
		b.life.drained = true
		b.life.deadline.stop()
		b.Backend.Drain(true)
		if after == 0 {
			c.told("operator drains backend", b)
			return
		}
		c.giveUpAt(b, time.Now().Add(after))
		c.told("operator drains backend", b, "deadline", after)
	})
}

// giveUpAt has a drain end at that time. a.mu is held.
func (a *App) giveUpAt(b *backend, at time.Time) {
	b.life.deadline = deadline{at, time.AfterFunc(time.Until(at), func() { a.giveUp(b, at) })}
}

// giveUp ends a drain whose time is over: what is left gets what on_backend_loss
// says.
func (a *App) giveUp(b *backend, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !b.life.deadline.at.Equal(at) {
		return // another one, or none, has been set meanwhile
	}
	if n := b.Sessions(); n > 0 {
		a.log.Warn("drain's time is over", "pool", b.pool, "backend", b.conf.Name, "sessions", n)
	}
	a.lose(b)
}

// lose gives all sessions on b what on_backend_loss says.
func (a *App) lose(b *backend) {
	a.onLoops(func(w *worker) { w.sessions.Lose(b.Backend, proxy.ErrDrained) })
}

func (c control) Disable(pool, name string) error {
	return c.change(pool, name, func(b *backend) {
		b.life.drained = true
		b.life.deadline.stop()
		b.life.deadline.at = time.Now()
		b.Backend.Drain(true)
		c.told("operator disables backend", b)
		c.lose(b)
	})
}

func (c control) Enable(pool, name string) error {
	return c.change(pool, name, func(b *backend) {
		b.life.drained = false
		b.life.deadline.stop()
		b.Backend.Drain(false)
		c.told("operator enables backend", b)
	})
}

func (c control) SetWeight(pool, name string, weight int) error {
	return c.change(pool, name, func(b *backend) {
		b.life.share = weight
		b.Configure(weight, b.conf.MaxSessions, b.conf.Backup)
		c.told("operator sets weight", b, "weight", weight)
	})
}

func (c control) Eject(pool, name string, d time.Duration) error {
	return c.change(pool, name, func(b *backend) {
		b.Backend.Eject(d)
		b.life.ejected = b.EjectedUntil()
		c.told("operator ejects backend", b, "duration", d)
	})
}

func (c control) Uneject(pool, name string) error {
	return c.change(pool, name, func(b *backend) {
		b.Backend.Uneject()
		c.told("operator ends ejection", b)
	})
}

// atHome waits until no session is frozen for a hand-over, and keeps it so until the
// function that it returns is called.
func (a *App) atHome() (leave func()) {
	a.freezing.RLock()
	return a.freezing.RUnlock
}

// gone refuses to do anything with sessions that another process has.
func (a *App) gone() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.given {
		return fmt.Errorf("%w: %w", admin.ErrConflict, ErrHanded)
	}
	return nil
}

func (c control) Kill(id uint32) error {
	defer c.atHome()()
	if err := c.gone(); err != nil {
		return err
	}
	if err := c.server.Kill(id); err != nil {
		return fmt.Errorf("session %d: %w", id, admin.ErrNotFound) // it has ended meanwhile
	}
	c.log.Info("operator kills session", "session", id)
	return nil
}

func (c control) Trace(id uint32) (admin.Trace, error) {
	defer c.atHome()()
	if err := c.gone(); err != nil {
		return nil, err
	}
	t, err := c.server.Trace(id)
	switch {
	case errors.Is(err, proxy.ErrTraces):
		return nil, fmt.Errorf("%w: %w", err, admin.ErrTooMany)
	case err != nil:
		return nil, fmt.Errorf("session %d: %w", id, admin.ErrNotFound)
	}
	c.log.Info("operator traces session", "session", id)
	return t, nil
}

func (c control) Reload() error {
	return conflict(c.App.Reload(), ErrNoFile, errStopping, ErrHanded)
}

// conflict marks an error that is one of these as what isn't possible now.
func conflict(err error, these ...error) error {
	if slices.ContainsFunc(these, func(e error) bool { return errors.Is(err, e) }) {
		return fmt.Errorf("%w: %w", admin.ErrConflict, err)
	}
	return err
}

// Upgrade returns before the admin port closes here, which gives the answer its
// time: see [admin.Server.Close].
func (c control) Upgrade() (admin.Upgrade, error) {
	u, err := c.App.Upgrade()
	return u, conflict(err, ErrUpgrading, errNotServing, errNoBegin)
}
