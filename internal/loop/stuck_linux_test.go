package loop

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"
)

// TestAPeerThatTakesNothingIsLost has peers that are there, and whose kernels answer
// each question, but that read nothing: their windows are full, and the user timeout
// holds for that, too. One of them has its connection paused, as it is when the other
// side of its session is as stuck: it isn't told of the end, but that the other may go
// on.
//
// Source: tcp_probe_timer in Linux's net/ipv4/tcp_timer.c, since 5.11.
func TestAPeerThatTakesNothingIsLost(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes as long as a connection is young, and longer")
	}
	l, err := New(Options{Engine: testEngine(), UserTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	run(t, l)
	ln := listen(t, "127.0.0.1:0")
	conns := make(chan *Conn, 2)
	told := make(chan error, 2)
	drained := make(chan struct{}, 2)
	serve(t, l, ln, func(c *Conn) Handler {
		c.Write(make([]byte, 16<<20))
		if len(conns) == 1 {
			c.Pause()
		}
		conns <- c
		return &hooks{closed: func(err error) { told <- err; c.Close() }, drained: func() { drained <- struct{}{} }}
	})
	for range 2 {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		within := time.After(10 * time.Second)
		select {
		case conn := <-conns:
			defer on(t, l, conn.Close)
			conns <- conn
		case <-within:
			t.Fatal("not accepted")
		}
	}
	late := time.After(youth + 20*time.Second)
	select {
	case err := <-told:
		if !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("the connection is lost by %v; want %v", err, syscall.ETIMEDOUT)
		}
	case <-late:
		t.Error("the connection is not lost")
	}
	select {
	case <-drained:
	case <-late:
		t.Error("nobody is told that what the paused connection kept is gone")
	}
	if len(told) > 0 {
		t.Error("the paused connection is told of its end; want that after Resume")
	}
	<-conns
	paused := <-conns
	on(t, l, paused.Resume)
	select {
	case err := <-told:
		if !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("the paused connection is lost by %v; want %v", err, syscall.ETIMEDOUT)
		}
	case <-time.After(10 * time.Second):
		t.Error("the paused connection is not lost when it goes on")
	}
}
