package netns

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"agiproxy/internal/agisim"
	"agiproxy/testbed/fastagi/fault"
)

// The addresses of a stage. Backends come one after the other from the first.
const (
	pbxAddr      = "10.77.0.1"
	proxyAddr    = "10.77.0.2"
	nameServer   = "10.77.0.53"
	firstBackend = 11
	front        = proxyAddr + ":4577"
	admin        = "127.0.0.1:9577"
)

// What agiproxy needs to find out about a peer that is gone without a word, see
// internal/loop. It can't be configured.
const (
	keepIdle    = 30 * time.Second // of silence, until the kernel asks
	userTimeout = time.Minute      // without an answer, until the connection is lost
	youth       = 5 * time.Second  // of a connection, in which it has neither
)

// slack is what a busy machine may add to a time that was configured. That a time
// is kept at all is what these tests are about.
const slack = 20 * time.Second

// A stage is one network with everybody on it: Asterisk's host, agiproxy's, and the
// backends'.
type stage struct {
	t        *testing.T
	network  *network
	pbx      *host
	proxy    *proxy
	backends []*backend
	asterisk agisim.Asterisk

	mu    sync.Mutex
	calls int
}

// A backend is a FastAGI server on a host of its own.
type backend struct {
	*host
	*fault.Server
	name string
}

// building limits how many stages are built at a time. All tests run at once, and most
// of them only wait; but a machine that starts fifty processes in a moment isn't in time
// for a probe.
var building = make(chan struct{}, 3)

// begin returns a stage with backends of these names and an agiproxy whose pool has
// these settings, one a line. The test goes on beside the others.
func begin(t *testing.T, settings string, names ...string) *stage {
	t.Helper()
	s := empty(t, names...)
	building <- struct{}{}
	defer func() { <-building }()
	s.proxy = s.startProxy(t, s.pool(settings))
	return s
}

// empty returns a stage without an agiproxy.
func empty(t *testing.T, names ...string) *stage {
	t.Helper()
	if os.Getenv("AGIPROXY_NETNS") != "1" {
		t.Skip("AGIPROXY_NETNS=1 is not set; testbed/netns/run makes the namespaces and runs this")
	}
	t.Parallel()
	building <- struct{}{}
	defer func() { <-building }()
	s := &stage{t: t, network: newNetwork(t)}
	s.pbx = s.network.host(t, pbxAddr)
	s.asterisk.Dial, s.asterisk.DialTimeout = s.pbx.dial, 30*time.Second // its own 2s aren't what this is about
	for i, name := range names {
		b := &backend{host: s.network.host(t, fmt.Sprintf("10.77.0.%d", firstBackend+i)), name: name}
		b.serve(t)
		s.backends = append(s.backends, b)
	}
	return s
}

// serve starts the FastAGI server of a backend.
func (b *backend) serve(t *testing.T) {
	t.Helper()
	var err error
	b.Server, err = fault.Listen(b.addr.String()+":4573", fault.Options{Name: b.name, Script: []string{"NOOP"}, Listen: b.listen})
	if err != nil {
		t.Fatal(err)
	}
	server := b.Server
	t.Cleanup(func() { server.Close() })
}

// pool returns a configuration with one pool of all backends.
func (s *stage) pool(settings string) string {
	var entries []string
	for _, b := range s.backends {
		entries = append(entries, fmt.Sprintf("{name: %s, address: %q}", b.name, b.Addr()))
	}
	return configuration(settings, entries...)
}

// configuration returns a file with one pool. Where its settings name no health check
// there is none, so that only calls find out.
func configuration(settings string, backends ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "listeners:\n  - {address: %q, header_timeout: 30s}\nadmin: {address: %q}\nlog: {level: info, format: json}\npools:\n  ivr:\n", front, admin)
	if !strings.Contains(settings, "health:") {
		settings += "\nhealth: {probe: none}"
	}
	for line := range strings.Lines(settings) {
		fmt.Fprintf(&b, "    %s\n", strings.TrimSpace(line))
	}
	fmt.Fprintf(&b, "    backends: [%s]\n", strings.Join(backends, ", "))
	return b.String()
}

// A proxy is the agiproxy under test, a process on a host of its own.
type proxy struct {
	*host
	t      *testing.T
	cmd    *exec.Cmd
	config string // the file
	logs   string // the file
	ended  chan struct{}
	http   http.Client
	atRest float64 // descriptors without any session
}

func (s *stage) startProxy(t *testing.T, config string) *proxy {
	t.Helper()
	dir := t.TempDir()
	p := &proxy{
		host: s.network.host(t, proxyAddr), t: t, ended: make(chan struct{}),
		config: filepath.Join(dir, "agiproxy.yaml"), logs: filepath.Join(dir, "log"),
	}
	p.http = http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: p.dial, DisableKeepAlives: true}}
	p.write(config)
	log, err := os.Create(p.logs)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd = exec.Command(os.Getenv("AGIPROXY_BINARY"), "serve", "--config", p.config)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.start(p.cmd); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		kill(t, p.cmd.Process.Pid)
		<-p.ended
		if t.Failed() {
			t.Logf("agiproxy's log:\n%s", p.log())
		}
	})
	eventually(t, 20*time.Second, "agiproxy listens", func() bool {
		_, err := p.get("/metrics")
		return err == nil
	})
	p.atRest = p.metric("process_open_fds ")
	return p
}

func (p *proxy) write(config string) {
	p.t.Helper()
	if err := os.WriteFile(p.config, []byte(config), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *proxy) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

func (p *proxy) log() string {
	text, err := os.ReadFile(p.logs)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

// get asks agiproxy's admin port.
func (p *proxy) get(path string) (string, error) {
	resp, err := p.http.Get("http://" + admin + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// metric returns the sum of the series that begin like this.
func (p *proxy) metric(series string) (sum float64) {
	p.t.Helper()
	body, err := p.get("/metrics")
	if err != nil {
		p.t.Fatalf("GET /metrics: %v", err)
	}
	for _, m := range regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(series)+`(?:.* )?(\S+)$`).FindAllStringSubmatch(body, -1) {
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			p.t.Fatalf("%s: %v", m[0], err)
		}
		sum += v
	}
	return sum
}

// mustRest waits until agiproxy has no session and no more descriptors than at its
// beginning.
func (s *stage) mustRest(limit time.Duration) {
	s.t.Helper()
	active, fds := 0.0, 0.0
	defer func() {
		if s.t.Failed() {
			s.t.Logf("sessions: %v, descriptors: %v; want 0 and at most %v", active, fds, s.proxy.atRest)
		}
	}()
	eventually(s.t, limit, "agiproxy is at rest", func() bool {
		active, fds = s.proxy.metric("agiproxy_sessions_active"), s.proxy.metric("process_open_fds ")
		return active == 0 && fds <= s.proxy.atRest
	})
}

// A record is agiproxy's log of one session.
type record struct {
	Outcome  string `json:"outcome"`
	Backend  string `json:"backend"`
	UniqueID string `json:"uniqueid"`
	Attempts int    `json:"attempts"`
	Error    string `json:"error"`
}

// record waits for the record of a call.
func (s *stage) record(c *call, limit time.Duration) (r record) {
	s.t.Helper()
	eventually(s.t, limit, "a session record of "+c.id, func() bool {
		for lines := bufio.NewScanner(bytes.NewReader([]byte(s.proxy.log()))); lines.Scan(); {
			if json.Unmarshal(lines.Bytes(), &r) == nil && r.Outcome != "" && r.UniqueID == c.id {
				return true
			}
		}
		return false
	})
	return r
}

// A call is one that the scripted Asterisk makes.
type call struct {
	id     string
	start  time.Time
	result chan agisim.Result
	pull   context.CancelFunc // ends Asterisk's side for good
}

// hold is a command that lasts until another one comes, or for an hour.
const hold = "WAIT FOR DIGIT 3600000"

// call places a call that runs these commands.
func (s *stage) call(do ...string) *call { return s.callWith(nil, do...) }

// callWith is call with arguments for the script.
func (s *stage) callWith(args []string, do ...string) *call {
	s.t.Helper()
	agi, err := agisim.NewCall("agi://"+front+"/ivr?"+url.Values{"do": do}.Encode(), args...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.calls++
	agi.Environment.UniqueID = fmt.Sprintf("%s.%d", s.t.Name(), s.calls)
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	s.t.Cleanup(cancel)
	c := &call{id: agi.Environment.UniqueID, start: time.Now(), result: make(chan agisim.Result, 1), pull: cancel}
	go func() { c.result <- s.asterisk.Run(ctx, agi) }()
	return c
}

// wait returns what the dialplan saw, and how long after since that was.
func (s *stage) wait(c *call, since time.Time, limit time.Duration) (agisim.Result, time.Duration) {
	s.t.Helper()
	select {
	case r := <-c.result:
		took := time.Since(since)
		s.t.Logf("%s: AGISTATUS=%s AGIPROXYSTATUS=%s begun=%s served=%s, a call of %v",
			c.id, r.Status, r.ProxyStatus(), r.Variables["BEGUN"], r.Variables["SERVED"], r.Duration.Round(100*time.Millisecond))
		return r, took
	case <-time.After(limit - time.Since(since)):
		s.t.Fatalf("%s has not ended within %v", c.id, limit)
		return agisim.Result{}, 0
	}
}

// served waits for a call that must be served to its end, by that backend; "" is any.
func (s *stage) served(c *call, since time.Time, limit time.Duration, by string) {
	s.t.Helper()
	r, _ := s.wait(c, since, limit)
	if who := r.Variables["SERVED"]; !r.Served() || who == "" || by != "" && who != by {
		s.t.Errorf("%s: AGISTATUS=%s AGIPROXYSTATUS=%s served=%q error=%v; want SUCCESS, served by %q", c.id, r.Status, r.ProxyStatus(), who, r.Err, by)
	}
}

// failed waits for a call that must fail for that reason, which agiproxy records with
// that outcome.
func (s *stage) failed(c *call, since time.Time, limit time.Duration, status, outcome string) record {
	s.t.Helper()
	r, _ := s.wait(c, since, limit)
	if r.Status != agisim.Failure || r.ProxyStatus() != status {
		s.t.Errorf("%s: AGISTATUS=%s AGIPROXYSTATUS=%s error=%v; want FAILURE, %s", c.id, r.Status, r.ProxyStatus(), r.Err, status)
	}
	return s.recorded(c, slack, outcome)
}

// recorded waits for a call's record, which must have that outcome.
func (s *stage) recorded(c *call, limit time.Duration, outcome string) record {
	s.t.Helper()
	rec := s.record(c, limit)
	if rec.Outcome != outcome {
		s.t.Errorf("%s: outcome %s, %s; want %s", c.id, rec.Outcome, rec.Error, outcome)
	}
	return rec
}

// underWay waits until a backend's call has come to its command number n.
func (s *stage) underWay(b *backend, c *call, n int) {
	s.t.Helper()
	eventually(s.t, slack, fmt.Sprintf("%s is at its command %d on %s", c.id, n, b.name), func() bool {
		for _, session := range b.Calls() {
			if session.UniqueID == c.id && session.Begun && session.Commands == n-1 {
				return true
			}
		}
		return false
	})
	time.Sleep(200 * time.Millisecond) // for the command to get to Asterisk
}

// mustBeginOnce fails the test for each call whose script began more than once.
func (s *stage) mustBeginOnce() {
	s.t.Helper()
	began := make(map[string]int)
	for _, b := range s.backends {
		for _, session := range b.Calls() {
			if session.Begun {
				began[session.UniqueID]++
			}
		}
	}
	for id, n := range began {
		if n != 1 {
			s.t.Errorf("the script of %s began %d times; want once", id, n)
		}
	}
}
