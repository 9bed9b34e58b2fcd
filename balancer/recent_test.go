package balancer

import (
	"sync"
	"testing"
	"time"
)

func TestRecentFailuresCountAsSessions(t *testing.T) {
	clock := newFakeClock()
	backends := newBackends(1)
	NewPool(LeastConnections{}, Options{Clock: clock}, backends)
	b := backends[0]
	for i, want := range []int64{0, 3, 15, 63, 255, 1023, 4095, 16383, 65535, 65535, 65535} {
		if got := b.penalty(); got != want {
			t.Errorf("after %d failures they count as %d sessions; want %d", i, got, want)
		}
		fail(b, 1)
	}
	if b.State() != Up || b.Sessions() != 0 {
		t.Errorf("%v with %d sessions; want up, 0: it's the policy's business only", b.State(), b.Sessions())
	}
	clock.advance(memory - 1)
	for i, want := range []int64{65535, 16383, 4095, 1023, 255, 63, 15, 3, 0, 0} {
		if got := b.penalty(); got != want {
			t.Errorf("a moment before %v after the last failure they count as %d sessions; want %d", time.Duration(i+1)*memory, got, want)
		}
		clock.advance(memory)
	}
	if n := clock.armed(); n != 0 {
		t.Errorf("%d timers are armed and there is nothing to forget; want none", n)
	}
}

// Flags and failures share a word.
func TestRecentFailuresAndFlagsDontMix(t *testing.T) {
	clock := newFakeClock()
	backends := newBackends(1, 1)
	NewPool(LeastConnections{}, Options{Clock: clock}, backends)
	b := backends[0]
	var wg sync.WaitGroup
	for _, do := range []func(){
		func() { b.SetUp(false); b.SetUp(true) },
		func() { b.SetBusy(true); b.SetBusy(false) },
		func() { b.Drain(true); b.Drain(false) },
		func() { clock.advance(memory) },
		func() { fail(b, 1) },
		func() { fail(b, 2) },
	} {
		wg.Go(func() {
			for range 5000 {
				do()
			}
		})
	}
	wg.Wait()
	if n := clock.armed(); n > 1 {
		t.Errorf("%d timers are armed; want one for all of a backend's failures", n)
	}
	clock.advance(maxRecent * memory)
	if f := b.flags.Load(); f != 0 || clock.armed() != 0 {
		t.Errorf("flags %#x and %d timers at rest; want 0, none", f, clock.armed())
	}
}

// A server that accepts and closes has never a session, and would seem to be the
// one with the most room.
func TestABlackHoleAttractsFewSessions(t *testing.T) {
	for _, others := range []int{0, 1, 10, 1000} {
		clock := newFakeClock()
		backends := newBackends(1, 1, 1)
		pool := NewPool(LeastConnections{}, Options{Clock: clock}, backends)
		hole := backends[0]
		for _, b := range backends[1:] {
			for range others {
				lend(b)
			}
		}
		const seconds, perSecond = 60, 100
		for range seconds * perSecond {
			loan := mustPick(t, pool)
			if loan.Backend() == hole {
				loan.Failed()
			}
			loan.Done() // the others hold as many as before
			clock.advance(time.Second / perSecond)
		}
		// Five find out about a thousand; from then on one a second at the most.
		if got, most := hole.Total(), uint64(5+seconds); got > most {
			t.Errorf("others with %d sessions each: %d of %d sessions for the black hole; want at most %d", others, got, seconds*perSecond, most)
		}
	}
}
