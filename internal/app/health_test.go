package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
)

// quick are health checks for tests that wait for them.
const quick = "health: {interval: 50ms, fast_interval: 20ms, timeout: 200ms, rise: 2, fall: 2}\n"

// state waits until a backend has that state.
func (p *program) state(name, want string) {
	p.t.Helper()
	b := p.backend(name)
	eventually(p.t, name+" is "+want, func() bool { return b.State().String() == want })
}

func TestSickBackendGetsNoCalls(t *testing.T) {
	one, two := startServer(t, "ivr1"), startServer(t, "ivr2")
	p := serve(t, file(quick, one.entry(""), two.entry("")))
	one.setSick(true)
	p.state("ivr1", "down")
	for range 10 {
		place(t, p.addr(0), "menu").wantServed("ivr2")
	}
	one.setSick(false)
	p.state("ivr1", "up")
	two.setSick(true)
	p.state("ivr2", "down")
	place(t, p.addr(0), "menu").wantServed("ivr1")
	if status, _ := p.get("/-/ready"); status != 200 {
		t.Errorf("/-/ready with one of two backends: %d; want 200", status)
	}
	one.setSick(true)
	p.state("ivr1", "down")
	if status, why := p.get("/-/ready"); status != 503 || !strings.Contains(why, "pool ivr: no backend can serve") {
		t.Errorf("/-/ready without a backend: %d %q; want 503 and the pool", status, why)
	}
}

// Another agiproxy none of whose backends can serve is as good as down: the calls go
// elsewhere, and whoever asks is told.
func TestAgiproxyWithoutBackendsIsDown(t *testing.T) {
	far := startServer(t, "far")
	behind := serve(t, file(quick+"panic_threshold: 0\n", far.entry("")))
	p := serve(t, file(quick+"panic_threshold: 0\n", fmt.Sprintf("{name: site-b, address: %q}", behind.addr(0))))
	p.state("site-b", "up")
	place(t, p.addr(0), "menu").wantServed("far")
	far.setSick(true)
	p.state("site-b", "down")
	if status, _ := p.get("/-/ready"); status != 503 {
		t.Errorf("/-/ready: %d; want 503", status)
	}
	far.setSick(false)
	p.state("site-b", "up")
}

// What becomes of the calls on a backend whose probes fail is on_down's choice.
func TestOnDown(t *testing.T) {
	for _, on := range []string{"keep", "lose"} {
		t.Run(on, func(t *testing.T) {
			s := startServer(t, "ivr1")
			settings := strings.Replace(quick, "}", ", on_down: "+on+"}", 1)
			p := serve(t, file(settings+"panic_threshold: 0\n", s.entry("")))
			held, inCommand := hold(t, p.addr(0), "hold", s), hold(t, p.addr(0), "exec", s)
			s.setSick(true)
			p.state("ivr1", "down")
			if on == "lose" {
				held.wantFailure("BACKENDLOST")
				inCommand.wantFailure("BACKENDLOST")
				p.wantOutcomes(map[string]uint64{"lost": 2})
				return
			}
			place(t, p.addr(0), "menu").wantFailure("NOBACKEND")
			if !held.running() || !inCommand.running() {
				t.Error("calls on a backend that is down have ended; want them kept")
			}
			s.release()
			held.wantServed("ivr1")
		})
	}
}

// A limited server serves so many at a time and lets the others wait in the
// listener's line, unaccepted, as a pre-forking one does.
type limited struct {
	*server
	ln    net.Listener
	hands chan struct{}
}

func startLimited(t *testing.T, name string, hands int) *limited {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &limited{startServer(t, name), ln, make(chan struct{}, hands)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			l.hands <- struct{}{}
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				l.relay(c)
				<-l.hands
			}()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		l.release()
		<-done
	})
	return l
}

// relay has the unlimited server do the work.
func (l *limited) relay(c net.Conn) {
	defer c.Close()
	b, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return
	}
	defer b.Close()
	half := func(to, from net.Conn) {
		buf := make([]byte, 4096)
		for {
			n, err := from.Read(buf)
			if err != nil {
				to.(*net.TCPConn).CloseWrite()
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	back := make(chan struct{})
	go func() {
		half(b, c)
		close(back)
	}()
	half(c, b)
	<-back
}

func (l *limited) entry(more string) string {
	return fmt.Sprintf("{name: %s, address: %q%s}", l.name, l.ln.Addr(), more)
}

// A server whose hands are all full is busy: it is the last resort, and loses
// none of its calls.
func TestFullServerIsBusy(t *testing.T) {
	full := startLimited(t, "full", 3)
	other := startServer(t, "other")
	p := serve(t, file(quick, full.entry(""), other.entry(", backup: true")))
	var calls []*caller
	for range 3 {
		calls = append(calls, hold(t, p.addr(0), "hold", full.server))
	}
	p.state("full", "busy")
	p.wantSeries(1, "agiproxy_backend_state", "full", "ivr", "busy")
	p.wantSeries(1, "agiproxy_backend_up", "full", "ivr")
	for range 5 { // not even the busy primary is preferred to a backup
		place(t, p.addr(0), "menu").wantServed("other")
	}
	other.setSick(true)
	p.state("other", "down")
	waits := place(t, p.addr(0), "menu") // the last resort: it stands in line
	eventually(t, "a call in line", func() bool { return p.backend("full").Sessions() == 4 })
	if status, _ := p.get("/-/ready"); status != 200 {
		t.Errorf("/-/ready with a busy backend: %d; want 200", status)
	}
	full.release()
	for _, c := range append(calls, waits) {
		c.wantServed("full")
	}
	p.state("full", "up")
	p.wantOutcomes(map[string]uint64{"completed": 9})
	if n := p.log.count("state=down"); n != 1 {
		t.Errorf("backends were declared down %d times; want only other to be", n)
	}
}

// A backend has the address that its name was found to have, and is probed
// there, whatever the system's resolver would say.
func TestBackendByName(t *testing.T) {
	s := startServer(t, "ivr1")
	var known atomic.Bool
	lookup := func(_ context.Context, _, host string) ([]netip.Addr, error) {
		if !known.Load() || host != "ivr1.example.invalid" {
			return nil, errors.New("no such host")
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	for _, probe := range []string{"agi", "tcp"} {
		t.Run(probe, func(t *testing.T) {
			known.Store(probe == "tcp")
			settings := strings.Replace(quick, "{", "{probe: "+probe+", ", 1)
			address := fmt.Sprintf(`{name: ivr1, address: "ivr1.example.invalid:%d"}`, s.Addr().Port())
			p := serve(t, file(settings, address), func(o *Options) { o.Lookup = lookup })
			if !known.Load() {
				p.log.want("name has no address")
				place(t, p.addr(0), "menu").wantFailure("NOBACKEND")
				eventually(t, "a probe without an address", func() bool {
					n, _ := p.series("agiproxy_probe_failures_total", "ivr1", "ivr", "unreachable")
					return n > 0
				})
				known.Store(true)
			}
			p.state("ivr1", "up")
			place(t, p.addr(0), "menu").wantServed("ivr1")
		})
	}
}

// localhost has two addresses nearly everywhere, and most servers listen on one.
func TestBackendOnLocalhost(t *testing.T) {
	s := startServer(t, "ivr1")
	p := serve(t, file(quick, fmt.Sprintf(`{name: ivr1, address: "localhost:%d"}`, s.Addr().Port())))
	for range 5 {
		place(t, p.addr(0), "menu").wantServed("ivr1")
	}
	eventually(t, "a probe's answer", func() bool {
		n, _ := p.series("agiproxy_probe_duration_seconds", "ivr1", "ivr")
		return n > 0
	})
	if n := p.log.count("state=down"); n > 0 {
		t.Error("ivr1 on localhost was declared down")
	}
}
