// Package compose runs deploy/docker-compose.yml for real: its images, its health
// checks, calls through the published port while a backend is stopped, and what
// Prometheus has scraped of it.
//
// It takes docker, minutes and some disk, so it is skipped unless asked for:
//
//	AGIPROXY_COMPOSE=1 go test -v -timeout 30m ./testbed/compose
//
// 1 has testbed/images/build make the base images that docker does not have yet,
// which is for machines without a registry; with "pull", docker pulls them.
package compose

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"agiproxy/agi"
	"agiproxy/internal/agisim"
)

func TestCallsGoOnWhileABackendIsStopped(t *testing.T) {
	images := os.Getenv("AGIPROXY_COMPOSE")
	if images == "" {
		t.Skip("AGIPROXY_COMPOSE is not set")
	}
	if images != "pull" {
		buildImages(t)
	}
	s := newStack(t)
	s.build(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()

	s.do(ctx, t, "up", "-d")
	s.awaitHealthy(ctx, t)
	s.awaitMetric(ctx, t, "agiproxy_backend_up", "backend", map[string]float64{"ivr1": 1, "ivr2": 1, "ivr3": 1})
	s.serves(ctx, t, 9, "ivr1", "ivr2", "ivr3")

	s.do(ctx, t, "stop", "ivr2")
	s.serves(ctx, t, 30, "ivr1", "ivr3")
	s.awaitMetric(ctx, t, "agiproxy_backend_up", "backend", map[string]float64{"ivr1": 1, "ivr2": 0, "ivr3": 1})
	s.awaitMetric(ctx, t, "sum by (outcome) (agiproxy_sessions_total > 0)", "outcome", map[string]float64{"completed": 39})

	s.do(ctx, t, "start", "ivr2")
	s.awaitMetric(ctx, t, "agiproxy_backend_up", "backend", map[string]float64{"ivr1": 1, "ivr2": 1, "ivr3": 1})
	s.serves(ctx, t, 9, "ivr1", "ivr2", "ivr3")

	// A crash after a reload: docker starts agiproxy again, and Prometheus has not
	// lost sight of it.
	s.do(ctx, t, "kill", "-s", "HUP", "agiproxy")
	s.crash(ctx, t, "agiproxy")
	s.awaitMetric(ctx, t, `changes(process_start_time_seconds{job="agiproxy"}[5m])`, "job", map[string]float64{"agiproxy": 1})
	s.awaitHealthy(ctx, t)
	s.serves(ctx, t, 9, "ivr1", "ivr2", "ivr3")
}

// buildImages makes the base images. It has a time of its own: two minutes the
// first time, nothing later.
func buildImages(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	out, err := run(ctx, os.Environ(), "../images/build")
	if err != nil {
		t.Fatalf("testbed/images/build: %v\n%s", err, out)
	}
}

// build makes the images of agiproxy and of the backends. It has a time of its own
// as well: it compiles everything anew, which a busy machine is slow at.
func (s *stack) build(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	s.do(ctx, t, "build")
}

// serves makes n calls, a few at a time, and fails unless each is served and all
// the backends named, and no other, have served some.
func (s *stack) serves(ctx context.Context, t *testing.T, n int, backends ...string) {
	t.Helper()
	// A call lasts two seconds, and a few more where a backend has to be found.
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var (
		start    = time.Now()
		asterisk agisim.Asterisk
		mu       sync.Mutex
		served   = make(map[string]int)
		failed   []error
		calls    sync.WaitGroup
	)
	line := make(chan struct{}, 10) // calls at a time
	for i := range n {
		calls.Go(func() {
			line <- struct{}{}
			defer func() { <-line }()
			result := asterisk.Run(ctx, agisim.Call{
				Address: s.agi,
				Environment: agi.Environment{
					Script:   "welcome",
					Channel:  fmt.Sprintf("Local/108@default-%08x;2", i),
					UniqueID: fmt.Sprintf("%d.%d", start.Unix(), i),
				},
			})
			mu.Lock()
			defer mu.Unlock()
			// The application says at its end who it was.
			by := result.Variables["SERVED"]
			if !result.Served() || by == "" {
				failed = append(failed, fmt.Errorf("call %d: AGISTATUS=%s AGIPROXYSTATUS=%s SERVED=%s after %d commands and %v, error %v",
					i, result.Status, result.ProxyStatus(), by, result.Commands, result.Duration, result.Err))
				return
			}
			served[by]++
		})
	}
	calls.Wait()
	t.Logf("%d calls in %.1f s, served by %v", n, time.Since(start).Seconds(), served)
	if len(failed) > 0 {
		t.Fatalf("%d of %d calls were not served; want all served:\n%v", len(failed), n, errors.Join(failed...))
	}
	if got := slices.Sorted(maps.Keys(served)); !slices.Equal(got, backends) {
		t.Fatalf("%d calls were served by %v; want some by each of %v, and by no other", n, served, backends)
	}
}

// awaitHealthy waits until every container's health check passes.
func (s *stack) awaitHealthy(ctx context.Context, t *testing.T) {
	t.Helper()
	s.await(ctx, t, "every container healthy", func() (string, bool, error) {
		bad, err := s.unhealthy(ctx)
		return fmt.Sprint(bad), len(bad) == 0, err
	})
}

// awaitMetric waits until Prometheus has scraped what is wanted.
func (s *stack) awaitMetric(ctx context.Context, t *testing.T, query, label string, want map[string]float64) {
	t.Helper()
	s.await(ctx, t, fmt.Sprintf("%s = %v", query, want), func() (string, bool, error) {
		got, err := s.query(ctx, query, label)
		return fmt.Sprint(got), maps.Equal(got, want), err
	})
}

// await asks every second, for a minute, until what is wanted has come.
func (s *stack) await(ctx context.Context, t *testing.T, want string, ask func() (got string, ok bool, err error)) {
	t.Helper()
	start := time.Now()
	for {
		got, ok, err := ask()
		if ok && err == nil {
			t.Logf("%s after %.1f s", want, time.Since(start).Seconds())
			return
		}
		if ctx.Err() != nil || time.Since(start) > time.Minute {
			t.Fatalf("after %.1f s got %s, error %v; want %s", time.Since(start).Seconds(), got, err, want)
		}
		time.Sleep(time.Second)
	}
}
