package browser

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"text/template"
	"time"

	"agiproxy/agi"
	"agiproxy/internal/agisim"
)

// A stage is an agiproxy with servers and callers, as a page can show it.
type stage struct {
	binary, config, admin, listen string
	prompt                        time.Duration // that a caller hears several of

	process *exec.Cmd
	log     bytes.Buffer
	servers map[string]*server
}

// A server is a FastAGI server that can die and come back.
type server struct {
	*agisim.Server
	address string
	first   time.Duration // to its first command, as far as it can be told
}

var settings = template.Must(template.New("").Parse(`
listeners: [{address: "{{.Listen}}"}]
admin: {address: "{{.Admin}}"}
drain_timeout: 1s
log: {level: error}
pools:
  ivr:
    balance: least-connections
    ejection: {time: 1s}
    health: {interval: 1s, fast_interval: 200ms, timeout: 1s, rise: 1, fall: 2}
    backends:
      - {name: ivr1, address: "{{.ivr1}}", weight: 2}
      - {name: ivr2, address: "{{.ivr2}}"}
      - {name: ivr3, address: "{{.ivr3}}"}
      - {name: spare, address: "{{.spare}}", backup: true}
  billing:
    balance: round-robin
    health: {interval: 1s, fast_interval: 200ms, timeout: 1s, rise: 1, fall: 2}
    queue: {timeout: 20s, limit: 50}
    ejection: {time: 1s}
    backends:
      - {name: bill1, address: "{{.bill1}}", max_sessions: 16}
      - {name: bill2, address: "{{.bill2}}", max_sessions: 16}
routes:
  - match: {script: "billing/*"}
    pool: billing
  - pool: ivr
`))

// newStage starts everything but the callers, and ends it with the test.
func newStage(t *testing.T) *stage {
	t.Helper()
	dir := t.TempDir()
	s := &stage{binary: os.Getenv("AGIPROXY_BINARY"), config: filepath.Join(dir, "agiproxy.yaml"), prompt: 200 * time.Millisecond, servers: make(map[string]*server)}
	s.admin, s.listen = freeAddress(t), freeAddress(t)
	values := map[string]string{"Admin": s.admin, "Listen": s.listen}
	for i, name := range []string{"ivr1", "ivr2", "ivr3", "spare", "bill1", "bill2"} {
		// Each has an address of its own, as machines have.
		v := &server{address: fmt.Sprintf("127.0.0.%d:0", 11+i), first: time.Duration(i+1) * 3 * time.Millisecond}
		s.servers[name] = v
		v.start(t)
		v.address = v.Addr().String()
		values[name] = v.address
		t.Cleanup(v.Kill)
	}
	var text bytes.Buffer
	if err := settings.Execute(&text, values); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.config, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	t.Cleanup(func() { s.end(t) })
	return s
}

// freeAddress is one that agiproxy can have again after it was ended.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// start starts agiproxy, and waits until all backends were found to be up.
func (s *stage) start(t *testing.T) {
	t.Helper()
	s.process = exec.Command(s.binary, "serve", "--config", filepath.Base(s.config))
	s.process.Dir = filepath.Dir(s.config)
	s.process.Stdout, s.process.Stderr = &s.log, &s.log
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if r, err := http.Get("http://" + s.admin + "/-/ready"); err == nil {
			_, _ = io.Copy(io.Discard, r.Body)
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("agiproxy isn't ready:\n%s", &s.log)
}

// end ends agiproxy, even if a test has made it stand still.
func (s *stage) end(t *testing.T) {
	_ = s.process.Process.Signal(syscall.SIGCONT)
	_ = s.process.Process.Signal(syscall.SIGTERM)
	if err := s.process.Wait(); err != nil && t.Failed() {
		t.Logf("agiproxy: %v\n%s", err, &s.log)
	}
}

// start has the server listen, where it was before if it was.
func (v *server) start(t *testing.T) {
	t.Helper()
	var err error
	if v.Server, err = agisim.Listen(v.address, v.script); err != nil {
		t.Fatal(err)
	}
}

// script is a short menu.
func (v *server) script(s *agisim.Session) {
	h, err := s.Header()
	if err != nil || string(h.Script()) == "agiproxy-probe" {
		return
	}
	time.Sleep(v.first + rand.N(v.first))
	for range 3 + rand.IntN(6) {
		if _, err := s.Command("STREAM FILE menu 1234"); err != nil || s.HungUp() {
			return
		}
	}
}

// call makes callers call until they are stopped, or the test ends.
func (s *stage) call(t *testing.T, callers int) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var calling sync.WaitGroup
	for n := range callers {
		calling.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				s.one(ctx, fmt.Sprintf("PJSIP/trunk-%04x%04x", n, i), fmt.Sprintf("+49 30 5550%03d", n), scripts[rand.IntN(len(scripts))])
			}
		})
	}
	t.Cleanup(calling.Wait)
	t.Cleanup(cancel)
	return cancel
}

var scripts = []string{"menu", "menu", "menu", "queue/position", "billing/balance", "billing/topup"}

// one makes a call, whose prompts play for different times.
func (s *stage) one(ctx context.Context, channel, caller, script string) {
	a := agisim.Asterisk{Prompt: s.prompt/2 + rand.N(s.prompt)}
	hangup := make(chan struct{})
	leave := time.AfterFunc(time.Second+rand.N(20*time.Second), func() { close(hangup) })
	defer leave.Stop()
	a.Run(ctx, agisim.Call{Address: s.listen, Hangup: hangup, Environment: agi.Environment{
		Host: s.listen, Script: script, Channel: channel, CallerID: caller,
		UniqueID: fmt.Sprintf("%d.%d", time.Now().Unix(), rand.IntN(1e6)),
	}})
	select {
	case <-time.After(rand.N(400 * time.Millisecond)):
	case <-ctx.Done():
	}
}
