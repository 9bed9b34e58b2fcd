package proxy

import (
	"agiproxy/balancer"

	"github.com/prometheus/client_golang/prometheus"
)

// A stateCollector tells the state of the backends when it is asked, so that
// nothing has to be kept up to date while sessions run and no series is left
// over from a backend that a reload has removed.
type stateCollector struct {
	server            *Server
	up, state, active *prometheus.Desc
}

// Collector returns the metrics that tell the state of the pools which sessions
// get now.
func (s *Server) Collector() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append([]string{"pool", "backend"}, labels...), nil)
	}
	return &stateCollector{
		server: s,
		up:     desc("agiproxy_backend_up", "Whether the backend takes new sessions: 1 if it is up or busy."),
		state:  desc("agiproxy_backend_state", "1 for the state that the backend is in.", "state"),
		active: desc("agiproxy_sessions_active", "Sessions under way, attempts included."),
	}
}

// Describe implements [prometheus.Collector].
func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.up
	ch <- c.state
	ch <- c.active
}

// Collect implements [prometheus.Collector].
func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	// A backend that a reload has removed is seen until its last session has
	// ended. One of the same name may have taken its place meanwhile.
	sessions := make(map[[2]string]int)
	for _, r := range c.server.draining() {
		sessions[[2]string{r.pool, r.backend.Name()}] += r.backend.Sessions()
	}
	for _, p := range c.server.Table().Pools {
		for _, b := range p.backends.Backends() {
			is := b.State()
			gauge(c.up, number(is == balancer.Up || is == balancer.Busy), p.name, b.Name())
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

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
