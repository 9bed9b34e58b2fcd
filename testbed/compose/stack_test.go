package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stack is deploy/docker-compose.yml, running under a project name and ports of
// its own.
type stack struct {
	command    []string // docker-compose, or the plugin
	file       string
	env        []string
	agi        string // host:port where calls go in
	prometheus string // host:port of Prometheus' API
}

// newStack picks free ports and arranges for the stack to be taken down when t
// ends, however it ends. It starts nothing.
func newStack(t *testing.T) *stack {
	file, err := filepath.Abs("../../deploy/docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	agi, prometheus := freePort(t), freePort(t)
	s := &stack{
		command: []string{"docker-compose"},
		file:    file,
		env: append(os.Environ(),
			"COMPOSE_PROJECT_NAME=agiproxy-testbed",
			"AGIPROXY_PORT="+strconv.Itoa(agi),
			"PROMETHEUS_PORT="+strconv.Itoa(prometheus)),
		agi:        net.JoinHostPort("127.0.0.1", strconv.Itoa(agi)),
		prometheus: net.JoinHostPort("127.0.0.1", strconv.Itoa(prometheus)),
	}
	if _, err := exec.LookPath(s.command[0]); err != nil {
		s.command = []string{"docker", "compose"}
	}
	t.Cleanup(func() {
		// The test's own context may have ended.
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if t.Failed() {
			logs, _ := s.compose(ctx, "logs", "--no-color", "--tail=60", "agiproxy", "ivr1", "ivr2", "ivr3")
			t.Logf("the containers' logs:\n%s", logs)
		}
		if out, err := s.compose(ctx, "down", "-v"); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
	})
	return s
}

// compose runs one command of docker-compose and returns all that it printed.
func (s *stack) compose(ctx context.Context, args ...string) (string, error) {
	argv := append(append([]string{}, s.command...), "-f", s.file)
	argv = append(argv, args...)
	return run(ctx, s.env, argv...)
}

// do is compose for a command that has to work.
func (s *stack) do(ctx context.Context, t *testing.T, args ...string) string {
	t.Helper()
	start := time.Now()
	out, err := s.compose(ctx, args...)
	if err != nil {
		t.Fatalf("docker-compose %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	t.Logf("docker-compose %s: %.1f s", strings.Join(args, " "), time.Since(start).Seconds())
	return out
}

// crash kills a service's program from outside, so that docker takes it for a
// crash and not for a stop by hand. Who isn't root may not do that to a
// container's process: then the service is restarted.
func (s *stack) crash(ctx context.Context, t *testing.T, service string) {
	t.Helper()
	if os.Geteuid() != 0 {
		s.do(ctx, t, "restart", service)
		return
	}
	id := strings.TrimSpace(s.do(ctx, t, "ps", "-q", service))
	out, err := run(ctx, s.env, "docker", "inspect", "--format", "{{.State.Pid}}", id)
	if err != nil {
		t.Fatalf("docker inspect %s: %v\n%s", id, err, out)
	}
	// 0 is said of a container that doesn't run, and means this test to kill.
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil || pid <= 1 {
		t.Fatalf("docker inspect %s: process %q; want that of %s", id, out, service)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %s, process %d: %v", service, pid, err)
	}
	t.Logf("killed %s, process %d", service, pid)
}

// unhealthy names the containers whose health check has not passed, with what
// docker says of each. Those without a check count as healthy while they run.
func (s *stack) unhealthy(ctx context.Context) ([]string, error) {
	ids, err := s.compose(ctx, "ps", "-q")
	if err != nil {
		return nil, fmt.Errorf("ps: %w: %s", err, ids)
	}
	const format = `{{.Name}} {{if .State.Health}}{{.State.Health.Status}}{{else if .State.Running}}healthy{{else}}stopped{{end}}`
	out, err := run(ctx, s.env, append([]string{"docker", "inspect", "--format", format}, strings.Fields(ids)...)...)
	if err != nil {
		return nil, fmt.Errorf("inspect: %w: %s", err, out)
	}
	var bad []string
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); !strings.HasSuffix(line, " healthy") {
			bad = append(bad, line)
		}
	}
	return bad, nil
}

// query asks Prometheus for an instant vector and returns each series' value by
// the value of one of its labels.
func (s *stack) query(ctx context.Context, query, label string) (map[string]float64, error) {
	u := "http://" + s.prometheus + "/api/v1/query?" + url.Values{"query": {query}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Status string
		Data   struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any // time, value as a string
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("query %s: %s: %w", query, resp.Status, err)
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("query %s: %s: %s", query, resp.Status, answer.Status)
	}
	values := make(map[string]float64)
	for _, series := range answer.Data.Result {
		text, _ := series.Value[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("query %s: value %v: %w", query, series.Value[1], err)
		}
		values[series.Metric[label]] = v
	}
	return values, nil
}

// run returns what a command printed, on both its outputs.
func run(ctx context.Context, env []string, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &out
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	return out.String(), err
}

// freePort is free now; docker takes it a moment later.
func freePort(t *testing.T) int {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}
