package health

import (
	"context"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A prefork is a server as Net::Server::PreFork is one: so many children, each
// with one connection at a time; further ones wait in the accept queue.
type prefork struct {
	address string
	served  atomic.Int32 // connections that a child has accepted
}

func startPrefork(t *testing.T, children int) *prefork {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &prefork{address: ln.Addr().String()}
	var wg sync.WaitGroup
	for range children {
		wg.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				s.served.Add(1)
				readHeader(c)
				io.WriteString(c, "WAIT FOR DIGIT -1\n")
				io.Copy(io.Discard, c) // to the caller's end
				c.Close()
			}
		})
	}
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return s
}

// call occupies a child until hangUp.
func (s *prefork) call(t *testing.T) (hangUp func()) {
	t.Helper()
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	io.WriteString(c, "agi_network: yes\n\n")
	c.Read(make([]byte, 100)) // the child has it
	return func() { c.Close() }
}

func (f *fakeTarget) has(what ...string) func() bool {
	return func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return slices.Equal(f.told, what)
	}
}

func TestAFullServerIsBusyAndOnlyOneProbeWaits(t *testing.T) {
	server := startPrefork(t, 3)
	var hangUps []func()
	for range 3 {
		hangUps = append(hangUps, server.call(t))
	}
	target := new(fakeTarget)
	target.progressing.Store(true)
	var probes atomic.Int32
	probe := AGI(AGIOptions{Address: server.address})
	c := &Checker{
		Probe: func(ctx context.Context, report func(Stage)) error {
			probes.Add(1)
			return probe(ctx, report)
		},
		Target: target, Up: true, Fresh: true,
		Interval: 100 * time.Millisecond, FastInterval: 20 * time.Millisecond, Timeout: 50 * time.Millisecond,
	}
	stop := start(t, c)
	if !settle(target.has("busy")) {
		t.Fatalf("the full server: target was told %q; want busy", target.told)
	}
	time.Sleep(500 * time.Millisecond) // ten timeouts
	if n := probes.Load(); n != 1 {
		t.Errorf("%d probes in the server's line; want 1", n)
	}
	hangUps[0]()
	if !settle(target.has("busy", "not busy")) {
		t.Errorf("a child is free: target was told %q; want busy, not busy", target.told)
	}
	if !settle(func() bool { return probes.Load() > 3 }) {
		t.Errorf("%d probes after the first was served; want the schedule to go on", probes.Load())
	}
	stop()
	if n, want := server.served.Load(), 3+probes.Load(); n > want {
		t.Errorf("the server had %d connections; want at most %d: three calls and the probes", n, want)
	}
	target.expect(t, "in the end", "busy", "not busy")
}

func TestAFullServerWithoutProgressIsDown(t *testing.T) {
	server := startPrefork(t, 2)
	for range 2 {
		server.call(t)
	}
	target := new(fakeTarget)
	target.progressing.Store(true)
	c := &Checker{
		Probe: AGI(AGIOptions{Address: server.address}), Target: target, Up: true,
		Interval: 100 * time.Millisecond, FastInterval: 20 * time.Millisecond, Timeout: 50 * time.Millisecond,
		Metrics: NewMetrics(nil).Backend("ivr", "ivr1"),
	}
	stop := start(t, c)
	if !settle(target.has("busy")) {
		t.Fatalf("the full server: target was told %q; want busy", target.told)
	}
	target.progressing.Store(false)
	if !settle(target.has("busy", "not busy", "not up")) {
		t.Errorf("no progress: target was told %q; want busy, not busy, not up", target.told)
	}
	stop()
	if n := value(t, c.Metrics.failures[Silent]); n < 3 {
		t.Errorf("%v silent probes; want 3 at least: that is fall", n)
	}
}
