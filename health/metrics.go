package health

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics counts the probes of all backends. It is safe for concurrent use.
type Metrics struct {
	duration *prometheus.HistogramVec
	failures *prometheus.CounterVec
}

// NewMetrics registers the metrics with reg. With a nil reg nobody reads them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	auto := promauto.With(reg)
	return &Metrics{
		duration: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name: "agiproxy_probe_duration_seconds",
			Help: "Time from the start of a probe to the backend's answer, of healthy ones.",
			// From a LAN's round trip to longer than anybody lets a probe wait.
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"pool", "backend"}),
		failures: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "agiproxy_probe_failures_total",
			Help: "Failed probes by reason.",
		}, []string{"pool", "backend", "reason"}),
	}
}

// Backend returns the metrics of one backend. Its failures are there with all
// reasons from the beginning, so that the first one is seen as an increase.
func (m *Metrics) Backend(pool, backend string) *BackendMetrics {
	b := &BackendMetrics{
		duration: m.duration.WithLabelValues(pool, backend),
		failures: make(map[string]prometheus.Counter, len(reasons)),
	}
	for _, reason := range reasons {
		b.failures[reason] = m.failures.WithLabelValues(pool, backend, reason)
	}
	return b
}

// Forget removes the series of a backend that is no longer there. What its
// [BackendMetrics] still counts is seen by nobody.
func (m *Metrics) Forget(pool, backend string) {
	labels := prometheus.Labels{"pool": pool, "backend": backend}
	m.duration.Delete(labels)
	m.failures.DeletePartialMatch(labels)
}

// BackendMetrics counts the probes of one backend. A nil one counts nothing.
type BackendMetrics struct {
	duration prometheus.Observer
	failures map[string]prometheus.Counter // by reason
}

func (b *BackendMetrics) answered(d time.Duration) {
	if b != nil {
		b.duration.Observe(d.Seconds())
	}
}

func (b *BackendMetrics) failed(reason string) {
	if b == nil {
		return
	}
	counter, ok := b.failures[reason]
	if !ok {
		counter = b.failures[Failed]
	}
	counter.Inc()
}
