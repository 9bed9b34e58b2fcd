package sim_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"agiproxy/internal/loop"
	"agiproxy/internal/sim"

	"golang.org/x/sys/unix"
)

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// A simWorld is a simulated network.
type simWorld struct {
	net   *sim.Net
	hosts uint16
	many  int
}

func newSimWorld(seed uint64, many int, o sim.Options) *simWorld {
	return &simWorld{net: sim.New(seed, o), many: many}
}

func (w *simWorld) address() netip.AddrPort {
	w.hosts++
	return netip.AddrPortFrom(loopback, w.hosts)
}

func (w *simWorld) listen(accept func(conn) sim.Handler) netip.AddrPort {
	to := w.address()
	w.net.Listen(to, func(c *sim.Conn) sim.Handler { return accept(c) })
	return to
}

func (w *simWorld) refusing() netip.AddrPort { return w.address() }

func (w *simWorld) silent() netip.AddrPort {
	to := w.address()
	w.net.Blackhole(to)
	return to
}

func (w *simWorld) connect(to netip.AddrPort, h sim.Handler) conn { return w.net.Connect(to, h) }
func (w *simWorld) now() time.Duration                            { return w.net.Now() }
func (w *simWorld) do(f func())                                   { f() }
func (w *simWorld) settle()                                       { w.net.Run(10 * time.Second) }
func (w *simWorld) large() int                                    { return w.many }

func (w *simWorld) until(cond func() bool) bool {
	for range 1_000_000 {
		if cond() {
			return true
		}
		if w.net.Run(100 * time.Microsecond) {
			return cond()
		}
	}
	return false
}

// A loopWorld is this machine's loopback, with one loop.
type loopWorld struct {
	t    *testing.T
	loop *loop.Loop
	ip   netip.Addr
}

func newLoopWorld(t *testing.T, ip netip.Addr) *loopWorld {
	l, err := loop.New(loop.Options{Engine: testEngine()})
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- l.Run() }()
	t.Cleanup(func() {
		l.Stop()
		if err := <-ran; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	return &loopWorld{t, l, ip}
}

func (w *loopWorld) listen(accept func(conn) sim.Handler) netip.AddrPort {
	ln, err := loop.Listen(w.t.Context(), netip.AddrPortFrom(w.ip, 0).String(), loop.ListenOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.do(func() {
		open := func(c *loop.Conn) loop.Handler {
			if h := accept(c); h != nil {
				return h
			}
			return nil
		}
		if err := w.loop.Accept(ln, open, func(err error) { w.t.Errorf("shed: %v", err) }); err != nil {
			w.t.Errorf("Accept() = %v", err)
		}
	})
	w.t.Cleanup(func() { // before the loop's
		w.do(func() { w.loop.Refuse(ln) })
		ln.Close()
	})
	return ln.Addr()
}

func (w *loopWorld) refusing() netip.AddrPort {
	// Bound and not listening: nobody else can take the port meanwhile.
	return w.bind(-1)
}

func (w *loopWorld) silent() netip.AddrPort {
	// A listener with one connection in its line and no room for another drops
	// what comes.
	to := w.bind(0)
	for range 2 {
		c, err := net.DialTimeout("tcp", to.String(), 100*time.Millisecond)
		if err != nil {
			return to
		}
		w.t.Cleanup(func() { c.Close() })
	}
	w.t.Fatalf("%v goes on answering", to)
	return to
}

// bind takes a port, and listens with that backlog if it isn't negative.
func (w *loopWorld) bind(backlog int) netip.AddrPort {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: loopback.As4()}); err != nil {
		w.t.Fatal(err)
	}
	if backlog >= 0 {
		if err := unix.Listen(fd, backlog); err != nil {
			w.t.Fatal(err)
		}
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		w.t.Fatal(err)
	}
	return netip.AddrPortFrom(loopback, uint16(sa.(*unix.SockaddrInet4).Port))
}

func (w *loopWorld) connect(to netip.AddrPort, h sim.Handler) conn { return w.loop.Connect(to, h) }
func (w *loopWorld) now() time.Duration                            { return w.loop.Now() }
func (w *loopWorld) settle()                                       { time.Sleep(20 * time.Millisecond) }
func (w *loopWorld) large() int                                    { return 8 << 20 }

func (w *loopWorld) do(f func()) {
	done := make(chan struct{})
	if err := w.loop.Do(func() { defer close(done); f() }); err != nil {
		w.t.Fatalf("Do() = %v", err)
	}
	<-done
}

func (w *loopWorld) until(cond func() bool) bool {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond / 2) {
		var met bool
		if w.do(func() { met = cond() }); met {
			return true
		}
	}
	return false
}
