package app

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"agiproxy/agi"
	"agiproxy/internal/agisim"
)

// A server is a FastAGI server whose scripts tell its name. The script "hold"
// then stays until release, without a command, and "exec" in a command.
type server struct {
	*agisim.Server
	name string
	gate chan struct{}
	once sync.Once

	mu     sync.Mutex
	begun  int  // scripts, probes apart
	held   int  // of these, at the gate
	probes int  // begun
	sick   bool // probes are told failure
}

func startServer(t *testing.T, name string) *server {
	t.Helper()
	return startServerAt(t, name, "127.0.0.1:0")
}

func startServerAt(t *testing.T, name, address string) *server {
	t.Helper()
	s := &server{name: name, gate: make(chan struct{})}
	var err error
	if s.Server, err = agisim.Listen(address, s.script); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.release()
		s.Kill()
	})
	return s
}

func (s *server) script(session *agisim.Session) {
	h, err := session.Header()
	if err != nil {
		return
	}
	if string(h.Script()) == "agiproxy-probe" {
		s.probe(session)
		return
	}
	s.count(&s.begun, 1)
	if _, err := session.Command("SET VARIABLE SERVED_BY " + s.name); err != nil {
		return
	}
	switch string(h.Script()) {
	case "hold":
		s.count(&s.held, 1)
		<-s.gate
		s.count(&s.held, -1)
		session.Command("NOOP still here")
	case "refused":
		session.Command("EXEC System\x00 x")
	case "exec":
		s.count(&s.held, 1)
		session.Command("WAIT FOR DIGIT 60000")
		s.count(&s.held, -1)
	}
	session.CloseWrite()
	session.AwaitClose()
}

func (s *server) probe(session *agisim.Session) {
	s.count(&s.probes, 1)
	s.mu.Lock()
	sick := s.sick
	s.mu.Unlock()
	if sick {
		session.Send("failure")
		return
	}
	session.Command("NOOP")
}

func (s *server) count(n *int, by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*n += by
}

func (s *server) read(n *int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *n
}

func (s *server) setSick(sick bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sick = sick
}

// release lets the held scripts, and those to come, go on to their end.
func (s *server) release() { s.once.Do(func() { close(s.gate) }) }

// entry is the server as a backend in a file; more is YAML such as ", weight: 2".
func (s *server) entry(more string) string {
	return fmt.Sprintf("{name: %s, address: %q%s}", s.name, s.Addr(), more)
}

// file is a configuration with one listener and one pool of these backends. The
// settings are the pool's, one a line.
func file(settings string, backends ...string) string {
	return fileOn(`"127.0.0.1:0"`, settings, backends...)
}

func fileOn(listeners, settings string, backends ...string) string {
	var b strings.Builder
	b.WriteString("listeners:\n")
	for l := range strings.FieldsSeq(listeners) {
		fmt.Fprintf(&b, "  - address: %s\n", l)
	}
	b.WriteString("admin: {address: \"127.0.0.1:0\"}\npools:\n  ivr:\n")
	for l := range strings.Lines(settings) {
		fmt.Fprintf(&b, "    %s\n", strings.TrimSpace(l))
	}
	fmt.Fprintf(&b, "    backends: [%s]\n", strings.Join(backends, ", "))
	return b.String()
}

// unprobed is for pools whose backends aren't probed.
const unprobed = "health: {probe: none}\n"

// A caller is a call under way.
type caller struct {
	t    *testing.T
	done chan agisim.Result
}

// place starts a call.
func place(t *testing.T, address, script string) *caller {
	c := &caller{t, make(chan agisim.Result, 1)}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	go func() {
		defer cancel()
		c.done <- new(agisim.Asterisk).Run(ctx, agisim.Call{Address: address, Environment: agi.Environment{Script: script}})
	}()
	return c
}

// result waits for the call's end.
func (c *caller) result() agisim.Result {
	r := <-c.done
	c.done <- r
	return r
}

func (c *caller) running() bool { return len(c.done) == 0 }

// wantServed checks that the call was served to its end by that server; "" is
// any.
func (c *caller) wantServed(by string) {
	c.t.Helper()
	r := c.result()
	if got := r.Variables["SERVED_BY"]; !r.Served() || got == "" || by != "" && got != by {
		c.t.Errorf("call: %s by %q (AGIPROXYSTATUS %q, %v); want it served by %q", r.Status, got, r.ProxyStatus(), r.Err, by)
	}
}

// wantFailure checks that the dialplan was told FAILURE and why.
func (c *caller) wantFailure(why string) {
	c.t.Helper()
	if r := c.result(); r.Status != agisim.Failure || r.ProxyStatus() != why {
		c.t.Errorf("call: AGISTATUS=%s AGIPROXYSTATUS=%q (%v); want FAILURE and %s", r.Status, r.ProxyStatus(), r.Err, why)
	}
}

// hold places a call and waits until one of the servers holds it.
func hold(t *testing.T, address, script string, on ...*server) *caller {
	t.Helper()
	all := func() (n int) {
		for _, s := range on {
			n += s.read(&s.held)
		}
		return n
	}
	before := all()
	c := place(t, address, script)
	eventually(t, "a held call", func() bool {
		if !c.running() {
			t.Fatalf("call that was to be held: %+v", c.result())
		}
		return all() > before
	})
	return c
}
