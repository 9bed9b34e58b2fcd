package loop

import (
	"math/rand/v2"
	"testing"
	"time"
)

// A stopwatch is a timer's owner that knows when it must run out.
type stopwatch struct {
	t     *testing.T
	heap  *timerHeap
	conn  *Conn
	due   time.Duration // 0: never
	now   *time.Duration
	fired int
	again time.Duration // after which it runs out anew; 0: never, -1: at once
}

func (*stopwatch) Connected()      {}
func (*stopwatch) Received([]byte) {}
func (*stopwatch) Drained()        {}
func (*stopwatch) Closed(error)    {}

func (s *stopwatch) TimedOut() {
	if s.due == 0 || s.due > *s.now {
		s.t.Fatalf("ran out at %v; want %v", *s.now, s.due)
	}
	s.fired++
	s.due = 0
	if s.again != 0 {
		s.due = *s.now + max(0, s.again)
		s.heap.set(s.conn, s.due)
	}
}

// TestTimers compares the heap with the rules, over random settings.
func TestTimers(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var heap timerHeap
	var now time.Duration = 1
	all := make([]*stopwatch, 50)
	for i := range all {
		all[i] = &stopwatch{t: t, heap: &heap, now: &now}
		all[i].conn = &Conn{handler: all[i]}
	}
	for range 200_000 {
		s := all[rng.IntN(len(all))]
		switch rng.IntN(10) {
		case 0:
			heap.remove(s.conn)
			s.due = 0
		case 1:
			heap.set(s.conn, 0)
			s.due = 0
		case 2, 3:
			now += time.Duration(rng.IntN(20))
			for heap.fire(now); len(heap) > 0 && heap[0].timer.key <= now; heap.fire(now) {
			}
			for _, s := range all {
				if s.due != 0 && s.due <= now {
					t.Fatalf("timer for %v has not run out at %v", s.due, now)
				}
			}
		case 4:
			s.again = time.Duration(rng.IntN(2) * 50)
		default:
			s.due = now + 1 + time.Duration(rng.IntN(100))
			heap.set(s.conn, s.due)
		}
		if next, ok := heap.next(); ok {
			for _, s := range all {
				if s.due != 0 && s.due < next {
					t.Fatalf("next() = %v, but a timer runs out at %v", next, s.due)
				}
			}
		}
	}
}

// TestTimerSetToNow has the others get their turn all the same.
func TestTimerSetToNow(t *testing.T) {
	var heap timerHeap
	now := time.Second
	greedy := &stopwatch{t: t, heap: &heap, now: &now, due: now, again: -1}
	greedy.conn = &Conn{handler: greedy}
	heap.set(greedy.conn, now)
	for want := 1; want < 4; want++ {
		if heap.fire(now); greedy.fired != want {
			t.Fatalf("after fire %d: ran out %d times; want %d", want, greedy.fired, want)
		}
	}
}
