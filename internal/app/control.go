package app

import (
	"fmt"
	"time"

	"agiproxy/admin"
	"agiproxy/agi"
	"agiproxy/balancer"
	"agiproxy/proxy"
)

func (c control) Status() admin.Status {
	s := admin.Status{
		Version: c.opts.Version, Revision: c.opts.Commit, Started: c.started, Uptime: time.Since(c.started).Seconds(),
		Draining: c.draining.Load(), Sessions: c.server.Sessions(),
		Loops: len(c.workers), Engine: string(c.workers[0].loop.Engine()),
		ConfigFile: c.opts.File, LastReload: *c.lastReload.Load(),
	}
	for _, p := range c.server.Table().Pools {
		s.Queued += p.Backends().Waiting()
	}
	if err := c.ready(); err != nil {
		s.NotReady = err.Error()
	} else {
		s.Ready = true
	}
	return s
}

func (c control) Pools() []admin.Pool {
	seen := sight{c.server.Oldest(), c.latest.since(c.server.Totals()).First}
	retired := c.server.Retired()
	c.mu.Lock()
	defer c.mu.Unlock()
	all := []admin.Pool{}
	for i, p := range c.server.Table().Pools { // which are the version's, in its order
		pool := admin.Pool{
			Name: p.Name(), Balance: c.version.pools[i].config.Balance, CanServe: p.Backends().CanServe(),
			Queued: p.Backends().Waiting(), Backends: []admin.Backend{},
		}
		for _, b := range p.Backends().Backends() {
			pool.Backends = append(pool.Backends, seen.backend(c.version.find(b)))
		}
		for _, r := range retired {
			if r.Pool == pool.Name {
				pool.Backends = append(pool.Backends, seen.removed(r))
			}
		}
		for _, b := range pool.Backends {
			pool.Sessions += b.Sessions
		}
		all = append(all, pool)
	}
	return all
}

// A sight is what the sessions know of backends.
type sight struct {
	oldest map[*balancer.Backend]time.Duration
	first  map[proxy.BackendID]proxy.Histogram
}

// plain tells what a backend knows of itself.
func (s *sight) plain(pool string, b *balancer.Backend) admin.Backend {
	d := admin.Backend{
		Pool: pool, Name: b.Name(), Address: b.Address(), State: b.State().String(), Since: b.Since(),
		Weight: b.Weight(), MaxSessions: b.MaxSessions(), Backup: b.Backup(),
		Sessions: b.Sessions(), Total: b.Total(), Ejections: b.Ejections(), Overridden: []string{},
	}
	if b.Resolved() {
		d.Resolved = b.Addr().String()
	}
	if until := b.EjectedUntil(); !until.IsZero() {
		d.EjectedUntil = &until
	}
	if age, ok := s.oldest[b]; ok {
		seconds := age.Seconds()
		d.OldestSession = &seconds
	}
	return d
}

// backend tells of a backend of the configuration. App.mu is held.
func (s *sight) backend(b *backend) admin.Backend {
	d, l := s.plain(b.pool, b.Backend), b.life
	d.Reason = b.reason(d.State)
	d.FirstCommand = admin.NewQuantiles(s.first[proxy.BackendID{Pool: b.pool, Backend: b.conf.Name}])
	if p := l.probe.Load(); p != nil {
		d.LastProbe = &admin.Probe{Time: p.Time, OK: p.Err == nil, Reason: p.Reason, Duration: p.Took.Seconds()}
		if p.Err != nil {
			d.LastProbe.Error = p.Err.Error()
		}
	}
	if l.drained {
		d.Overridden = append(d.Overridden, "drain")
		d.Draining = new(admin.Drain)
		if at := l.deadline.at; !at.IsZero() {
			d.Draining.Deadline = &at
		}
	}
	if l.share != 0 {
		d.Overridden = append(d.Overridden, "weight")
	}
	return d
}

// removed tells of a backend that the configuration doesn't have any more.
func (s *sight) removed(r proxy.Retired) admin.Backend {
	d := s.plain(r.Pool, r.Backend)
	d.Removed = true
	d.State, d.Reason, d.Since = balancer.Drained.String(), "removed from the configuration", r.Since
	return d
}

// reason says why the backend is in that state. App.mu is held.
func (b *backend) reason(state string) string {
	l := b.life
	switch state {
	case balancer.Drained.String():
		return "by an operator"
	case balancer.Ejected.String():
		if b.EjectedUntil().Equal(l.ejected) {
			return "by an operator"
		}
		return "sessions have failed through it"
	case balancer.Busy.String():
		return "a health check waits in its line, and its sessions make progress"
	case balancer.Down.String():
		if !b.Resolved() {
			return errNoAddress.Error()
		}
		if f := l.failed.Load(); f != nil {
			return fmt.Sprintf("%s: %v", f.Reason, f.Err)
		}
		if b.known { // else its probe is just about to say so
			return "found by the process before this one"
		}
	default:
		if b.health.Probe == "none" {
			return "assumed: it isn't probed"
		}
		if l.probe.Load() == nil {
			return "assumed: its first health check is under way"
		}
	}
	return ""
}

func (c control) Sessions(f proxy.Filter) ([]admin.Session, error) {
	defer c.atHome()()
	if err := c.gone(); err != nil {
		return nil, err
	}
	all := []admin.Session{}
	now := time.Now()
	for _, i := range c.server.List(f) {
		turn := "backend"
		if i.Turn == agi.AsterisksTurn {
			turn = "asterisk"
		}
		all = append(all, admin.Session{
			ID: i.ID, State: i.State, Pool: i.Pool, Backend: i.Backend, Script: i.Script, UniqueID: i.UniqueID,
			Channel: i.Channel, Caller: i.Caller, Client: i.Client.String(), Listener: i.Listener,
			Started: now.Add(-i.Age), Age: i.Age.Seconds(), Turn: turn, TurnFor: i.TurnFor.Seconds(),
			Command: i.Command, Commands: i.Commands, Attempts: i.Attempts, Resumed: i.Resumed, Bytes: i.Bytes,
		})
	}
	return all, nil
}

func (c control) Totals() proxy.Totals { return c.server.Totals() }

func (c control) Endings(after uint64) []admin.Ending {
	all := []admin.Ending{}
	for _, e := range c.endings.after(after) {
		r := &e.Record
		d := admin.Ending{
			Number: e.number, Time: e.time, ID: r.ID, Outcome: r.Outcome.String(), Pool: r.Pool, Backend: r.Backend,
			Script: r.Script, UniqueID: r.UniqueID, Channel: r.Channel, Caller: r.Caller, Client: r.Client.String(), Listener: r.Listener,
			Attempts: r.Attempts, Commands: r.Commands, Dispatch: r.Dispatch.Seconds(), Duration: r.Duration.Seconds(), Bytes: r.Bytes,
		}
		if r.Err != nil {
			d.Reason = r.Err.Error()
		}
		all = append(all, d)
	}
	return all
}
