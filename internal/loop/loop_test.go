package loop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

func TestDoRunsInOrderFromManyGoroutines(t *testing.T) {
	l := startLoop(t)
	const givers, each = 8, 2000
	var next [givers]int // the loop's
	var wg sync.WaitGroup
	for g := range givers {
		wg.Go(func() {
			for i := range each {
				if err := l.Do(func() {
					if next[g] != i {
						t.Errorf("goroutine %d: function %d ran when %d was next", g, i, next[g])
					}
					next[g] = i + 1
				}); err != nil {
					t.Errorf("Do() = %v", err)
				}
			}
		})
	}
	wg.Wait()
	on(t, l, func() {
		for g, n := range next {
			if n != each {
				t.Errorf("goroutine %d: %d functions have run; want %d", g, n, each)
			}
		}
	})
}

// TestStopKeepsThePromiseOfDo has many goroutines give functions while others
// stop the loop: what was accepted without an error has run when Run returns.
func TestStopKeepsThePromiseOfDo(t *testing.T) {
	for range 50 {
		l, err := New(Options{Engine: testEngine()})
		if err != nil {
			t.Fatal(err)
		}
		var given, ran atomic.Int64
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for i := range 200 {
					if err := l.Do(func() { ran.Add(1) }); errors.Is(err, ErrStopped) {
						return
					} else if err != nil {
						t.Errorf("Do() = %v; want nil or ErrStopped", err)
					}
					given.Add(1)
					if i == 50+g {
						l.Stop()
					}
				}
			})
		}
		if err := l.Run(); err != nil {
			t.Errorf("Run() = %v", err)
		}
		wg.Wait()
		if given.Load() != ran.Load() {
			t.Fatalf("%d functions were given without an error, %d have run", given.Load(), ran.Load())
		}
		if err := l.Do(func() { t.Error("ran after the end") }); !errors.Is(err, ErrStopped) {
			t.Errorf("Do() after the end = %v; want ErrStopped", err)
		}
	}
}

// TestStopBeforeRun is how a loop is given up that was never needed.
func TestStopBeforeRun(t *testing.T) {
	l, err := New(Options{Engine: testEngine()})
	if err != nil {
		t.Fatal(err)
	}
	ran := false
	if err := l.Do(func() { ran = true }); err != nil {
		t.Fatal(err)
	}
	l.Stop()
	if err := l.Run(); err != nil || !ran {
		t.Errorf("Run() = %v, and what Do was given ran: %v; want nil and true", err, ran)
	}
}

// TestStopClosesWithoutAWord looks at the connections that a loop has when it
// ends, also at those that have not begun.
func TestStopClosesWithoutAWord(t *testing.T) {
	l, err := New(Options{Engine: testEngine()})
	if err != nil {
		t.Fatal(err)
	}
	ln := listen(t, "127.0.0.1:0")
	ran := make(chan error, 1)
	go func() { ran <- l.Run() }()
	opened := false
	serve(t, l, ln, func(*Conn) Handler {
		opened = true
		return &hooks{closed: func(err error) { t.Errorf("Closed(%v) at the end of the loop", err) }}
	})
	client := dial(t, ln.Addr())
	eventually(t, l, "the connection was accepted", func() bool { return opened })
	give := func(f func()) {
		if err := l.Do(f); err != nil {
			t.Errorf("Do() = %v", err)
		}
	}
	on(t, l, func() { // so that the loop finds what follows together
		give(func() {
			told := func(error) { t.Error("Closed of a connect at the end of the loop") }
			l.Connect(netip.MustParseAddrPort("127.0.0.1:1"), &hooks{closed: told})
			l.Connect(ln.Addr(), &hooks{closed: told})
		})
		l.Stop()
	})
	if err := <-ran; err != nil {
		t.Errorf("Run() = %v", err)
	}
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the peer reads %v; want an end", err)
	}
}

// TestStaleEvents has a connection's events come when it is closed already and
// its slot has another tenant: of two that have something to tell at the same
// time, the first closes the other and begins a new one.
func TestStaleEvents(t *testing.T) {
	l := startLoop(t)
	ln := listen(t, "127.0.0.1:0")
	silent := listen(t, "127.0.0.1:0") // connections to it wait in its line
	var conns [2]*Conn
	var fresh *Conn
	n, reused := 0, false
	serve(t, l, ln, func(c *Conn) Handler {
		mine := n
		conns[mine], n = c, n+1
		return &hooks{received: func([]byte) {
			other := conns[1-mine]
			slot := other.slot
			other.Close()
			fresh = l.Connect(silent.Addr(), &hooks{
				connected: func() {
					if l.Now() == fresh.timer.at {
						t.Error("Connected by an event that belongs to a closed connection")
					}
				},
				received: func(p []byte) { t.Errorf("Received(%q) that belongs to a closed connection", p) },
				closed:   func(err error) { t.Errorf("Closed(%v) that belongs to a closed connection", err) },
			})
			fresh.timer.at = l.Now() // this turn's
			reused = fresh.slot == slot
		}}
	})
	a, b := dial(t, ln.Addr()), dial(t, ln.Addr())
	eventually(t, l, "both were accepted", func() bool { return n == 2 })
	on(t, l, func() { // while the loop can't look
		for _, c := range []io.Writer{a, b} {
			if _, err := c.Write([]byte("x")); err != nil {
				t.Error(err)
			}
		}
	})
	eventually(t, l, "a slot was used again", func() bool { return reused })
	on(t, l, func() { fresh.Close() })
}

// TestManyConnections opens and closes thousands; TestMain looks at what is
// left of them.
func TestManyConnections(t *testing.T) {
	l := startLoop(t)
	ln := listen(t, "127.0.0.1:0")
	serve(t, l, ln, echo)
	const total, atATime = 5000, 200
	finished := make(chan error, atATime)
	begin := func() {
		var c *Conn
		c = l.Connect(ln.Addr(), &hooks{
			connected: func() { c.Write([]byte("hello")) },
			received:  func([]byte) { c.CloseWrite() },
			closed:    func(err error) { c.Close(); finished <- err },
		})
	}
	on(t, l, func() {
		for range atATime {
			begin()
		}
	})
	for i := range total {
		if err := <-finished; err != nil {
			t.Fatalf("connection %d: Closed(%v)", i, err)
		}
		if i < total-atATime {
			if err := l.Do(begin); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, l, "all slots but the listener's are free", func() bool { return len(l.slots)-len(l.free) == 1 })
	on(t, l, func() {
		if n := len(l.slots); n > 3*atATime {
			t.Errorf("%d slots for %d connections at a time, which have two ends each", n, atATime)
		}
		if len(l.timers) != 0 {
			t.Errorf("%d timers are left", len(l.timers))
		}
	})
}

// TestDataAndEndInOneEvent has the loop find bytes and the end together, with
// as many bytes as make it read once, more than once, and not at once.
func TestDataAndEndInOneEvent(t *testing.T) {
	for _, size := range []int{0, 1, readSize - 1, readSize, readSize + 1, readBurst * readSize, readBurst*readSize + 1, 8 * readSize} {
		l := startLoop(t)
		ln := listen(t, "127.0.0.1:0")
		var got []byte
		opened, ends := 0, 0
		serve(t, l, ln, func(c *Conn) Handler {
			opened++
			return &hooks{
				received: func(p []byte) {
					if ends > 0 {
						t.Errorf("%d bytes: %d more after the end", size, len(p))
					}
					got = append(got, p...)
				},
				closed: func(err error) {
					if err != nil {
						t.Errorf("%d bytes: Closed(%v); want nil", size, err)
					}
					ends++
				},
			}
		})
		c := dial(t, ln.Addr())
		eventually(t, l, "it was accepted", func() bool { return opened == 1 })
		want := bytes.Repeat([]byte("x"), size)
		sent := make(chan error, 1)
		on(t, l, func() {
			go func() {
				_, err := c.Write(want)
				sent <- errors.Join(err, c.CloseWrite())
			}()
			if size <= readBurst*readSize { // which the kernel takes at once
				if err := <-sent; err != nil {
					t.Error(err)
				}
			}
		})
		eventually(t, l, "the end was told", func() bool { return ends > 0 })
		on(t, l, func() {})
		on(t, l, func() {
			if len(got) != size || ends != 1 {
				t.Errorf("%d bytes and an end at once: %d bytes and %d ends were told", size, len(got), ends)
			}
		})
	}
}

// TestEndIsToldOnce has an event tell of the end, and the read that was put off
// before find it again.
func TestEndIsToldOnce(t *testing.T) {
	l := startLoop(t)
	ln := listen(t, "127.0.0.1:0")
	var told []string
	var conn *Conn
	serve(t, l, ln, func(c *Conn) Handler {
		conn = c
		return &hooks{
			received: func(p []byte) { told = append(told, string(p)) },
			closed:   func(err error) { told = append(told, fmt.Sprint(err)) },
		}
	})
	c := dial(t, ln.Addr())
	eventually(t, l, "it was accepted", func() bool { return conn != nil })
	on(t, l, func() {
		_, err := c.Write([]byte("x"))
		if err = errors.Join(err, c.CloseWrite()); err != nil {
			t.Error(err)
		}
		conn.schedule()
	})
	eventually(t, l, "the end was told", func() bool { return len(told) > 1 })
	on(t, l, func() {
		if !slices.Equal(told, []string{"x", "<nil>"}) {
			t.Errorf("told %q; want x and one end", told)
		}
	})
}

// TestConnectFails tells of what no connection can be made for.
func TestConnectFails(t *testing.T) {
	l := startLoop(t)
	told := make(chan error, 1)
	on(t, l, func() {
		// A broadcast address is refused by connect itself.
		l.Connect(netip.MustParseAddrPort("255.255.255.255:1"), &hooks{closed: func(err error) { told <- err }})
		select {
		case err := <-told:
			t.Errorf("Connect has called Closed(%v)", err)
		default:
		}
	})
	if err := <-told; !errors.As(err, new(syscall.Errno)) {
		t.Errorf("Closed(%v); want the kernel's error", err)
	}
}

// TestListenersAddress looks at what IPv4 callers of an IPv6 socket are called.
func TestListenersAddress(t *testing.T) {
	l := startLoop(t)
	ln := listen(t, ":0")
	from := make(chan netip.AddrPort, 1)
	serve(t, l, ln, func(c *Conn) Handler { from <- c.RemoteAddr(); return nil })
	for _, ip := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
		c := dial(t, netip.AddrPortFrom(ip, ln.Addr().Port()))
		want := c.LocalAddr().String()
		if got := (<-from).String(); got != want {
			t.Errorf("RemoteAddr() = %s; want %s", got, want)
		}
	}
}

// TestListenFails has Listen leave nothing behind.
func TestListenFails(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	before := openDescriptors()
	if second, err := Listen(t.Context(), ln.Addr().String(), ListenOptions{}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Listen() on a taken port = %v, %v; want %v", second, err, syscall.EADDRINUSE)
	}
	if after := openDescriptors(); after > before {
		t.Errorf("%d descriptors after Listen has failed; want %d", after, before)
	}
}
