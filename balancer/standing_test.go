package balancer

import (
	"net/netip"
	"testing"
	"time"
)

// TestStandingGoesOn has another process go on from what one knows of a backend:
// an ejection ends when it would have, and the next is longer.
func TestStandingGoesOn(t *testing.T) {
	clock := newFakeClock()
	o := Options{Clock: clock, Ejection: Ejection{Failures: 2, Time: 10 * time.Second, MaxTime: time.Minute, MaxPercent: 50}}
	build := func() *Pool {
		var all []*Backend
		for _, name := range []string{"a", "b"} {
			b := NewBackend(name, name+":1")
			b.SetAddr(netip.MustParseAddrPort("10.0.0.1:1"))
			all = append(all, b)
		}
		return NewPool(RoundRobin{}, o, all)
	}
	fail := func(b *Backend, n int) {
		for range n {
			l := b.Adopt(false, false)
			l.Failed()
			l.Done()
		}
	}
	move := func(p *Pool) *Pool {
		next := build()
		for i, b := range next.Backends() {
			b.Stand(p.Backends()[i].Standing())
		}
		return next
	}
	p := build()
	fail(p.Backends()[0], 2)
	loan, _ := p.Pick(nil, 0)
	loan.Done()
	clock.advance(4 * time.Second)
	p = move(p)
	a, b := p.Backends()[0], p.Backends()[1]
	if a.State() != Ejected || a.Ejections() != 1 || a.EjectedUntil() != clock.Now().Add(6*time.Second) || b.Total() != 1 {
		t.Fatalf("%v, %d ejections, until %v, %d picks of the other; want ejected, 1, in 6s, 1", a.State(), a.Ejections(), a.EjectedUntil(), b.Total())
	}
	clock.advance(5 * time.Second)
	if a.State() != Ejected {
		t.Error("it is back before its time")
	}
	clock.advance(time.Second)
	if a.State() != Up {
		t.Fatalf("%v after the ejection's time; want up", a.State())
	}
	fail(a, 1)
	p = move(p)
	a = p.Backends()[0]
	fail(a, 1)
	if got := a.EjectedUntil().Sub(clock.Now()); got != 20*time.Second {
		t.Errorf("the second ejection takes %v; want 20s", got)
	}
	b = p.Backends()[1]
	b.SetUp(false)
	b.Drain(true)
	p = move(p)
	if b = p.Backends()[1]; b.Healthy() || b.State() != Drained {
		t.Errorf("healthy %v, %v; want the verdict down, and drained", b.Healthy(), b.State())
	}
}

func TestStandingRemembersRecentFailures(t *testing.T) {
	clock := newFakeClock()
	build := func() *Backend {
		b := NewBackend("a", "a:1")
		NewPool(RoundRobin{}, Options{Clock: clock}, []*Backend{b})
		return b
	}
	before, b := build(), build()
	for range 3 {
		before.failed()
	}
	if b.Stand(before.Standing()); b.penalty() != before.penalty() || b.penalty() == 0 {
		t.Errorf("penalty %d; want %d", b.penalty(), before.penalty())
	}
	if clock.advance(time.Minute); b.penalty() != 0 {
		t.Errorf("penalty %d after a minute; want none", b.penalty())
	}
}

// TestAdopt lends what is down and full.
func TestAdopt(t *testing.T) {
	b := NewBackend("a", "a:1")
	b.Configure(1, 1, false)
	NewPool(RoundRobin{}, Options{}, []*Backend{b})
	b.SetUp(false)
	l, waits := b.Adopt(false, true), b.Adopt(true, false)
	if b.Sessions() != 2 || b.Total() != 0 || !l.Doubtful() || l.Waiting() || !waits.Waiting() || b.waiting.Load() != 1 {
		t.Errorf("%d sessions, %d picks, %+v, %+v", b.Sessions(), b.Total(), l, waits)
	}
	l.Done()
	waits.Done()
	if b.Sessions() != 0 || b.waiting.Load() != 0 {
		t.Errorf("%d sessions, %d wait at the end", b.Sessions(), b.waiting.Load())
	}
}
