package app

import (
	"reflect"
	"testing"
	"time"

	"agiproxy/balancer"
	"agiproxy/config"
)

func TestPoolKeysReachTheBalancer(t *testing.T) {
	cfg, err := config.Parse("f", []byte(`
pools:
  ivr:
    queue: {timeout: 30s, limit: 100}
    ejection: {failures: 5, time: 7s, max_time: 9m, max_percent: 30}
    panic_threshold: 40
    slow_start: 20s
    backends: [10.0.0.11:4573]
`))
	if err != nil {
		t.Fatal(err)
	}
	want := balancer.Options{
		Ejection:  balancer.Ejection{Failures: 5, Time: 7 * time.Second, MaxTime: 9 * time.Minute, MaxPercent: 30},
		Panic:     40,
		SlowStart: 20 * time.Second,
		Queue:     100,
	}
	if got := balancerOptions(&cfg.Pools[0]); !reflect.DeepEqual(got, want) {
		t.Errorf("balancerOptions = %+v; want %+v", got, want)
	}
}
