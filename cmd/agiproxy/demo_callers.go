package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"agiproxy/internal/agisim"
)

// callers are the demo's simulated callers.
type callers struct {
	pace    tempo
	address string // of the proxy
	board   *board
	gate    *gate
}

// run is one caller, who calls again and again as long as arrivals lasts. When
// ctx ends, the call that is under way is broken off and counts for nothing.
func (c *callers) run(ctx, arrivals context.Context, n int) {
	for i := 1; ; i++ {
		if !sleep(arrivals, rand.N(c.pace.pause+1)) || !c.gate.pass(arrivals) {
			return
		}
		c.board.count(func(t *totals) { t.underWay++ })
		asterisk := agisim.Asterisk{Prompt: c.pace.prompt + rand.N(c.pace.spread+1)}
		result := asterisk.Run(ctx, c.call(n, i))
		if ctx.Err() != nil {
			return
		}
		c.ended(failure(result))
	}
}

// ended counts a call; why says how it failed, or is "".
func (c *callers) ended(why string) {
	c.board.count(func(t *totals) {
		t.underWay--
		if why == "" {
			t.served++
		} else {
			t.failed++
		}
	})
	if why != "" {
		c.board.event("a call failed: %s", why)
	}
}

// call is a caller's i-th call.
func (c *callers) call(n, i int) agisim.Call {
	call := agisim.Call{Address: c.address}
	env := &call.Environment
	env.Script = "welcome"
	env.Channel = fmt.Sprintf("Local/108@demo-%04x%04x;2", n+1, i)
	env.UniqueID = fmt.Sprintf("%d.%d", time.Now().Unix(), n+1)
	env.CallerID = fmt.Sprintf("555%04d", n+1)
	env.Context, env.Extension = "demo", "108"
	return call
}

// failure says why a call was not served, or "" if it was.
func failure(r agisim.Result) string {
	switch why := unserved(r); {
	case why != "":
		return fmt.Sprintf("AGISTATUS=%s AGIPROXYSTATUS=%s: %s", r.Status, r.ProxyStatus(), why)
	case r.Variables[servedBy] == "":
		return "no server left its name"
	}
	return ""
}

// A gate holds callers back while it is shut.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // closed: open
}

// newGate returns an open gate.
func newGate() *gate {
	g := &gate{open: make(chan struct{})}
	close(g.open)
	return g
}

// Shut and Open take turns.
func (g *gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

func (g *gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
}

// pass waits until the gate is open, and reports whether that came before the
// end of ctx.
func (g *gate) pass(ctx context.Context) bool {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// sleep reports whether d passed before the end of ctx.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// reach is where a listener can be reached, from host where it has no address of
// its own.
func reach(addr netip.AddrPort, host string) string {
	if !addr.Addr().IsUnspecified() {
		return addr.String()
	}
	return net.JoinHostPort(host, fmt.Sprint(addr.Port()))
}

// ownHost is this machine's address as others see it, as far as that can be
// told.
func ownHost() string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "127.0.0.1"
	}
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Is4() && prefix.Addr().IsGlobalUnicast() {
			return prefix.Addr().String()
		}
	}
	return "127.0.0.1"
}
