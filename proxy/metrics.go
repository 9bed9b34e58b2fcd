package proxy

import (
	"sync/atomic"
	"time"

	"agiproxy/agi"
	"agiproxy/balancer"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are what sessions count. They are safe for concurrent use.
type Metrics struct {
	sessions *prometheus.CounterVec
	duration *prometheus.HistogramVec
	dispatch *prometheus.HistogramVec
	attempts *prometheus.CounterVec
	commands *prometheus.CounterVec
	command  *prometheus.HistogramVec
	think    *prometheus.HistogramVec
	bytes    *prometheus.CounterVec
	rejected *prometheus.CounterVec
}

// NewMetrics registers the metrics with reg; with nil nobody reads them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	return &Metrics{
		sessions: f.NewCounterVec(prometheus.CounterOpts{
			Name: "agiproxy_sessions_total",
			Help: "Sessions that have ended, by pool and outcome; the pool is empty for those that were not routed.",
		}, []string{"pool", "outcome"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "agiproxy_session_duration_seconds",
			Help:    "Time from accept to the session's end.",
			Buckets: []float64{.1, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600},
		}, []string{"pool"}),
		dispatch: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "agiproxy_dispatch_duration_seconds",
			Help:    "Time from accept to the backend's first command.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20},
		}, []string{"pool"}),
		attempts: f.NewCounterVec(prometheus.CounterOpts{
			Name: "agiproxy_attempts_total",
			Help: "Attempts to have a session served by a backend, by result: served and completed are good.",
		}, []string{"pool", "backend", "result"}),
		commands: f.NewCounterVec(prometheus.CounterOpts{
			Name: "agiproxy_commands_total",
			Help: "AGI commands that backends sent.",
		}, []string{"pool", "command"}),
		command: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "agiproxy_command_duration_seconds",
			Help:    "Time that Asterisk took to answer a command.",
			Buckets: []float64{.001, .0025, .01, .05, .1, .5, 1, 5, 10, 30, 60, 300, 1800},
		}, []string{"pool", "command"}),
		think: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "agiproxy_think_duration_seconds",
			Help:    "Time that a backend took to send its next command.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"pool", "backend"}),
		bytes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "agiproxy_relay_bytes_total",
			Help: "Bytes passed on, headers included.",
		}, []string{"direction"}),
		rejected: f.NewCounterVec(prometheus.CounterOpts{
			Name: "agiproxy_rejected_connections_total",
			Help: "Connections that did not become a session with a valid header, by reason.",
		}, []string{"listener", "reason"}),
	}
}

func (m *Metrics) reject(l *Listener, reason string) {
	m.rejected.WithLabelValues(l.name, reason).Inc()
}

func (m *Metrics) ended(r *Record) {
	m.sessions.WithLabelValues(r.Pool, r.Outcome.String()).Inc()
	m.duration.WithLabelValues(r.Pool).Observe(r.Duration.Seconds())
}

// poolMetrics are a pool's metrics, resolved once so that passing a line costs
// no look-up.
type poolMetrics struct {
	metrics     *Metrics
	name        string
	dispatch    prometheus.Observer
	toBackend   prometheus.Counter
	toAsterisk  prometheus.Counter
	commands    [agi.NumCommands]atomic.Pointer[commandMetrics]
	thinkByName map[string]prometheus.Observer
}

// commandMetrics are made when the command is first seen: most of AGI's
// commands are never used.
type commandMetrics struct {
	sent prometheus.Counter
	took prometheus.Observer
}

func (m *Metrics) pool(name string, backends []*balancer.Backend) *poolMetrics {
	p := &poolMetrics{
		metrics: m, name: name,
		dispatch:    m.dispatch.WithLabelValues(name),
		toBackend:   m.bytes.WithLabelValues("to_backend"),
		toAsterisk:  m.bytes.WithLabelValues("to_asterisk"),
		thinkByName: make(map[string]prometheus.Observer, len(backends)),
	}
	for _, b := range backends {
		p.thinkByName[b.Name()] = m.think.WithLabelValues(name, b.Name())
	}
	return p
}

func (p *poolMetrics) attempt(b *balancer.Backend, result string) {
	p.metrics.attempts.WithLabelValues(p.name, b.Name(), result).Inc()
}

func (p *poolMetrics) command(c agi.Command) { p.of(c).sent.Inc() }

func (p *poolMetrics) commandTook(c agi.Command, d time.Duration) {
	p.of(c).took.Observe(d.Seconds())
}

func (p *poolMetrics) think(b *balancer.Backend, d time.Duration) {
	p.thinkByName[b.Name()].Observe(d.Seconds())
}

func (p *poolMetrics) of(c agi.Command) *commandMetrics {
	if m := p.commands[c].Load(); m != nil {
		return m
	}
	m := &commandMetrics{
		sent: p.metrics.commands.WithLabelValues(p.name, c.String()),
		took: p.metrics.command.WithLabelValues(p.name, c.String()),
	}
	p.commands[c].Store(m)
	return m
}
