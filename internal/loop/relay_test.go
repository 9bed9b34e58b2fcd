package loop

import (
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// A relay is a loop with a session on it, as far as bytes are concerned: what
// one side sends the other gets. Its two peers are sockets that block.
type relay struct {
	t      testing.TB
	loop   *Loop
	caller int
	server int
	line   []byte
	buf    []byte
}

func newRelay(t testing.TB) *relay {
	t.Helper()
	r := &relay{t: t, loop: startLoop(t), line: []byte("200 result=1 (enough for a line)\n"), buf: make([]byte, 256)}
	front, back := listen(t, "127.0.0.1:0"), blocking(t, listenerSocket(t))
	ready := make(chan struct{})
	serve(t, r.loop, front, func(in *Conn) Handler {
		h := &hooks{}
		out := r.loop.Connect(addressOf(t, back), h)
		h.connected = func() { close(ready) }
		h.received = in.Write
		h.closed = func(error) { out.Close(); in.Close() }
		return &hooks{received: out.Write, closed: h.closed}
	})
	r.caller = blocking(t, streamSocket(t))
	if err := unix.Connect(r.caller, socketAddress(front.Addr())); err != nil {
		t.Fatal(err)
	}
	fd, _, err := unix.Accept(back)
	if err != nil {
		t.Fatal(err)
	}
	r.server = blocking(t, fd)
	<-ready
	return r
}

// lines has one line pass each way.
func (r *relay) lines() {
	r.pass(r.caller, r.server)
	r.pass(r.server, r.caller)
}

func (r *relay) pass(from, to int) {
	if _, err := unix.Write(from, r.line); err != nil {
		r.t.Fatal(err)
	}
	for got := 0; got < len(r.line); {
		n, err := unix.Read(to, r.buf)
		if err == unix.EINTR {
			continue
		}
		if n == 0 || err != nil {
			r.t.Fatalf("read %d, %v", n, err)
		}
		got += n
	}
}

// TestRelayAllocatesNothing counts what the whole process allocates while lines
// pass.
func TestRelayAllocatesNothing(t *testing.T) {
	r := newRelay(t)
	r.lines()
	const count = 2000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range count {
		r.lines()
	}
	runtime.ReadMemStats(&after)
	if n := after.Mallocs - before.Mallocs; n > count/20 {
		t.Errorf("%d lines passed each way with %d allocations; want none", count, n)
	}
}

// BenchmarkRelay has one line pass each way at a time.
func BenchmarkRelay(b *testing.B) {
	r := newRelay(b)
	r.lines()
	b.ReportAllocs()
	for b.Loop() {
		r.lines()
	}
}

// BenchmarkConnect makes a connection between two ends on one loop, and closes
// it.
func BenchmarkConnect(b *testing.B) {
	l := startLoop(b)
	ln := listen(b, "127.0.0.1:0")
	serve(b, l, ln, func(c *Conn) Handler {
		return &hooks{closed: func(error) { c.Close() }}
	})
	done := make(chan struct{})
	begin := func() {
		h := &hooks{}
		c := l.Connect(ln.Addr(), h)
		h.connected = c.CloseWrite
		h.closed = func(error) { c.Close(); done <- struct{}{} }
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Do(begin); err != nil {
			b.Fatal(err)
		}
		<-done
	}
}

func streamSocket(t testing.TB) int {
	t.Helper()
	fd, err := openSocket(unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func listenerSocket(t testing.TB) int {
	t.Helper()
	fd := streamSocket(t)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	return fd
}

// blocking has fd block, and be closed when the test is over.
func blocking(t testing.TB, fd int) int {
	t.Helper()
	t.Cleanup(func() { closeFD(fd) })
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	return fd
}

func addressOf(t testing.TB, fd int) netip.AddrPort {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	in := sa.(*unix.SockaddrInet4)
	return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port))
}

func socketAddress(a netip.AddrPort) unix.Sockaddr {
	return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
}
