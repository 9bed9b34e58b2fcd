package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A proxy is the agiproxy under test, with one pool named ivr.
type proxy struct {
	*process
	suite  *suite
	config string // its file
}

// A backend is one line of the pool.
type backend interface{ entry() (name, addr string) }

// A special backend has settings of its own in the pool, such as "max_sessions: 1".
type special struct {
	backend
	settings string
}

// pool returns a configuration file with one pool: its settings, one a line, and
// its backends.
func (s *suite) pool(settings string, backends ...backend) string {
	var b strings.Builder
	fmt.Fprintf(&b, "listeners:\n  - address: %q\nadmin: {address: %q}\nlog: {level: info, format: json}\n", s.front, s.admin)
	b.WriteString("pools:\n  ivr:\n")
	for ln := range strings.Lines(settings) {
		if ln = strings.TrimSpace(ln); ln != "" {
			fmt.Fprintf(&b, "    %s\n", ln)
		}
	}
	b.WriteString("    backends:\n")
	for _, be := range backends {
		name, addr := be.entry()
		entry := fmt.Sprintf("name: %s, address: %q", name, addr)
		if sp, ok := be.(special); ok {
			entry += ", " + sp.settings
		}
		fmt.Fprintf(&b, "      - {%s}\n", entry)
	}
	return b.String()
}

// proxy starts agiproxy and waits until it is ready.
func (s *suite) proxy(t *testing.T, config string) *proxy {
	t.Helper()
	p := &proxy{suite: s, config: filepath.Join(s.artefacts, strings.ReplaceAll(t.Name(), "/", "-")+".yaml")}
	p.write(t, config)
	var err error
	if p.process, err = s.start("agiproxy-"+strings.ReplaceAll(t.Name(), "/", "-"), exec.Command(s.agiproxy, "serve", "--config", p.config)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stop(t) })
	eventually(t, 10*time.Second, "agiproxy is ready", func() bool {
		select {
		case <-p.exited:
			t.Fatalf("agiproxy has ended: %v; its log:\n%s", p.cmd.ProcessState, p.log())
		default:
		}
		resp, err := http.Get("http://" + s.admin + "/-/ready")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return p
}

func (p *proxy) write(t *testing.T, config string) {
	t.Helper()
	if err := os.WriteFile(p.config, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
}

// stop ends agiproxy, which has no reason to take long: no call is left. A second
// TERM ends what is.
func (p *proxy) stop(t *testing.T) {
	t.Helper()
	select {
	case <-p.exited:
		return
	default:
	}
	p.signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(5 * time.Second):
		if !t.Failed() {
			t.Errorf("agiproxy has not ended 5s after TERM, with no call left")
		}
		p.kill()
	}
}

// reload gives agiproxy another file and waits until it has taken or refused it.
func (p *proxy) reload(t *testing.T, config string, taken bool) {
	t.Helper()
	p.suite.prometheus.scraped(t)
	when := p.suite.prometheus.sum(t, "agiproxy_config_last_reload_success_timestamp_seconds")
	p.write(t, config)
	if err := p.signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, fmt.Sprintf("a reload with taken=%v, as Prometheus sees it", taken), func() bool {
		now := p.suite.prometheus.sum(t, "agiproxy_config_last_reload_success_timestamp_seconds")
		successful := p.suite.prometheus.sum(t, "agiproxy_config_last_reload_successful")
		if taken {
			return now > when && successful == 1
		}
		return now == when && successful == 0
	})
}

// A record is agiproxy's log of one session.
type record struct {
	Outcome  string `json:"outcome"`
	Pool     string `json:"pool"`
	Backend  string `json:"backend"`
	Script   string `json:"script"`
	UniqueID string `json:"uniqueid"`
	Attempts int    `json:"attempts"`
	Commands int    `json:"commands"`
}

// records returns the session records so far. Everything else that agiproxy has
// logged must be JSON as well.
func (p *proxy) records(t *testing.T) []record {
	t.Helper()
	log, err := os.ReadFile(p.logs)
	if err != nil {
		t.Fatal(err)
	}
	var records []record
	for lines := bufio.NewScanner(bytes.NewReader(log)); lines.Scan(); {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatalf("agiproxy logged %q, which is no JSON: %v", lines.Text(), err)
		}
		if r.Outcome != "" {
			records = append(records, r)
		}
	}
	return records
}

// account checks that every call has exactly one record, that the records and the
// metrics, as Prometheus has scraped them, say the outcomes in want, and that
// nothing is left: no session, and no script that ran twice.
func (p *proxy) account(t *testing.T, results []result, want map[string]int) {
	t.Helper()
	p.accountRecords(t, results, want)
	prom := p.suite.prometheus
	prom.scraped(t)
	got := make(map[string]int)
	for outcome, n := range prom.by(t, "agiproxy_sessions_total > 0", "outcome") {
		got[outcome] = int(n)
	}
	if !maps.Equal(got, want) {
		t.Errorf("agiproxy_sessions_total by outcome: %v; want %v", got, want)
	}
	if n := prom.sum(t, "agiproxy_sessions_active"); n != 0 {
		t.Errorf("agiproxy_sessions_active: %v after the last call; want 0", n)
	}
}

func (p *proxy) accountRecords(t *testing.T, results []result, want map[string]int) {
	t.Helper()
	var records []record
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if records = p.records(t); len(records) >= len(results) {
			break
		}
	}
	outcomes, byCall := make(map[string]int), make(map[string]int)
	for _, r := range records {
		outcomes[r.Outcome]++
		byCall[r.UniqueID]++
	}
	for _, r := range results {
		if byCall[r.uniqueID] != 1 {
			t.Errorf("%v has %d session records; want 1", r, byCall[r.uniqueID])
		}
	}
	if len(records) != len(results) {
		t.Errorf("%d session records for %d calls", len(records), len(results))
	}
	if !maps.Equal(outcomes, want) {
		t.Errorf("session records by outcome: %v; want %v", outcomes, want)
	}
}
