//go:build linux

package load

import (
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"
)

// generator returns one that the test's goroutine owns.
func generator(t *testing.T) *Generator {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	g, err := New(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

func plans() map[string]Plan {
	return map[string]Plan{
		"setup":              {Mode: Setup, Sessions: 20, To: 3},
		"setup, split":       {Mode: Setup, Sessions: 20, To: 3, Split: true, Goodbye: true},
		"setup, one command": {Mode: Setup, Sessions: 1, To: 1},
		"saturated":          {Mode: Saturated, Sessions: 30, Beside: 10},
		"open":               {Mode: Open, Sessions: 30, Rate: 2000},
		"idle":               {Mode: Idle, Sessions: 300},
		"churn":              {Mode: Churn, Sessions: 500, From: 1, To: 10, Rate: 300, Hangups: 0.5, Think: 2 * time.Millisecond, Goodbye: true},
	}
}

func TestEveryModeEndsAllItsSessions(t *testing.T) {
	g := generator(t)
	for name, p := range plans() {
		p.Target = g.Servers(1)[0]
		p.Warmup, p.Duration = 20*time.Millisecond, 200*time.Millisecond
		r, err := g.Run(p)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := r.Err(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if p.Mode != Idle && r.Commands == 0 || r.Total == 0 {
			t.Errorf("%s: %d commands, %d sessions in all; want some of each", name, r.Commands, r.Total)
		}
		if g.live != 0 || len(g.free) != maxSlots {
			t.Errorf("%s: %d sessions live, %d slots free; want 0 and all", name, g.live, len(g.free))
		}
	}
}

func TestCountEndsTheWindow(t *testing.T) {
	g := generator(t)
	r, err := g.Run(Plan{Target: g.Servers(1)[0], Mode: Setup, Sessions: 5, To: 2, Duration: time.Minute, Count: 50})
	if err != nil {
		t.Fatal(err)
	}
	if r.Sessions < 50 || r.Sessions > 60 || r.Err() != nil {
		t.Errorf("%d sessions, %v; want 50, and those that ended with the last", r.Sessions, r.Err())
	}
}

func TestPlanThatMakesNoSense(t *testing.T) {
	g := generator(t)
	for _, p := range []Plan{
		{Mode: "nonsense", Sessions: 1},
		{Mode: Idle},
		{Mode: Idle, Sessions: maxSlots, Beside: 1},
		{Mode: Open, Sessions: 1},
		{Mode: Setup, Sessions: 1},
	} {
		if _, err := g.Run(p); err == nil {
			t.Errorf("Run(%+v) made no error", p)
		}
	}
}

// TestFaultyProxiesAreFound runs through proxies that do one thing wrong.
func TestFaultyProxiesAreFound(t *testing.T) {
	g := generator(t)
	for _, c := range []struct {
		name string
		how  func(n int, p []byte) [][]byte // what becomes of the n'th read from a server
		want string
	}{
		{"doubled", func(n int, p []byte) [][]byte { return [][]byte{append(p, p...)} }, "wrong command"},
		{"altered", func(n int, p []byte) [][]byte { p[20] ^= 1; return [][]byte{p} }, "wrong command"},
		{"lost", func(n int, p []byte) [][]byte { return [][]byte{{}} }, "unfinished"},
		{"closed", func(n int, p []byte) [][]byte { return nil }, "server closed early"},
	} {
		t.Run(c.name, func(t *testing.T) {
			target := faulty(t, g.Servers(1)[0], func(n int, p []byte) [][]byte {
				if n < 3 {
					return [][]byte{p}
				}
				return c.how(n, p)
			})
			r, err := g.Run(Plan{Target: target, Mode: Setup, Sessions: 1, To: 4, Duration: 100 * time.Millisecond, Drain: 100 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if r.Errors[c.want] == 0 {
				t.Errorf("errors are %v; want some of %q", r.Errors, c.want)
			}
		})
	}
}

func TestCutLinesAreJoined(t *testing.T) {
	g := generator(t)
	target := faulty(t, g.Servers(1)[0], func(_ int, p []byte) [][]byte { return [][]byte{p[:5], p[5:]} })
	r, err := g.Run(Plan{Target: target, Mode: Setup, Sessions: 3, To: 4, Duration: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if r.Err() != nil || r.Sessions == 0 {
		t.Errorf("%d sessions, %v; want some, and no error", r.Sessions, r.Err())
	}
}

func TestCrossedSessionsAreFound(t *testing.T) {
	g := generator(t)
	var mu sync.Mutex
	var before []byte // an environment that has been there already
	target := relay(t, g.Servers(1)[0], func(p []byte) []byte {
		mu.Lock()
		defer mu.Unlock()
		if before == nil {
			before = append(before, p...)
		}
		return before
	})
	r, err := g.Run(Plan{Target: target, Mode: Setup, Sessions: 2, To: 1, Duration: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if r.Errors["environment"] == 0 {
		t.Errorf("errors are %v; want some of %q", r.Errors, "environment")
	}
}

// faulty is a proxy that has what comes from servers changed; an empty result
// closes the connection.
func faulty(t *testing.T, to netip.AddrPort, how func(n int, p []byte) [][]byte) netip.AddrPort {
	return proxy(t, to, func(front, back net.Conn) {
		go func() {
			io.Copy(back, front)
			back.(*net.TCPConn).CloseWrite()
		}()
		p := make([]byte, 4096)
		for n := 0; ; n++ {
			m, err := back.Read(p)
			if err != nil {
				return
			}
			parts := how(n, append([]byte(nil), p[:m]...))
			if len(parts) == 0 {
				return
			}
			for _, part := range parts {
				front.Write(part)
				time.Sleep(time.Millisecond)
			}
		}
	})
}

// relay is a proxy that has environments changed.
func relay(t *testing.T, to netip.AddrPort, how func([]byte) []byte) netip.AddrPort {
	return proxy(t, to, func(front, back net.Conn) {
		p := make([]byte, 4096)
		n, _ := front.Read(p)
		back.Write(how(p[:n]))
		go io.Copy(back, front)
		io.Copy(front, back)
	})
}

func proxy(t *testing.T, to netip.AddrPort, serve func(front, back net.Conn)) netip.AddrPort {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			front, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer front.Close()
				back, err := net.Dial("tcp4", to.String())
				if err != nil {
					return
				}
				defer back.Close()
				serve(front, back)
			}()
		}
	}()
	return netip.MustParseAddrPort(ln.Addr().String())
}
