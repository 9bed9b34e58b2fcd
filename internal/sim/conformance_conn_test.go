package sim_test

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"agiproxy/internal/sim"
)

// connectCases are about how connections begin.
var connectCases = []scenario{
	{"connect is refused", func(s *stage) {
		var a *end
		to := s.refusing()
		s.do(func() {
			a = s.connect("a", to)
			a.write("in vain")
		})
		s.want(a, refused)
		s.do(func() {
			a.write("in vain")
			a.closeWrite()
			a.pause()
			a.resume()
			if n := a.conn.Buffered(); n != 0 {
				s.t.Errorf("Buffered() = %d after the refusal; want 0", n)
			}
		})
	}},
	{"connect is not answered", func(s *stage) {
		var a *end
		to := s.silent()
		s.do(func() {
			a = s.connect("a", to)
			a.write("header")
			if n := a.conn.Buffered(); n != len("header") {
				s.t.Errorf("Buffered() = %d while connecting; want %d", n, len("header"))
			}
		})
		s.settle()
		s.want(a)
		s.do(func() { a.timer(s.now() + time.Millisecond) })
		s.want(a, "timed out")
		s.do(a.close)
	}},
	{"close while connecting", func(s *stage) {
		to := s.listen(func(c conn) sim.Handler { return s.accept("b", c) })
		s.do(func() {
			a := s.connect("a", to)
			a.write("in vain")
			a.close()
		})
	}},
	{"close while connecting, of what was accepted", func(s *stage) {
		var a, b *end
		to := s.listen(func(c conn) sim.Handler {
			b = s.accept("b", c)
			a.close()
			return b
		})
		s.do(func() { a = s.connect("a", to) })
		s.there(&b)
		s.want(b, "end")
	}},
	{"what is written before is kept and sent", func(s *stage) {
		var a, b *end
		to := s.listen(func(c conn) sim.Handler { b = s.accept("b", c); return b })
		s.do(func() {
			a = s.connect("a", to)
			a.on = func(event string) {
				if event == "connected" {
					a.write("two,")
				}
			}
			a.write("one,")
			if n := a.conn.Buffered(); n != len("one,") {
				s.t.Errorf("Buffered() = %d before the connection is there; want %d", n, len("one,"))
			}
		})
		s.want(a, "connected", "drained")
		s.do(func() { a.write("three") })
		s.there(&b)
		s.want(b, "received one,two,three")
	}},
	{"half-close before the connection is there", func(s *stage) {
		var a, b *end
		to := s.listen(func(c conn) sim.Handler { b = s.accept("b", c); return b })
		s.do(func() {
			a = s.connect("a", to)
			a.closeWrite()
		})
		s.want(a, "connected")
		s.there(&b)
		s.want(b, "end")
		s.do(func() { b.write("answer") })
		s.want(a, "connected", "received answer")
	}},
	{"bytes and half-close before the connection is there", func(s *stage) {
		var a, b *end
		to := s.listen(func(c conn) sim.Handler { b = s.accept("b", c); return b })
		s.do(func() {
			a = s.connect("a", to)
			a.write("all")
			a.closeWrite()
			a.write("late")
		})
		s.want(a, "connected", "drained")
		s.there(&b)
		s.want(b, "received all", "end")
	}},
	{"half-close when the connection is there", func(s *stage) {
		var a, b *end
		to := s.listen(func(c conn) sim.Handler { b = s.accept("b", c); return b })
		s.do(func() {
			a = s.connect("a", to)
			a.on = func(string) { a.closeWrite() }
		})
		s.want(a, "connected")
		s.there(&b)
		s.want(b, "end")
	}},
	{"a server that speaks first", func(s *stage) {
		var a *end
		to := s.listen(func(c conn) sim.Handler {
			b := s.accept("b", c)
			b.write("hello")
			b.closeWrite()
			return b
		})
		s.do(func() { a = s.connect("a", to) })
		s.want(a, "connected", "received hello", "end")
	}},
	{"what is done in accept counts", func(s *stage) {
		var a, b *end
		to := s.listen(func(c conn) sim.Handler {
			b = s.accept("b", c)
			b.pause()
			b.write("failure")
			b.closeWrite()
			b.resume()
			b.timer(s.now() + 50*time.Millisecond)
			return b
		})
		s.do(func() { a = s.connect("a", to) })
		s.want(a, "connected", "received failure", "end")
		s.there(&b)
		s.want(b, "timed out")
		s.do(a.close)
		s.want(b, "timed out", "end")
	}},
	{"accept without a handler closes", func(s *stage) {
		var a *end
		to := s.listen(func(conn) sim.Handler { return nil })
		s.do(func() { a = s.connect("a", to) })
		s.want(a, "connected", "end")
	}},
	{"close in accept, without a handler", func(s *stage) {
		var a *end
		to := s.listen(func(c conn) sim.Handler { s.accept("b", c).close(); return nil })
		s.do(func() { a = s.connect("a", to) })
		s.want(a, "connected", "end")
	}},
	{"close in accept, with a handler", func(s *stage) {
		var a, b *end
		to := s.listen(func(c conn) sim.Handler {
			b = s.accept("b", c)
			b.write("bye")
			b.timer(s.now() + time.Millisecond)
			b.close()
			b.timer(s.now() + time.Millisecond)
			return b
		})
		s.do(func() { a = s.connect("a", to) })
		s.want(a, "connected", "received bye", "end")
		s.there(&b)
		s.want(b)
	}},
	{"the peer's address", func(s *stage) {
		var a, b *end
		to := s.listen(func(c conn) sim.Handler { b = s.accept("b", c); return b })
		s.do(func() { a = s.connect("a", to) })
		s.want(a, "connected")
		s.there(&b)
		if got := a.conn.RemoteAddr(); got != to {
			s.t.Errorf("RemoteAddr() of who connects = %v; want %v", got, to)
		}
		if got := b.conn.RemoteAddr(); got.Addr() != to.Addr() || got.Port() == 0 {
			s.t.Errorf("RemoteAddr() of who accepts = %v; want %v with some port", got, to.Addr())
		}
	}},
}

// callbackCases are about Close where a handler is called. That nothing is told
// afterwards is what every end looks at.
var callbackCases = []scenario{
	{"close when connected", func(s *stage) {
		var a, b *end
		to := s.listen(func(c conn) sim.Handler { b = s.accept("b", c); b.write("in vain"); return b })
		s.do(func() {
			a = s.connect("a", to)
			a.write("in vain")
			a.on = func(string) { a.close() }
		})
		s.want(a, "connected")
	}},
	{"close in Received", func(s *stage) {
		a, b := s.pair()
		s.do(func() {
			a.on = func(string) { a.close() }
			b.write("one")
			b.closeWrite()
		})
		if !s.until(func() bool { return a.closed }) {
			s.t.Fatal("nothing was received")
		}
		s.settle()
		s.do(func() {
			if len(a.told) != 1 {
				s.t.Errorf("a was told %q; want only what closed it", a.told)
			}
		})
	}},
	{"close of the other end in Received", func(s *stage) {
		a, b := s.pair()
		s.do(func() {
			a.on = func(event string) {
				if event == "received x" {
					b.close()
				}
			}
			b.write("x")
			a.write("y")
		})
		// b may have read y before or not, so that a's end isn't settled.
		if !s.until(func() bool { return len(a.told) > 1 }) {
			s.t.Fatalf("a was told %q; want an end", a.told)
		}
	}},
	{"close in Drained", func(s *stage) {
		a, b := s.pair()
		got := s.count(b)
		s.do(func() {
			b.pause()
			a.on = func(string) { a.close() }
			a.write(s.text(0, s.large()))
			b.resume()
		})
		s.received(got, s.large())
		s.want(a, "drained")
		s.want(b, "end")
	}},
	{"close in Closed, after the end", func(s *stage) {
		a, b := s.pair()
		s.do(func() {
			b.pause()
			a.on = func(string) { a.close() }
		})
		s.unread(a)
		s.do(func() { b.closeWrite(); b.close() }) // the reset is not told
		s.want(a, "end")
	}},
	{"pause in Closed, after the end", func(s *stage) {
		a, b := s.pair()
		s.do(func() {
			b.pause()
			a.on = func(string) { a.pause() }
		})
		s.unread(a)
		s.do(func() { b.closeWrite(); b.close() })
		s.want(a, "end")
		s.settle()
		s.want(a, "end")
		s.do(a.resume)
		s.want(a, "end", pipe)
	}},
	{"pause in Closed, with a reset behind the end", func(s *stage) {
		a, b := s.pair()
		s.do(func() {
			a.pause()
			b.pause()
			a.on = func(string) { a.pause() }
		})
		s.unread(a)
		s.do(func() { b.closeWrite(); b.close() })
		s.settle()
		s.do(a.resume)
		s.want(a, "end")
		s.settle()
		s.want(a, "end")
		s.do(a.resume)
		s.want(a, "end", pipe)
	}},
	{"a reset behind the end, as Unacked tells it", func(s *stage) {
		a, b := s.pair()
		var err error
		s.do(func() {
			a.pause()
			b.pause()
			a.on = func(event string) {
				if event == "end" {
					_, err = a.conn.Unacked()
				}
			}
		})
		s.unread(a)
		s.do(func() { b.closeWrite(); b.close() })
		s.settle()
		s.do(a.resume)
		s.want(a, "end", pipe)
		s.do(func() {
			if !errors.Is(err, syscall.EPIPE) {
				s.t.Errorf("Unacked() at the end = %v; want %v", err, syscall.EPIPE)
			}
		})
	}},
	{"close in Closed, after a reset", func(s *stage) {
		a, b := s.pair()
		s.do(func() {
			b.pause()
			a.on = func(string) { a.close() }
		})
		s.unread(a)
		s.do(func() { a.timer(s.now() + 20*time.Millisecond); b.close() })
		if !s.until(func() bool { return a.closed }) {
			s.t.Fatalf("a was told %q; want a reset", a.told)
		}
	}},
	{"close in Closed, after a refusal", func(s *stage) {
		var a *end
		to := s.refusing()
		s.do(func() {
			a = s.connect("a", to)
			a.on = func(string) { a.close() }
		})
		s.want(a, refused)
	}},
	{"close in TimedOut", func(s *stage) {
		a, b := s.pair()
		s.do(func() {
			a.on = func(string) { a.close() }
			a.timer(s.now())
		})
		s.want(a, "timed out")
		s.want(b, "end")
	}},
}

// timerCases are about the one timer that a connection has.
var timerCases = []scenario{
	{"timer runs out once, and not early", func(s *stage) {
		a, _ := s.pair()
		var due, at time.Duration
		s.do(func() {
			a.on = func(string) { at = s.now() }
			due = s.now() + 30*time.Millisecond
			a.timer(due)
		})
		s.want(a, "timed out")
		s.do(func() {
			if at < due {
				s.t.Errorf("timed out at %v; want not before %v", at, due)
			}
		})
		s.settle()
	}},
	{"timer that is due already", func(s *stage) {
		a, _ := s.pair()
		s.do(func() { a.timer(s.now() - time.Millisecond) })
		s.want(a, "timed out")
	}},
	{"timer moved earlier", func(s *stage) {
		a, _ := s.pair()
		s.do(func() {
			a.timer(s.now() + time.Hour)
			a.timer(s.now() + time.Millisecond)
		})
		s.want(a, "timed out")
	}},
	{"timer moved later", func(s *stage) {
		a, _ := s.pair()
		var due, at time.Duration
		s.do(func() {
			a.on = func(string) { at = s.now() }
			a.timer(s.now() + time.Millisecond)
			due = s.now() + 50*time.Millisecond
			a.timer(due)
		})
		s.want(a, "timed out")
		s.do(func() {
			if at < due {
				s.t.Errorf("timed out at %v; want not before %v, to where it was moved", at, due)
			}
		})
	}},
	{"timer stopped", func(s *stage) {
		a, _ := s.pair()
		s.do(func() {
			a.timer(s.now() + 5*time.Millisecond)
			a.timer(0)
		})
		s.settle()
		s.want(a)
	}},
	{"timer stopped and set again", func(s *stage) {
		a, _ := s.pair()
		s.do(func() {
			a.timer(s.now() + time.Hour)
			a.timer(0)
			a.timer(s.now() + 2*time.Millisecond)
			a.timer(0)
			a.timer(s.now() + 3*time.Millisecond)
		})
		s.want(a, "timed out")
	}},
	{"timer set again when it runs out", func(s *stage) {
		a, _ := s.pair()
		s.do(func() {
			a.on = func(string) {
				if len(a.told) < 4 {
					a.timer(s.now()) // not before the others had their turn
				}
			}
			a.timer(s.now())
		})
		s.want(a, "timed out", "timed out", "timed out", "timed out")
	}},
	{"timer stopped by Close", func(s *stage) {
		a, _ := s.pair()
		s.do(func() {
			a.timer(s.now() + 5*time.Millisecond)
			a.close()
		})
		s.settle()
	}},
	{"timers run out in their order", func(s *stage) {
		a, b := s.pair()
		c, d := s.pair()
		var order []string
		s.do(func() {
			now := s.now()
			for i, e := range []*end{c, a, d, b} {
				e.on = func(string) { order = append(order, e.name) }
				e.name = string("cadb"[i])
				e.timer(now + time.Duration(e.name[0]-'a'+1)*5*time.Millisecond)
			}
		})
		if !s.until(func() bool { return slices.Equal(order, []string{"a", "b", "c", "d"}) }) {
			s.t.Errorf("timers ran out as %q; want a to d", order)
		}
	}},
	{"timer of a lost connection", func(s *stage) {
		var a *end
		to := s.refusing()
		s.do(func() { a = s.connect("a", to) })
		s.want(a, refused)
		s.do(func() { a.timer(s.now() + time.Millisecond) })
		s.want(a, refused, "timed out")
	}},
	{"close of the other end when a timer runs out at the same time", func(s *stage) {
		a, b := s.pair()
		s.do(func() {
			at := s.now() + time.Millisecond
			a.on = func(string) { b.close() }
			b.on = func(string) { a.close() }
			a.timer(at)
			b.timer(at)
		})
		s.until(func() bool { return len(a.told)+len(b.told) >= 2 }) // a goroutine may need longer than settle waits
		s.settle()
		s.do(func() {
			if told := slices.Concat(a.told, b.told); !slices.Equal(told, []string{"timed out", "end"}) {
				s.t.Errorf("a was told %q and b %q; want one timeout, and the end that it brings", a.told, b.told)
			}
		})
	}},
}
