package loop

import (
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestEchoServer(t *testing.T) {
	l := startLoop(t)
	ln := listen(t, "127.0.0.1:0")
	serve(t, l, ln, echo)
	c := dial(t, ln.Addr())
	if _, err := c.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	c.CloseWrite()
	if got, err := io.ReadAll(c); string(got) != "hello\n" || err != nil {
		t.Errorf("echo = %q, %v; want %q", got, err, "hello\n")
	}
}

// TestRefuse has what comes meanwhile wait in the listener's line.
func TestRefuse(t *testing.T) {
	l := startLoop(t)
	ln := listen(t, "127.0.0.1:0")
	accepted := 0
	open := func(c *Conn) Handler { accepted++; return echo(c) }
	serve(t, l, ln, open)
	dial(t, ln.Addr())
	eventually(t, l, "the first was accepted", func() bool { return accepted == 1 })
	on(t, l, func() { l.Refuse(ln); l.Refuse(ln) })
	c := dial(t, ln.Addr())
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	on(t, l, func() {
		if accepted != 1 {
			t.Errorf("%d connections were accepted; want 1 before Refuse", accepted)
		}
	})
	serve(t, l, ln, open)
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("the connection that waited got %v; want its echo", err)
	}
}

// TestRefuseWhileAccepting ends the Accept with connections still waiting.
func TestRefuseWhileAccepting(t *testing.T) {
	l := startLoop(t)
	ln := listen(t, "127.0.0.1:0")
	for range 3 {
		dial(t, ln.Addr())
	}
	accepted := 0
	serve(t, l, ln, func(c *Conn) Handler { accepted++; l.Refuse(ln); return echo(c) })
	time.Sleep(20 * time.Millisecond)
	on(t, l, func() {
		if accepted != 1 {
			t.Errorf("%d connections were accepted; want 1, which refuses the others", accepted)
		}
	})
}

// TestFinishTakesWhatWaits has more connections wait than are accepted at once.
func TestFinishTakesWhatWaits(t *testing.T) {
	l := startLoop(t)
	ln := listen(t, "127.0.0.1:0")
	accepted := 0
	serve(t, l, ln, func(c *Conn) Handler { accepted++; return echo(c) })
	const waiting = 2*acceptBurst + 1
	on(t, l, func() { // while the loop can't look
		for range waiting {
			dial(t, ln.Addr())
		}
		if l.Finish(ln); accepted != waiting {
			t.Errorf("Finish has taken %d connections of %d that waited", accepted, waiting)
		}
	})
	dial(t, ln.Addr())
	time.Sleep(20 * time.Millisecond)
	on(t, l, func() {
		if accepted != waiting {
			t.Errorf("%d connections were accepted after Finish", accepted-waiting)
		}
	})
}

// TestRefuseWhileResting looks at a listener that is to be watched again later:
// by then its descriptor may be somebody else's.
func TestRefuseWhileResting(t *testing.T) {
	l := startLoop(t)
	ln := listen(t, "127.0.0.1:0")
	serve(t, l, ln, echo)
	on(t, l, func() {
		a := l.slots[0].acceptor
		l.engine.unlisten(a)
		a.rest.SetTimer(l.now + time.Millisecond)
		l.Refuse(ln)
		if len(l.timers) != 0 {
			t.Error("the listener's timer runs after Refuse")
		}
	})
}

// TestTwoLoopsShareAListener looks whether the one that is free takes what the
// other has no time for, and that no connection is lost between them.
func TestTwoLoopsShareAListener(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	var got [2]atomic.Int64
	for i := range got {
		l := startLoop(t)
		serve(t, l, ln, func(c *Conn) Handler {
			got[i].Add(1)
			time.Sleep(time.Millisecond) // a busy loop
			return echo(c)
		})
	}
	const total = 200
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range total / 4 {
				c := dial(t, ln.Addr())
				c.CloseWrite()
				if _, err := io.ReadAll(c); err != nil {
					t.Errorf("connection ended with %v", err)
				}
			}
		})
	}
	wg.Wait()
	if a, b := got[0].Load(), got[1].Load(); a+b != total || a == 0 || b == 0 {
		t.Errorf("the loops got %d and %d connections; want %d together and some each", a, b, total)
	}
}

// TestLoopsThatWaitShareEvenly has connections that last come one at a time, when
// all loops wait.
func TestLoopsThatWaitShareEvenly(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	var got [3]atomic.Int64
	for i := range got {
		l := startLoop(t)
		serve(t, l, ln, func(c *Conn) Handler {
			got[i].Add(1)
			return echo(c)
		})
	}
	const total = 300
	for range total {
		c := dial(t, ln.Addr())
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatalf("connection ended with %v", err)
		}
	}
	for i := range got {
		if n := int(got[i].Load()); n < total/len(got)*2/3 {
			t.Errorf("loop %d got %d of %d connections; want about a third", i, n, total)
		}
	}
}
