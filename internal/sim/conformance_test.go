package sim_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"agiproxy/internal/sim"
)

// What Closed says, as ends note it.
var (
	reset   = fmt.Sprintf("lost: %v", syscall.ECONNRESET)
	pipe    = fmt.Sprintf("lost: %v", syscall.EPIPE)
	refused = fmt.Sprintf("lost: %v", syscall.ECONNREFUSED)
)

// TestConformance runs every case over a loop, over TLS by goroutines and over
// simulated networks. What is wanted is what Linux does.
func TestConformance(t *testing.T) {
	worlds := []struct {
		name string
		make func(*testing.T) world
	}{
		{"loop", func(t *testing.T) world { return newLoopWorld(t, loopback) }},
		{"legs", func(t *testing.T) world { return newLegsWorld(t) }},
		{"sim", func(*testing.T) world { return newSimWorld(1, 1<<20, sim.Options{}) }},
		{"slow sim", func(*testing.T) world { return newSimWorld(2, 1<<20, sim.Options{Delay: 20 * time.Millisecond}) }},
		{"narrow sim", func(*testing.T) world {
			return newSimWorld(3, 1<<14, sim.Options{Delay: 5 * time.Millisecond, Segment: 3, Window: 100})
		}},
	}
	bytes := make([]byte, 16<<20)
	rand.NewChaCha8([32]byte{}).Read(bytes)
	stream := string(bytes)
	for _, w := range worlds {
		t.Run(w.name, func(t *testing.T) {
			for _, c := range slices.Concat(endCases, connectCases, flowCases, callbackCases, timerCases) {
				c.run(t, w.make, stream, false)
			}
			for _, c := range slices.Concat(endCases, flowCases) {
				c.run(t, w.make, stream, true)
			}
		})
	}
	t.Run("loop over IPv6", func(t *testing.T) {
		for _, c := range slices.Concat(connectCases, endCases) {
			c.run(t, func(t *testing.T) world { return newLoopWorld(t, netip.IPv6Loopback()) }, stream, false)
		}
	})
}

// A scenario is one case. Where a and b are the ends of a pair, a is the one
// that is looked at.
type scenario struct {
	name string
	play func(s *stage)
}

// run plays the case in a new world; swapped has a be the end that accepted.
func (c scenario) run(t *testing.T, newWorld func(*testing.T) world, stream string, swapped bool) {
	name := c.name
	if swapped {
		name += ", accepted"
	}
	t.Run(name, func(t *testing.T) {
		byLegs := strings.HasPrefix(t.Name(), "TestConformance/legs/")
		if why := notByLegs[c.name]; why != "" && byLegs {
			t.Skip(why)
		}
		t.Parallel() // most of a case on a loop is waiting for what must not come
		s := &stage{world: newWorld(t), t: t, stream: stream, swapped: swapped, byLegs: byLegs}
		c.play(s)
		s.finish()
	})
}

// endCases are about how connections end.
var endCases = []scenario{
	{"half-close each way", func(s *stage) {
		a, b := s.pair()
		s.do(a.closeWrite)
		s.want(b, "end")
		s.do(func() { b.write("more") })
		s.want(a, "received more")
		s.do(b.closeWrite)
		s.want(a, "received more", "end")
	}},
	{"data comes before the half-close", func(s *stage) {
		a, b := s.pair()
		s.do(func() { b.write("one,"); b.write("two"); b.closeWrite(); b.write("late") })
		s.want(a, "received one,two", "end")
	}},
	{"data comes before the close", func(s *stage) {
		a, b := s.pair()
		s.do(func() { b.write("one,"); b.write("two"); b.close() })
		s.want(a, "received one,two", "end")
	}},
	{"close over unread data is a reset", func(s *stage) {
		a, b := s.pair()
		s.do(b.pause)
		s.unread(a)
		s.do(b.close)
		s.want(a, reset)
	}},
	{"data comes before the reset", func(s *stage) {
		a, b := s.pair()
		s.do(b.pause)
		s.unread(a)
		s.do(func() { b.write("last"); b.close() })
		s.want(a, "received last", reset)
	}},
	{"reset some time after the end", func(s *stage) {
		a, b := s.pair()
		s.do(b.pause)
		s.unread(a)
		s.do(func() { b.write("last"); b.closeWrite() })
		s.want(a, "received last", "end")
		s.do(b.close)
		s.want(a, "received last", "end", pipe)
	}},
	{"reset together with the end", func(s *stage) {
		a, b := s.pair()
		s.do(b.pause)
		s.unread(a)
		s.do(func() { b.write("last"); b.closeWrite(); b.close() })
		s.want(a, "received last", "end", pipe)
	}},
	{"accept and close, as a writer sees it", func(s *stage) {
		a, b := s.pair()
		s.do(b.close)
		s.want(a, "end")
		s.do(func() {
			a.on = func(event string) {
				if n := a.unacked(); n != len("header") {
					s.t.Errorf("when told %q, %d bytes are unacknowledged; want the header's %d", event, n, len("header"))
				}
			}
			a.write("header")
			if n := a.unacked(); n != len("header") {
				s.t.Errorf("after a write to a closed peer, %d bytes are unacknowledged; want %d", n, len("header"))
			}
		})
		s.want(a, "end", pipe)
	}},
	{"accept and close, as somebody sees it who writes at once", func(s *stage) {
		a, b := s.pair()
		s.do(func() {
			b.close()
			a.write("header")
		})
		// What was written may arrive before the peer's kernel has closed, if a
		// loop asks for both together.
		s.wantOneOf(a, []string{"end", pipe}, []string{reset})
	}},
	{"read everything, then close", func(s *stage) {
		a, b := s.pair()
		s.do(func() { a.write("header") })
		s.want(b, "received header")
		s.do(b.close)
		s.want(a, "end")
		if s.byLegs {
			s.acknowledged(a) // soon: the goroutine that has written it tells so when it gets to run
		}
		s.do(func() {
			if n := a.unacked(); n != 0 {
				s.t.Errorf("peer has read everything and closed, but %d bytes are unacknowledged; want 0", n)
			}
		})
	}},
	{"write to a peer that has reset, at once", func(s *stage) {
		a, b := s.pair()
		s.do(b.pause)
		s.unread(a)
		s.do(func() { b.write("last"); b.close(); a.write("in vain"); a.write("in vain") })
		s.want(a, "received last", reset)
	}},
	{"write to a peer that has reset, while paused", func(s *stage) {
		a, b := s.pair()
		s.do(func() { a.pause(); b.pause() })
		s.unread(a)
		s.do(func() { b.write("last"); b.close() })
		s.settle()
		s.do(func() { a.write("in vain") })
		s.settle()
		s.want(a)
		s.do(func() { a.write("in vain"); a.resume() })
		s.want(a, "received last", reset)
	}},
	{"write to a peer that has ended and reset", func(s *stage) {
		a, b := s.pair()
		s.do(func() { a.pause(); b.pause() })
		s.unread(a)
		s.do(func() { b.write("last"); b.closeWrite(); b.close() })
		s.settle()
		s.do(func() { a.write("in vain"); a.resume() })
		s.want(a, "received last", "end", pipe)
	}},
	{"pause holds bytes and the end", func(s *stage) {
		a, b := s.pair()
		s.do(func() { a.pause(); b.write("held"); b.closeWrite() })
		s.settle()
		s.want(a)
		s.do(a.resume)
		s.want(a, "received held", "end")
	}},
	{"pause holds a reset", func(s *stage) {
		a, b := s.pair()
		s.do(func() { a.pause(); b.pause() })
		s.unread(a)
		s.do(b.close)
		s.settle()
		s.want(a)
		s.do(a.resume)
		s.want(a, reset)
	}},
	{"pause holds a reset after the end", func(s *stage) {
		a, b := s.pair()
		s.do(b.pause)
		s.unread(a)
		s.do(b.closeWrite)
		s.want(a, "end")
		s.do(func() { a.pause(); b.close() })
		s.settle()
		s.want(a, "end")
		s.do(func() { a.write("in vain") })
		s.settle()
		s.want(a, "end")
		s.do(a.resume)
		s.want(a, "end", pipe)
	}},
	{"pause in the middle", func(s *stage) {
		a, b := s.pair()
		s.do(func() {
			a.on = func(string) { a.pause() }
			b.write("1")
		})
		s.want(a, "received 1")
		s.do(func() { b.write("2") })
		s.settle()
		s.want(a, "received 1")
		s.do(a.resume)
		s.want(a, "received 12")
		s.do(b.closeWrite)
		s.settle()
		s.want(a, "received 12")
		s.do(func() { a.on = nil; a.resume(); a.resume() })
		s.want(a, "received 12", "end")
	}},
	{"pause when what was held is received", func(s *stage) {
		a, b := s.pair()
		s.do(func() {
			a.on = func(event string) {
				if event == "received held" {
					a.pause()
				}
			}
			a.pause()
			b.write("held")
			b.closeWrite()
		})
		s.settle()
		s.do(a.resume)
		s.want(a, "received held")
		s.settle()
		s.do(func() { a.on = nil; a.resume() })
		s.want(a, "received held", "end")
	}},
	{"a closed connection does nothing more", func(s *stage) {
		a, b := s.pair()
		s.do(func() {
			a.close()
			a.write("in vain")
			a.closeWrite()
			a.pause()
			a.resume()
			a.timer(s.now())
			a.call(a.conn.QuickAck)
			a.close()
			if n := a.conn.Buffered(); n != 0 {
				s.t.Errorf("Buffered() after Close = %d; want 0", n)
			}
			if _, err := a.conn.Unacked(); err == nil {
				s.t.Error("Unacked() after Close has no error")
			}
		})
		s.want(b, "end")
	}},
	{"both close at once", func(s *stage) {
		a, b := s.pair()
		s.do(func() { a.close(); b.close() })
	}},
}

// flowCases are about more bytes than a connection takes.
var flowCases = []scenario{
	{"what is kept is gone with a reset, while paused", func(s *stage) {
		a, b := s.pair()
		s.do(func() {
			a.pause()
			b.pause()
			for at := 0; at < s.large(); at += 1 << 12 {
				a.write(s.text(at, 1<<12))
			}
		})
		s.settle()
		s.want(a)
		s.do(b.close)
		s.want(a, "drained") // or the other side of a session would wait for that for ever
		s.do(a.resume)
		s.want(a, "drained", reset)
	}},
	{"slow reader", func(s *stage) {
		a, b := s.pair()
		got := s.count(b)
		s.do(func() {
			b.pause()
			for at := 0; at < s.large(); at += 1 << 12 {
				a.write(s.text(at, 1<<12))
			}
			if a.conn.Buffered() == 0 {
				s.t.Errorf("Buffered() = 0 after %d bytes that nobody reads", s.large())
			}
		})
		s.settle()
		s.want(a)
		s.do(b.resume)
		s.want(a, "drained")
		s.received(got, s.large())
		s.do(func() {
			if n := a.conn.Buffered(); n != 0 {
				s.t.Errorf("Buffered() = %d after Drained; want 0", n)
			}
		})
	}},
	{"half-close with bytes buffered", func(s *stage) {
		a, b := s.pair()
		got := s.count(b)
		s.do(func() {
			b.pause()
			a.write(s.text(0, s.large()))
			a.closeWrite()
			a.write("late")
		})
		s.settle()
		s.want(b)
		s.do(b.resume)
		s.want(b, "end")
		s.received(got, s.large())
		s.want(a, "drained")
	}},
	{"close with bytes buffered drops them", func(s *stage) {
		a, b := s.pair()
		got := s.count(b)
		s.do(func() {
			b.pause()
			a.write(s.text(0, s.large()))
			a.close()
		})
		s.settle()
		s.do(b.resume)
		s.want(b, "end")
		s.do(func() {
			if *got == 0 || *got >= s.large() {
				s.t.Errorf("%d bytes came of %d; want some, not all", *got, s.large())
			}
		})
	}},
	{"reset with bytes buffered", func(s *stage) {
		a, b := s.pair()
		s.do(func() {
			b.pause()
			a.write(s.text(0, s.large()))
		})
		s.settle()
		s.do(b.close)
		s.want(a, reset)
		s.do(func() {
			if n := a.conn.Buffered(); n != 0 {
				s.t.Errorf("Buffered() = %d after the reset; want 0", n)
			}
		})
	}},
	{"pausing the source keeps what is buffered small", func(s *stage) {
		source, in := s.pair()
		out, sink := s.pair()
		got := s.count(sink)
		most, paused := 0, false
		s.do(func() {
			sink.pause()
			in.sink = func(p []byte) {
				if paused {
					s.t.Errorf("%d bytes received while paused", len(p))
				}
				out.write(string(p))
				most = max(most, out.conn.Buffered())
				if out.conn.Buffered() > 0 {
					in.pause()
					paused = true
				}
			}
			in.on = func(event string) {
				if event == "end" {
					out.closeWrite()
				}
			}
			out.on = func(string) { in.resume(); paused = false }
			source.write(s.text(0, s.large()))
			source.closeWrite()
		})
		if !s.until(func() bool { return paused }) {
			s.t.Fatal("nothing was buffered although nobody reads")
		}
		s.do(sink.resume)
		s.want(sink, "end")
		s.received(got, s.large())
		if limit := 128 << 10; most > limit {
			s.t.Errorf("at most %d bytes were buffered between the connections; want no more than %d", most, limit)
		}
	}},
	{"bytes both ways at once", func(s *stage) {
		a, b := s.pair()
		atA, atB := s.count(a), s.count(b)
		s.do(func() {
			a.write(s.text(0, s.large()))
			b.write(s.text(0, s.large()))
			a.closeWrite()
			b.closeWrite()
		})
		s.received(atA, s.large())
		s.received(atB, s.large())
	}},
	{"drained may write more", func(s *stage) {
		a, b := s.pair()
		got := s.count(b)
		s.do(func() {
			b.pause()
			a.on = func(string) {
				if len(a.told) == 1 {
					a.write(s.text(s.large(), s.large()))
				}
				b.resume()
			}
			a.write(s.text(0, s.large()))
			b.resume()
		})
		s.received(got, 2*s.large())
		s.want(a, "drained", "drained")
	}},
}

// count has what e receives compared with the stream and counted.
func (s *stage) count(e *end) *int {
	n := new(int)
	s.do(func() {
		e.sink = func(p []byte) {
			if string(p) != s.text(*n, len(p)) && !s.t.Failed() {
				s.t.Errorf("bytes at %d of what %s received are not what was sent", *n, e.name)
			}
			*n += len(p)
		}
	})
	return n
}

// received waits until that many bytes have come.
func (s *stage) received(got *int, want int) {
	s.t.Helper()
	var n int
	if !s.until(func() bool { n = *got; return n == want }) {
		s.t.Fatalf("%d bytes were received; want %d", n, want)
	}
}
