package loop

import (
	"bytes"
	"net"
	"testing"
	"time"
)

type echo struct {
	c    *Conn
	done chan error
}

func (e *echo) Connected()        {}
func (e *echo) Received(p []byte) { e.c.Write(p) }
func (e *echo) Drained()          {}
func (e *echo) Closed(err error) {
	e.c.CloseWrite()
	e.c.Close()
	e.done <- err
}
func (e *echo) TimedOut() {}

func TestEchoServer(t *testing.T) {
	l, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- l.Run() }()
	ln, err := Listen(t.Context(), "127.0.0.1:0", Options{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	if err := l.Do(func() {
		err := l.Accept(ln, func(c *Conn) Handler { return &echo{c, done} }, func(error) {})
		if err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(5 * time.Second))
	msg := bytes.Repeat([]byte("hello\n"), 1000)
	if _, err := c.Write(msg); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(msg))
	if _, err := readFull(c, got); err != nil || !bytes.Equal(got, msg) {
		t.Fatalf("echo: %v", err)
	}
	c.Close()
	if err := <-done; err != nil {
		t.Errorf("Closed(%v); want nil", err)
	}
	l.Stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	ln.Close()
}

func readFull(c net.Conn, p []byte) (n int, err error) {
	for n < len(p) {
		m, err := c.Read(p[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
