package loop

import (
	"container/heap"
	"time"
)

// A timer stands in the heap at a time that is not later than when it runs out:
// being put off, which is what happens to timers most of the time, costs nothing
// until then.
type timer struct {
	at    time.Duration // 0: stopped
	key   time.Duration // where it stands in the heap
	place int32         // in the heap, counted from 1; 0: nowhere
}

// A timerHeap holds the connections of a loop that have timers, the earliest key
// first.
type timerHeap []*Conn

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].timer.key < h[j].timer.key }
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].timer.place, h[j].timer.place = int32(i+1), int32(j+1)
}
func (h *timerHeap) Push(x any) {
	c := x.(*Conn)
	*h = append(*h, c)
	c.timer.place = int32(len(*h))
}
func (h *timerHeap) Pop() any {
	last := len(*h) - 1
	c := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	c.timer.place = 0
	return c
}

// set has c's timer run out at that time, or never if at is 0.
func (h *timerHeap) set(c *Conn, at time.Duration) {
	t := &c.timer
	t.at = at
	switch {
	case at == 0:
	case t.place == 0:
		t.key = at
		heap.Push(h, c)
	case at < t.key:
		t.key = at
		heap.Fix(h, int(t.place-1))
	}
}

// remove forgets c's timer.
func (h *timerHeap) remove(c *Conn) {
	if c.timer.place > 0 {
		heap.Remove(h, int(c.timer.place-1))
	}
}

// next returns when fire should be called, and false if there is no timer.
func (h timerHeap) next() (time.Duration, bool) {
	if len(h) == 0 {
		return 0, false
	}
	return h[0].timer.key, true
}

// fire tells those whose time has come. A timer that one of them sets to now
// runs out at the next call, or the others would never get a turn.
func (h *timerHeap) fire(now time.Duration) {
	for range len(*h) {
		if len(*h) == 0 || (*h)[0].timer.key > now {
			return
		}
		c := (*h)[0]
		switch t := &c.timer; {
		case t.at > now:
			t.key = t.at
			heap.Fix(h, 0)
		case t.at == 0:
			heap.Pop(h)
		default:
			t.at = 0
			heap.Pop(h)
			c.handler.TimedOut()
		}
	}
}

// Timer is for a connection that is not one of the loop's, and yet is served by it:
// one that is carried by other means counts among the loop's connections, and has a
// timer like theirs. timedOut is called once at the time that set was given, 0 being
// never. After release neither does anything more. For handlers and Do only.
func (l *Loop) Timer(timedOut func()) (set func(at time.Duration), release func()) {
	c := &Conn{loop: l, handler: alarm(timedOut), fd: noFD, slot: noSlot}
	l.load.Add(1)
	return c.SetTimer, func() {
		if !c.closed {
			c.Close()
			l.load.Add(-1)
		}
	}
}

// An alarm is what runs out of a timer without a connection.
type alarm func()

func (alarm) Connected()      {}
func (alarm) Received([]byte) {}
func (alarm) Drained()        {}
func (alarm) Closed(error)    {}
func (a alarm) TimedOut()     { a() }

// Load returns how many connections the loop has. It may be called from anywhere.
func (l *Loop) Load() int { return int(l.load.Load()) }
