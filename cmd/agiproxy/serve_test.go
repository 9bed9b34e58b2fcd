package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"agiproxy/config"
	"agiproxy/internal/agisim"
	"agiproxy/internal/app"
)

// A served is a proxy in front of one backend, run by obeySignals.
type served struct {
	app     *app.App
	signals chan os.Signal
	ended   chan error
	log     *journal
}

// A journal is a log that can be read while it is written.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func start(t *testing.T, file string) *served {
	t.Helper()
	load := func() (*config.Config, error) { return config.Load(file) }
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	log := new(journal)
	a, err := app.New(app.Options{Config: cfg, Reload: load, Log: hclog.New(&hclog.LoggerOptions{Output: log})})
	if err != nil {
		t.Fatal(err)
	}
	s := &served{a, make(chan os.Signal, 2), make(chan error, 1), log}
	go func() { s.ended <- obeySignals(a, s.signals, hclog.NewNullLogger()) }()
	return s
}

// end waits for the end, and returns what it was.
func (s *served) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("the proxy still runs after 10s")
		return nil
	}
}

// one is a configuration with one backend, which isn't probed.
func one(name string, s *agisim.Server) string {
	return fmt.Sprintf(`
listeners: [{address: "127.0.0.1:0"}]
pools:
  ivr:
    health: {probe: none}
    backends: [{name: %s, address: %q}]
admin: {address: ""}
`, name, s.Addr())
}

// within waits for something that is about to come true.
func within(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

func TestSignals(t *testing.T) {
	for _, test := range []struct {
		name    string
		signals []os.Signal
		release bool // the call goes on to its end
		want    string
	}{
		{"TERM drains", []os.Signal{syscall.SIGTERM}, true, ""},
		{"INT drains", []os.Signal{os.Interrupt}, true, ""},
		{"the second ends it now", []os.Signal{os.Interrupt, syscall.SIGTERM}, false, "serve: stopped before the sessions under way had ended"},
	} {
		t.Run(test.name, func(t *testing.T) {
			released := make(chan struct{})
			release := sync.OnceFunc(func() { close(released) })
			s := backend(t, func(s *agisim.Session) {
				s.Command("NOOP")
				<-released
				s.Command("SET VARIABLE LAST word")
			})
			defer release()
			p := start(t, write(t, "one.yaml", one("ivr1", s)))
			address := p.app.Addr().String()
			called := make(chan agisim.Result, 1)
			go func() {
				var a agisim.Asterisk
				called <- a.Run(t.Context(), agisim.Call{Address: address})
			}()
			within(t, 5*time.Second, "a session", func() bool { return s.Sessions() == 1 })
			p.signals <- test.signals[0]
			within(t, 5*time.Second, "new calls are refused", func() bool {
				conn, err := net.Dial("tcp", address)
				if err == nil {
					conn.Close()
				}
				return err != nil
			})
			for _, more := range test.signals[1:] {
				p.signals <- more
			}
			if test.release {
				select {
				case err := <-p.ended:
					t.Fatalf("ended with a call under way, error %v", err)
				case <-time.After(100 * time.Millisecond):
				}
				release()
			}
			got := ""
			if err := p.end(t); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("ended with error %q; want %q", got, test.want)
			}
			if result := <-called; (result.Variables["LAST"] == "word") != test.release {
				t.Errorf("the call ended as %+v; want it to end by itself: %v", result, test.release)
			}
		})
	}
}

func TestHangupSignalReloads(t *testing.T) {
	s := backend(t, func(s *agisim.Session) { s.Header() })
	file := write(t, "one.yaml", one("ivr1", s))
	p := start(t, file)
	name := func() string { return p.app.Status().Pools[0].Backends[0].Name }

	if err := os.WriteFile(file, []byte(one("ivr2", s)), 0o600); err != nil {
		t.Fatal(err)
	}
	p.signals <- syscall.SIGHUP
	within(t, 5*time.Second, "the new name", func() bool { return name() == "ivr2" })

	if err := os.WriteFile(file, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.signals <- syscall.SIGHUP
	p.signals <- syscall.SIGTERM // behind it
	if err := p.end(t); err != nil || name() != "ivr2" {
		t.Errorf("after a bad file: backend %s, error %v; want ivr2 still, and a clean end", name(), err)
	}
}

func TestServeSaysWhyItCanNotListen(t *testing.T) {
	s := backend(t, func(*agisim.Session) {})
	var stdout, stderr strings.Builder
	args := []string{"serve", "--backend", "127.0.0.1:1", "--listen", s.Addr().String(), "--admin", ""}
	if code := run(args, &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), s.Addr().String()) || !strings.Contains(stderr.String(), "address already in use\n") {
		t.Errorf("exit code %d, standard error %q; want 1, and that %s is in use", code, stderr.String(), s.Addr())
	}
}
