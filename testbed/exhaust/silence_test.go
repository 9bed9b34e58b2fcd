//go:build linux

package exhaust

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// connect opens n connections, each of which says that first.
func connect(t *testing.T, address string, n int, first []byte) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, n)
	var workers sync.WaitGroup
	for w := range 20 {
		workers.Go(func() {
			for i := w; i < n; i += 20 {
				c, err := net.DialTimeout("tcp", address, 30*time.Second)
				if err == nil && len(first) > 0 {
					_, err = c.Write(first)
				}
				if err != nil {
					t.Errorf("connection %d: %v", i, err)
					return
				}
				conns[i] = c
			}
		})
	}
	t.Cleanup(func() { closeAll(conns) })
	workers.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return conns
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
}

// TestSilentConnections has ten thousand that connect and say nothing.
func TestSilentConnections(t *testing.T) {
	const n = 9900 // with the test's own, of the 20,000 descriptors of many machines
	p := startProgram(t, "auto", 0, "header_timeout: 5m, max_sessions: 15000", pool("good", goodServer(t)))
	p.slow(goodCall) // what the first calls need is there then
	before, own := p.rss(), p.descriptors()
	conns := connect(t, p.address, n, nil)
	within(t, 60*time.Second, "all are accepted", func() bool { return p.descriptors() >= own+n })
	p.wantMemory(before, n, 2<<10, "a session, its connection, and room for a header")
	p.wantIdle()
	p.wantUndisturbed(func(stop <-chan struct{}) { <-stop })
	closeAll(conns)
	within(t, 30*time.Second, "all descriptors are free again", func() bool { return p.descriptors() <= own+8 })
}

// TestSlowHeaders has two thousand that send their header byte by byte, and don't come
// to its end in time.
func TestSlowHeaders(t *testing.T) {
	const n = 2000
	p := startProgram(t, "auto", 0, "header_timeout: 12s", pool("good", goodServer(t)))
	p.slow(goodCall)
	before := p.rss()
	conns := connect(t, p.address, n, []byte("agi_network: yes\nagi_"))
	began := time.Now()
	p.wantUndisturbed(func(stop <-chan struct{}) {
		for {
			for i, c := range conns {
				_, _ = c.Write([]byte("x")) // when its time is over it fails
				if i%50 != 0 {
					continue
				}
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond): // 5,000 a second
				}
			}
		}
	})
	if time.Since(began) < 10*time.Second {
		p.wantMemory(before, n, 8<<10, "a session, its connection, and twice what has come of its header")
	}
	for i, c := range conns {
		c.SetReadDeadline(began.Add(40 * time.Second))
		// What was sent too late may make a reset of the end.
		if said, err := io.ReadAll(c); err != nil && len(said) == 0 && isTimeout(err) {
			t.Fatalf("connection %d is told %q, %v; want its end", i, said, err)
		}
	}
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}
