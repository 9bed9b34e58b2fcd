package loop

import (
	"container/heap"
	"time"
)

// A timer belongs to a connection, or to a listener that rests. It stands in
// the heap at a time that is not later than when it runs out: being put off,
// which is what happens to timers most of the time, costs nothing until then.
type timer struct {
	owner interface{ expired() }
	at    time.Duration // 0: stopped
	key   time.Duration // where it stands in the heap
	place int32         // in the heap, counted from 1; 0: nowhere
}

// A timerHeap holds a loop's timers, the earliest key first.
type timerHeap []*timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].key < h[j].key }
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = int32(i+1), int32(j+1)
}
func (h *timerHeap) Push(x any) {
	t := x.(*timer)
	*h = append(*h, t)
	t.place = int32(len(*h))
}
func (h *timerHeap) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	t.place = 0
	return t
}

// set has t run out at that time, or never if at is 0.
func (h *timerHeap) set(t *timer, at time.Duration) {
	t.at = at
	switch {
	case at == 0:
	case t.place == 0:
		t.key = at
		heap.Push(h, t)
	case at < t.key:
		t.key = at
		heap.Fix(h, int(t.place-1))
	}
}

// remove forgets t.
func (h *timerHeap) remove(t *timer) {
	if t.place > 0 {
		heap.Remove(h, int(t.place-1))
	}
}

// next returns when fire should be called, and false if there is no timer.
func (h timerHeap) next() (time.Duration, bool) {
	if len(h) == 0 {
		return 0, false
	}
	return h[0].key, true
}

// fire tells the owners whose time has come. A timer that one of them sets to
// now runs out at the next call, or the others would never get a turn.
func (h *timerHeap) fire(now time.Duration) {
	for range len(*h) {
		if len(*h) == 0 || (*h)[0].key > now {
			return
		}
		t := (*h)[0]
		switch {
		case t.at > now:
			t.key = t.at
			heap.Fix(h, 0)
		case t.at == 0:
			heap.Pop(h)
		default:
			t.at = 0
			heap.Pop(h)
			t.owner.expired()
		}
	}
}
