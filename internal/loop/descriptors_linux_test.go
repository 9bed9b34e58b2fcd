package loop

import (
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// aloneEnv is set where a test runs in a process of its own.
const aloneEnv = "LOOP_TEST_ALONE"

// alone runs the test again in a process of its own, and reports false there.
func alone(t *testing.T, wrap ...string) bool {
	t.Helper()
	if os.Getenv(aloneEnv) != "" {
		return false
	}
	args := append(wrap, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), aloneEnv+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in a process of its own: %v\n%s", err, out)
	}
	return true
}

// TestOutOfDescriptors runs a loop that has room for a few connections.
func TestOutOfDescriptors(t *testing.T) {
	if alone(t) {
		return
	}
	const room, clients = 10, 30
	l := startLoop(t)
	ln := listen(t, "127.0.0.1:0")
	ln.Farewell = []byte("failure\n")
	var accepted []*Conn
	shed := 0
	var reason error
	on(t, l, func() {
		open := func(c *Conn) Handler {
			accepted = append(accepted, c)
			return echo(c)
		}
		if err := l.Accept(ln, open, func(err error) { shed++; reason = err }); err != nil {
			t.Error(err)
		}
	})
	sockets := make([]int, clients+1) // opened as long as there are descriptors
	for i := range sockets {
		sockets[i] = socket(t)
	}
	limit(t, room)

	for _, fd := range sockets[:clients] {
		connectTo(t, fd, ln.Addr())
	}
	eventually(t, l, "the rest was shed", func() bool { return len(accepted)+shed == clients })
	on(t, l, func() {
		if len(accepted) != room || reason != syscall.EMFILE {
			t.Errorf("%d were accepted and %d shed with %v; want %d and %d with %v", len(accepted), shed, reason, room, clients-room, syscall.EMFILE)
		}
	})
	for _, fd := range sockets[room:clients] {
		buf := make([]byte, 100)
		if n, err := unix.Read(fd, buf); string(buf[:max(n, 0)]) != "failure\n" || err != nil {
			t.Errorf("a connection that was shed reads %q, %v; want the farewell", buf[:max(n, 0)], err)
		}
		if n, err := unix.Read(fd, buf); n != 0 || err != nil {
			t.Errorf("a connection that was shed reads %d, %v after the farewell; want an end", n, err)
		}
	}
	idle(t, l, "with all descriptors in use")

	told := make(chan error, 1)
	on(t, l, func() {
		var c *Conn
		c = l.Connect(ln.Addr(), &hooks{closed: func(err error) { c.Close(); told <- err }})
	})
	if err := <-told; err != syscall.EMFILE {
		t.Errorf("Connect without a descriptor: Closed(%v); want %v", err, syscall.EMFILE)
	}

	// Somebody else has taken even the spare one: nothing can be closed.
	on(t, l, func() { closeFD(l.spare); l.spare = noFD })
	stolen := openSpare()
	connectTo(t, sockets[clients], ln.Addr())
	idle(t, l, "with a connection that can't be shed")
	on(t, l, func() {
		if len(accepted)+shed != clients {
			t.Errorf("%d were accepted and %d shed; want nothing new", len(accepted), shed)
		}
	})
	closeFD(stolen)
	eventually(t, l, "the spare descriptor sheds again", func() bool { return shed == clients-room+1 })

	on(t, l, func() {
		for _, c := range accepted {
			c.Close()
		}
		accepted = accepted[:0]
	})
	on(t, l, func() {}) // by which they are closed
	c := dial(t, ln.Addr())
	if _, err := c.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Errorf("with descriptors again, the echo is %v", err)
	}
	for _, fd := range sockets {
		closeFD(fd)
	}
}

// TestNothingIsShedForClosedConnections has more connections come than there are
// descriptors for, each of which is closed at once.
func TestNothingIsShedForClosedConnections(t *testing.T) {
	if alone(t) {
		return
	}
	const room, clients = 10, 40
	l := startLoop(t)
	ln := listen(t, "127.0.0.1:0")
	sockets := make([]int, clients)
	for i := range sockets {
		sockets[i] = socket(t)
		connectTo(t, sockets[i], ln.Addr())
	}
	limit(t, room)
	closed := 0
	serve(t, l, ln, func(*Conn) Handler { closed++; return nil })
	eventually(t, l, "all were closed", func() bool { return closed == clients })
	for _, fd := range sockets {
		closeFD(fd)
	}
}

// limit leaves the process room for that many descriptors more.
func limit(t *testing.T, room int) {
	t.Helper()
	var fill [64]int // more than there are gaps, so that none is left
	for i := range fill {
		if fill[i] = openSpare(); fill[i] == noFD {
			t.Fatal("no descriptors to begin with")
		}
	}
	var rl unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &rl); err != nil {
		t.Fatal(err)
	}
	rl.Cur = uint64(fill[len(fill)-1] + 1)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &rl); err != nil {
		t.Fatal(err)
	}
	for _, fd := range fill[:room] {
		closeFD(fd)
	}
	t.Cleanup(func() {
		for _, fd := range fill[room:] {
			closeFD(fd)
		}
	})
}

// idle holds the loop to sleeping while nothing can be done.
func idle(t *testing.T, l *Loop, when string) {
	t.Helper()
	const during = 500 * time.Millisecond
	before := processorOf(t, l)
	time.Sleep(during)
	if took := processorOf(t, l) - before; took > during/10 {
		t.Errorf("%s the loop used %v of the processor in %v; want next to nothing", when, took, during)
	}
}

func socket(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func connectTo(t *testing.T, fd int, to netip.AddrPort) {
	t.Helper()
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
		t.Fatal(err)
	}
}

// TestOptionsOfSessions asks the kernel what it has set on both sorts of
// connections.
func TestOptionsOfSessions(t *testing.T) {
	o := Options{KeepIdle: 11 * time.Second, KeepInterval: 7 * time.Second, UserTimeout: 23 * time.Second}
	o.Engine = testEngine()
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := Listen(t.Context(), "127.0.0.1:0", ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var accepted, connected *Conn
	ran := make(chan error, 1)
	go func() { ran <- l.Run() }()
	defer func() { l.Stop(); <-ran }()
	serve(t, l, ln, func(c *Conn) Handler { accepted = c; return &hooks{} })
	on(t, l, func() { connected = l.Connect(ln.Addr(), &hooks{}) })
	eventually(t, l, "it was accepted", func() bool { return accepted != nil })
	on(t, l, func() {
		for _, c := range []*Conn{accepted, connected} {
			if on, err := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE); on != 0 || err != nil {
				t.Errorf("a young connection has SO_KEEPALIVE = %d, %v; want that to come later", on, err)
			}
		}
		for i := range l.young {
			l.young[i].since -= youth
		}
	})
	on(t, l, func() {
		if len(l.young) > 0 {
			t.Errorf("%d connections are young for ever", len(l.young))
		}
		for name, c := range map[string]*Conn{"accepted": accepted, "connected": connected} {
			for _, opt := range []struct {
				name               string
				level, value, want int
			}{
				{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
				{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
				{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 11},
				{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 7},
				{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 23_000},
			} {
				if got, err := unix.GetsockoptInt(int(c.fd), opt.level, opt.value); got != opt.want || err != nil {
					t.Errorf("%s connection: %s = %d, %v; want %d", name, opt.name, got, err, opt.want)
				}
			}
			if flags, err := unix.FcntlInt(uintptr(c.fd), unix.F_GETFL, 0); flags&unix.O_NONBLOCK == 0 || err != nil {
				t.Errorf("%s connection may block", name)
			}
			if flags, err := unix.FcntlInt(uintptr(c.fd), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 || err != nil {
				t.Errorf("%s connection is inherited by programs", name)
			}
		}
	})
}

// TestNoDelayWhereItMatters asks the kernel whether it may hold small writes
// back: in a dialogue it never would, and needs not be told.
func TestNoDelayWhereItMatters(t *testing.T) {
	if testEngine() != Epoll {
		t.Skip("the ring sends what is written in a row in one segment, and can't be made to receive in a handler")
	}
	noDelay := func(c *Conn) bool {
		on, err := unix.GetsockoptInt(int(c.fd), unix.IPPROTO_TCP, unix.TCP_NODELAY)
		if err != nil {
			t.Error(err)
		}
		return on != 0
	}
	for _, tc := range []struct {
		name string
		do   func(c *Conn, answer func())
		want bool
	}{
		{"question and answer", func(c *Conn, answer func()) { c.Write([]byte("a\n")); answer(); c.Write([]byte("b\n")); answer() }, false},
		{"two writes in a row", func(c *Conn, answer func()) {
			c.Write([]byte("a\n"))
			answer()
			c.Write([]byte("b\n"))
			c.Write([]byte("c\n"))
		}, true},
		{"two reads in a row", func(c *Conn, answer func()) { c.Write([]byte("a\n")); answer(); answer() }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := startLoop(t)
			server := blocking(t, listenerSocket(t))
			var c *Conn
			heard := 0
			on(t, l, func() {
				c = l.Connect(addressOf(t, server), &hooks{received: func([]byte) { heard++ }})
			})
			fd, _, err := unix.Accept(server)
			if err != nil {
				t.Fatal(err)
			}
			peer := blocking(t, fd)
			eventually(t, l, "it was made", func() bool { return !c.connecting })
			answers := 0
			on(t, l, func() {
				tc.do(c, func() {
					answers++
					if _, err := unix.Write(peer, []byte("answer\n")); err != nil {
						t.Error(err)
					}
					for range 100 { // in the midst of a handler the loop doesn't look
						if c.read(); heard == answers {
							return
						}
						time.Sleep(time.Millisecond)
					}
					t.Error("no answer")
				})
				if got := noDelay(c); got != tc.want {
					t.Errorf("TCP_NODELAY = %v; want %v", got, tc.want)
				}
			})
		})
	}
}

// TestStopTwice has the second one not write to what is somebody else's by then.
func TestStopTwice(t *testing.T) {
	l, err := New(Options{Engine: testEngine()})
	if err != nil {
		t.Fatal(err)
	}
	var woken int
	switch e := l.engine.(type) {
	case *polling:
		woken = e.poll.wakeFD
	case *uring:
		woken = e.wakeFD
	}
	l.Stop()
	if err := l.Run(); err != nil {
		t.Errorf("Run() = %v", err)
	}
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if fd != woken {
		if err := unix.Dup3(fd, woken, unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer closeFD(woken)
	}
	defer closeFD(fd)
	l.Stop()
	if n, err := unix.Read(fd, make([]byte, 8)); err != unix.EAGAIN {
		t.Errorf("Stop after the end wrote to a descriptor that isn't the loop's: read %d, %v", n, err)
	}
}
