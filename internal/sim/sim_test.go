package sim_test

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"agiproxy/internal/sim"
)

// TestSeedRepeats holds a network to what makes failures come back: the same
// seed brings the same events at the same times, another seed others.
func TestSeedRepeats(t *testing.T) {
	run := func(seed uint64) []string {
		w := newSimWorld(seed, 0, sim.Options{Delay: time.Second, Segment: 10})
		s := &stage{world: w, t: t}
		var events []string
		a, b := s.pair()
		for _, e := range []*end{a, b} {
			e.on = func(event string) { events = append(events, fmt.Sprint(s.now(), e.name, event)) }
		}
		a.write(strings.Repeat("x", 200))
		b.write(strings.Repeat("y", 200))
		b.closeWrite()
		s.settle()
		return events
	}
	first, again, other := run(7), run(7), run(8)
	if !slices.Equal(first, again) {
		t.Errorf("the same seed brought\n%q and\n%q", first, again)
	}
	if slices.Equal(first, other) {
		t.Errorf("two seeds brought the same %d events", len(first))
	}
}

// TestUserTimeout looks at the ends that find out by themselves.
func TestUserTimeout(t *testing.T) {
	timeout := fmt.Sprintf("lost: %v", syscall.ETIMEDOUT)
	w := newSimWorld(1, 0, sim.Options{UserTimeout: 5 * time.Second})
	s := &stage{world: w, t: t}
	c := s.connect("c", w.silent())
	a, b := s.pair()
	a.conn.(*sim.Conn).Cut()
	began := s.now()
	a.write("never comes")
	b.write("never comes")
	b.close() // which nobody hears of
	s.want(a, timeout)
	if took := s.now() - began; took < 5*time.Second || took > 6*time.Second {
		t.Errorf("a cut connection was lost after %v; want the user timeout of 5s", took)
	}
	s.want(c, timeout)
	s.want(b)
	s.finish()
	if n := w.net.Open(); n != 0 {
		t.Errorf("Open() = %d after all was closed; want 0", n)
	}
}

// TestReset looks at the reset that a program asks for.
func TestReset(t *testing.T) {
	w := newSimWorld(1, 0, sim.Options{})
	s := &stage{world: w, t: t}
	a, b := s.pair()
	b.write("last")
	b.closed = true
	b.conn.(*sim.Conn).Reset()
	s.want(a, "received last", reset)
	s.finish()
	if n := w.net.Open(); n != 0 {
		t.Errorf("Open() = %d after all was closed; want 0", n)
	}
}
