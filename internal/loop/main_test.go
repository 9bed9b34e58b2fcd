package loop

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"
)

// TestMain gives each loop a processor of its own, since it keeps it while it
// waits, and fails if anything is left open when all tests are done.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(max(8, runtime.GOMAXPROCS(0)))
	if l, err := New(Options{Engine: testEngine()}); err != nil {
		fmt.Println("skipped:", err)
		return
	} else {
		l.Stop()
		l.Run() // which closes it, being stopped
	}
	// The runtime opens descriptors of its own with the first socket.
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		ln.Close()
	}
	descriptors, goroutines := openDescriptors(), runtime.NumGoroutine()
	code := m.Run()
	if code == 0 && !settled(descriptors, goroutines) {
		fmt.Fprintf(os.Stderr, "at the end %d descriptors and %d goroutines are there; want the %d and %d of the beginning\n",
			openDescriptors(), runtime.NumGoroutine(), descriptors, goroutines)
		code = 1
	}
	os.Exit(code)
}

// settled waits until no more descriptors and goroutines are there than that.
func settled(descriptors, goroutines int) bool {
	for range 200 {
		if openDescriptors() <= descriptors && runtime.NumGoroutine() <= goroutines {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// openDescriptors counts this process's descriptors.
func openDescriptors() int {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return 0 // nothing to compare, then
	}
	return len(entries)
}

// testEngine is how the tests' loops work.
func testEngine() Engine { return cmp.Or(Engine(os.Getenv("LOOP_TEST_ENGINE")), Epoll) }

// startLoop runs a loop until the test is over.
func startLoop(t testing.TB) *Loop {
	t.Helper()
	l, err := New(Options{Engine: testEngine()})
	if err != nil {
		t.Fatal(err)
	}
	run(t, l)
	return l
}

// run runs l until the test is over.
func run(t testing.TB, l *Loop) {
	t.Helper()
	ran := make(chan error, 1)
	go func() { ran <- l.Run() }()
	t.Cleanup(func() {
		l.Stop()
		if err := <-ran; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
}

// on runs f on the loop and waits for it.
func on(t testing.TB, l *Loop, f func()) {
	t.Helper()
	done := make(chan struct{})
	if err := l.Do(func() { defer close(done); f() }); err != nil {
		t.Fatalf("Do() = %v", err)
	}
	<-done
}

// listen opens a listener until the test is over.
func listen(t testing.TB, address string) *Listener {
	t.Helper()
	ln, err := Listen(t.Context(), address, ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ln.Close)
	return ln
}

// serve has l accept from ln until the test is over.
func serve(t testing.TB, l *Loop, ln *Listener, open func(*Conn) Handler) {
	t.Helper()
	on(t, l, func() {
		if err := l.Accept(ln, open, func(err error) { t.Errorf("shed: %v", err) }); err != nil {
			t.Errorf("Accept() = %v", err)
		}
	})
	t.Cleanup(func() {
		done := make(chan struct{})
		if l.Do(func() { l.Refuse(ln); close(done) }) == nil {
			<-done
		}
	})
}

// dial connects as a program without a loop does.
func dial(t testing.TB, to netip.AddrPort) *net.TCPConn {
	t.Helper()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// eventually waits until cond, which is called on the loop, is true.
func eventually(t testing.TB, l *Loop, what string, cond func() bool) {
	t.Helper()
	for range 5000 {
		var met bool
		if on(t, l, func() { met = cond() }); met {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Fatalf("waited in vain until %s", what)
}

// hooks is a handler of functions; those that are nil do nothing.
type hooks struct {
	connected func()
	received  func(p []byte)
	drained   func()
	closed    func(err error)
	timedOut  func()
}

func (h *hooks) Connected() { call(h.connected) }
func (h *hooks) Drained()   { call(h.drained) }
func (h *hooks) TimedOut()  { call(h.timedOut) }

func (h *hooks) Received(p []byte) {
	if h.received != nil {
		h.received(p)
	}
}

func (h *hooks) Closed(err error) {
	if h.closed != nil {
		h.closed(err)
	}
}

func call(f func()) {
	if f != nil {
		f()
	}
}

// echo sends back what comes, and closes when its peer does.
func echo(c *Conn) Handler {
	return &hooks{
		received: func(p []byte) { c.Write(p) },
		closed:   func(error) { c.Close() },
	}
}
