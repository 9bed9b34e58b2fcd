package app

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are those of the program as a whole.
type metrics struct {
	reloadOK   prometheus.Gauge
	reloadTime prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, o Options) *metrics {
	f := promauto.With(reg)
	f.NewGauge(prometheus.GaugeOpts{
		Name:        "agiproxy_build_info",
		Help:        "1, with what was built.",
		ConstLabels: prometheus.Labels{"version": o.Version, "revision": o.Commit, "date": o.Date, "goversion": runtime.Version()},
	}).Set(1)
	f.NewCounterFunc(prometheus.CounterOpts{
		Name: "agiproxy_log_records_dropped_total",
		Help: "Log records that were dropped because their reader didn't take them fast enough.",
	}, func() float64 {
		if o.LogDropped == nil {
			return 0
		}
		return float64(o.LogDropped())
	})
	return &metrics{
		reloadOK: f.NewGauge(prometheus.GaugeOpts{
			Name: "agiproxy_config_last_reload_successful",
			Help: "Whether the last attempt to read the configuration succeeded.",
		}),
		reloadTime: f.NewGauge(prometheus.GaugeOpts{
			Name: "agiproxy_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration that is in force was read.",
		}),
	}
}

// reloaded takes the result of reading the configuration.
func (m *metrics) reloaded(err error) {
	if err != nil {
		m.reloadOK.Set(0)
		return
	}
	m.reloadOK.Set(1)
	m.reloadTime.SetToCurrentTime()
}
