package proxy

import (
	"errors"

	"agiproxy/agi"
	"agiproxy/balancer"

	"github.com/prometheus/client_golang/prometheus"
)

// A collector tells what the sessions have counted and the state of the
// backends when it is asked, so that nothing has to be kept up to date while
// sessions run and no state is left over from a backend that a reload has
// removed.
type collector struct {
	server *Server

	up, state, active                  *prometheus.Desc
	sessions, duration, dispatch       *prometheus.Desc
	attempts, commands, command, think *prometheus.Desc
	queue, queued, replays, resumed    *prometheus.Desc
	cutShort, first, ejections, losses *prometheus.Desc
	full                               *prometheus.Desc
	bytes, rejected, denied            *prometheus.Desc
}

var errCountsTaken = errors.New("another process goes on with the counts")

// Collector returns the metrics of all sessions, and those that tell the state
// of the pools which sessions get now. Collecting waits for the workers' loops.
func (s *Server) Collector() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &collector{
		server: s,
		up:     desc("agiproxy_backend_up", "Whether the backend takes new sessions: 1 if it is up or busy.", "pool", "backend"),
		state:  desc("agiproxy_backend_state", "1 for the state that the backend is in.", "pool", "backend", "state"),
		active: desc("agiproxy_sessions_active", "Sessions under way, attempts included.", "pool", "backend"),
		sessions: desc("agiproxy_sessions_total",
			"Sessions that have ended, by pool and outcome; the pool is empty for those that were not routed.", "pool", "outcome"),
		duration: desc("agiproxy_session_duration_seconds", "Time from accept to the session's end.", "pool"),
		dispatch: desc("agiproxy_dispatch_duration_seconds", "Time from accept to the backend's first command.", "pool"),
		attempts: desc("agiproxy_attempts_total",
			"Attempts to have a session served by a backend, by result: served and completed are good.", "pool", "backend", "result"),
		commands: desc("agiproxy_commands_total", "AGI commands that backends sent.", "pool", "command"),
		denied: desc("agiproxy_denied_commands_total",
			"Lines of backends that did not reach Asterisk, by what AGI command they were, and the reason.", "pool", "command", "reason"),
		command: desc("agiproxy_command_duration_seconds", "Time that Asterisk took to answer a command.", "pool", "command"),
		think:   desc("agiproxy_think_duration_seconds", "Time that a backend took to send its next command.", "pool", "backend"),
		queue:   desc("agiproxy_queue_length", "Sessions that wait for a slot.", "pool"),
		queued:  desc("agiproxy_queue_duration_seconds", "Time that sessions waited for a slot, those in vain included.", "pool"),
		replays: desc("agiproxy_replays_total", "Headers sent to another backend after one that failed before its first command.", "pool"),
		resumed: desc("agiproxy_resumed_sessions_total",
			"Times that another backend went on with a call whose backend was lost in mid-session.", "pool"),
		cutShort: desc("agiproxy_hangups_in_command_total", "Callers who left while Asterisk ran a command.", "pool"),
		full: desc("agiproxy_pool_full_total",
			"Times that a session found its pool with as many sessions as it may have, those included that waited then.", "pool"),
		first: desc("agiproxy_first_command_duration_seconds",
			"Time from the header's being sent to the backend's first command.", "pool", "backend"),
		losses: desc("agiproxy_backend_losses_total",
			"Sessions that the backend lost before they ended, those included that another backend went on with.", "pool", "backend"),
		ejections: desc("agiproxy_backend_ejections_total", "Times that the backend was ejected for failed sessions.", "pool", "backend"),
		bytes:     desc("agiproxy_relay_bytes_total", "Bytes passed on, headers included.", "direction"),
		rejected: desc("agiproxy_rejected_connections_total",
			"Connections that did not become a session with a valid header, by reason.", "listener", "reason"),
	}
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.up, c.state, c.active, c.sessions, c.duration, c.dispatch,
		c.attempts, c.commands, c.command, c.think, c.bytes, c.rejected,
		c.queue, c.queued, c.replays, c.resumed, c.cutShort, c.first, c.ejections, c.losses, c.full, c.denied,
	} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	if !c.server.counted.Load() {
		// From nothing counters would be taken for those of a process that has begun anew.
		ch <- prometheus.NewInvalidMetric(c.sessions, errCountsTaken)
		return
	}
	c.collectStates(ch)
	c.collectCounts(ch)
}

func (c *collector) collectStates(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	// A backend that a reload has removed is seen until its last session has
	// ended. One of the same name may have taken its place meanwhile.
	sessions := make(map[[2]string]int)
	for _, r := range c.server.Retired() {
		sessions[[2]string{r.Pool, r.Backend.Name()}] += r.Backend.Sessions()
	}
	for _, p := range c.server.Table().Pools {
		gauge(c.queue, float64(p.backends.Waiting()), p.name)
		for _, b := range p.backends.Backends() {
			ch <- prometheus.MustNewConstMetric(c.ejections, prometheus.CounterValue, float64(b.Ejections()), p.name, b.Name())
			is := b.State()
			gauge(c.up, number(is.CanServe()), p.name, b.Name())
			for st := range balancer.State(balancer.NumStates) {
				gauge(c.state, number(st == is), p.name, b.Name(), st.String())
			}
			sessions[[2]string{p.name, b.Name()}] += b.Sessions()
		}
	}
	for label, n := range sessions {
		gauge(c.active, float64(n), label[0], label[1])
	}
}

func (c *collector) collectCounts(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	times := func(d *prometheus.Desc, h *histogram, labels ...string) {
		n, sum, buckets := h.cumulative()
		ch <- prometheus.MustNewConstHistogram(d, n, sum, buckets, labels...)
	}
	total := c.server.counts()
	for _, p := range c.server.Table().Pools { // which are there before their first session
		for _, b := range p.backends.Backends() {
			total.pool(p.name).backend(b.Name())
		}
	}
	count(c.bytes, total.toBackend, "to_backend")
	count(c.bytes, total.toAsterisk, "to_asterisk")
	for r, n := range total.rejected {
		count(c.rejected, n, r.listener, r.reason)
	}
	for name, p := range total.pools {
		ended := false
		for o, n := range p.ended {
			if n > 0 {
				count(c.sessions, n, name, Outcome(o).String())
				ended = true
			}
		}
		if ended {
			times(c.duration, &p.duration, name)
		}
		if name == "" {
			continue // nothing is dispatched without a pool
		}
		times(c.dispatch, &p.dispatch, name)
		times(c.queued, &p.queued, name)
		count(c.replays, p.replays, name)
		count(c.resumed, p.resumed, name)
		count(c.cutShort, p.cutShort, name)
		count(c.full, p.full, name)
		for cmd, n := range p.commands {
			if n != nil {
				count(c.commands, n.sent, name, agi.Command(cmd).String())
				times(c.command, &n.took, name, agi.Command(cmd).String())
			}
		}
		for d, n := range p.denied {
			count(c.denied, n, name, d.command.String(), d.reason.String())
		}
		for backend, b := range p.backends {
			count(c.losses, b.losses, name, backend)
			times(c.first, &b.first, name, backend)
			times(c.think, &b.think, name, backend)
			for r, n := range b.attempts {
				if n > 0 {
					count(c.attempts, n, name, backend, result(r).String())
				}
			}
		}
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
