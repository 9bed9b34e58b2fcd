package health

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func value(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	return testutil.ToFloat64(c)
}

func observed(t *testing.T, o prometheus.Observer) (count uint64, sum float64) {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(o.(prometheus.Collector))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	h := families[0].Metric[0].GetHistogram()
	return h.GetSampleCount(), h.GetSampleSum()
}

func TestMetricsNamesAndLabels(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	metrics := NewMetrics(reg)
	b := metrics.Backend("ivr", "ivr1")
	b.failed(Silent)
	b.failed("a reason that is none")
	b.answered(2 * time.Millisecond)
	const want = `
# HELP agiproxy_probe_duration_seconds Time from the start of a probe to the backend's answer, of healthy ones.
# TYPE agiproxy_probe_duration_seconds histogram
agiproxy_probe_duration_seconds_bucket{backend="ivr1",pool="ivr",le="0.0005"} 0
agiproxy_probe_duration_seconds_bucket{backend="ivr1",pool="ivr",le="0.001"} 0
agiproxy_probe_duration_seconds_bucket{backend="ivr1",pool="ivr",le="0.0025"} 1
agiproxy_probe_duration_seconds_bucket{backend="ivr1",pool="ivr",le="0.005"} 1
agiproxy_probe_duration_seconds_bucket{backend="ivr1",pool="ivr",le="0.01"} 1
agiproxy_probe_duration_seconds_bucket{backend="ivr1",pool="ivr",le="0.025"} 1
agiproxy_probe_duration_seconds_bucket{backend="ivr1",pool="ivr",le="0.05"} 1
agiproxy_probe_duration_seconds_bucket{backend="ivr1",pool="ivr",le="0.1"} 1
agiproxy_probe_duration_seconds_bucket{backend="ivr1",pool="ivr",le="0.25"} 1
agiproxy_probe_duration_seconds_bucket{backend="ivr1",pool="ivr",le="0.5"} 1
agiproxy_probe_duration_seconds_bucket{backend="ivr1",pool="ivr",le="1"} 1
agiproxy_probe_duration_seconds_bucket{backend="ivr1",pool="ivr",le="2.5"} 1
agiproxy_probe_duration_seconds_bucket{backend="ivr1",pool="ivr",le="5"} 1
agiproxy_probe_duration_seconds_bucket{backend="ivr1",pool="ivr",le="10"} 1
agiproxy_probe_duration_seconds_bucket{backend="ivr1",pool="ivr",le="+Inf"} 1
agiproxy_probe_duration_seconds_sum{backend="ivr1",pool="ivr"} 0.002
agiproxy_probe_duration_seconds_count{backend="ivr1",pool="ivr"} 1
# HELP agiproxy_probe_failures_total Failed probes by reason.
# TYPE agiproxy_probe_failures_total counter
agiproxy_probe_failures_total{backend="ivr1",pool="ivr",reason="closed"} 0
agiproxy_probe_failures_total{backend="ivr1",pool="ivr",reason="error"} 1
agiproxy_probe_failures_total{backend="ivr1",pool="ivr",reason="refused"} 0
agiproxy_probe_failures_total{backend="ivr1",pool="ivr",reason="reset"} 0
agiproxy_probe_failures_total{backend="ivr1",pool="ivr",reason="silent"} 1
agiproxy_probe_failures_total{backend="ivr1",pool="ivr",reason="timeout"} 0
agiproxy_probe_failures_total{backend="ivr1",pool="ivr",reason="tls"} 0
agiproxy_probe_failures_total{backend="ivr1",pool="ivr",reason="unexpected"} 0
agiproxy_probe_failures_total{backend="ivr1",pool="ivr",reason="unreachable"} 0
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint found %v, %v; want nothing", problems, err)
	}
}

func TestMetricsForgetARemovedBackend(t *testing.T) {
	reg := prometheus.NewRegistry()
	metrics := NewMetrics(reg)
	gone := metrics.Backend("ivr", "ivr1")
	metrics.Backend("ivr", "ivr2")
	metrics.Forget("ivr", "ivr1")
	gone.failed(Silent) // a last one must not bring the series back
	gone.answered(time.Second)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := 0
	for _, family := range families {
		for _, m := range family.Metric {
			series++
			for _, label := range m.Label {
				if label.GetName() == "backend" && label.GetValue() != "ivr2" {
					t.Errorf("%s{backend=%q} is still there", family.GetName(), label.GetValue())
				}
			}
		}
	}
	if want := 1 + len(reasons); series != want {
		t.Errorf("%d series are left; want %d: those of ivr2", series, want)
	}
}
