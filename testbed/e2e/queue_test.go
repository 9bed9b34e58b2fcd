package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// one is a backend that takes one call at a time.
func one(b backend) special { return special{b, "max_sessions: 1"} }

// eventuallyQueued waits until n calls wait for a backend, as Prometheus sees it.
func (s *suite) eventuallyQueued(t *testing.T, n int) {
	t.Helper()
	eventually(t, 10*time.Second, fmt.Sprintf("agiproxy_queue_length is %d", n), func() bool {
		return s.prometheus.sum(t, "agiproxy_queue_length") == float64(n)
	})
}

// placeQueued places n calls that have to wait, each when the one before it is in
// the queue.
func (s *suite) placeQueued(t *testing.T, n int, d dial) []*call {
	t.Helper()
	var calls []*call
	for i := range n {
		calls = append(calls, s.placeOne(t, d))
		s.eventuallyQueued(t, i+1)
	}
	return calls
}

// eventuallyBegun waits until a server has begun so many scripts.
func eventuallyBegun(t *testing.T, b faultServer, n int) {
	t.Helper()
	eventually(t, 10*time.Second, fmt.Sprintf("%s has begun %d scripts", b.name, n), func() bool { return b.begun() == n })
	time.Sleep(200 * time.Millisecond) // so that a key ends the sound
}

// Callers wait in their order, and each gets the slot that another one frees. They
// hear music until then, and nothing of it afterwards.
func TestQueueServesInOrder(t *testing.T) {
	s := begin(t)
	b := s.fault(t, "ivr1", "")
	p := s.proxy(t, s.pool(`
		health: {probe: none}
		queue: {timeout: 30s, limit: 10, music: waiting}`, one(b)))
	atRest := p.atRest(t)
	calls := s.place(t, 1, s.script("ivr", hold))
	eventuallyBegun(t, b, 1)
	calls = append(calls, s.placeQueued(t, 4, s.script("ivr", hold))...)
	if story := calls[4].story(); story != "music waiting" {
		t.Errorf("the last caller has heard %q; want music waiting", story)
	}
	var results []result
	var order []string
	for i, c := range calls {
		eventuallyBegun(t, b, i+1)
		release(t, c)
		results = append(results, wait(t, 10*time.Second, c)...)
		order = append(order, c.uniqueID())
		want := "music waiting, silence, begun ivr1"
		if i == 0 {
			want = "begun ivr1" // without waiting
		}
		if story := c.story(); story != want {
			t.Errorf("caller %d: %q; want %q", i+1, story, want)
		}
	}
	mustBeServed(t, results)
	var served []string
	for _, c := range b.Calls() {
		served = append(served, c.UniqueID)
	}
	if !slices.Equal(served, order) {
		t.Errorf("calls by the order of service: %v; want %v", served, order)
	}
	p.account(t, results, map[string]int{"completed": len(calls)})
	if n := s.prometheus.sum(t, "agiproxy_queue_duration_seconds_count"); n != 4 {
		t.Errorf("agiproxy_queue_duration_seconds_count: %v; want 4", n)
	}
	p.mustLeakNothing(t, atRest)
}

// Who has waited for too long, and who finds the queue full, is told so. A caller who
// hangs up makes room.
func TestQueueTimesOutAndFillsUp(t *testing.T) {
	s := begin(t)
	b := s.fault(t, "ivr1", "")
	p := s.proxy(t, s.pool(`
		health: {probe: none}
		queue: {timeout: 6s, limit: 2, music: waiting}`, one(b)))
	atRest := p.atRest(t)
	served := s.place(t, 1, s.script("ivr", hold))
	eventuallyBegun(t, b, 1)

	waiting := s.placeQueued(t, 2, s.script("ivr", hold))
	full := wait(t, 5*time.Second, s.place(t, 5, s.script("ivr"))...)
	mustBe(t, full, "FAILURE", "QUEUEFULL")

	// the first of two leaves
	waiting[0].hangUp(t)
	left := wait(t, 5*time.Second, waiting[0])
	mustBe(t, left, "HANGUP", "")
	s.eventuallyQueued(t, 1)
	late := wait(t, 10*time.Second, waiting[1])
	mustBe(t, late, "FAILURE", "QUEUETIMEOUT")
	if story := waiting[1].story(); story != "music waiting, silence" {
		t.Errorf("the caller for whom it took too long: %q; want music waiting, silence", story)
	}
	s.eventuallyQueued(t, 0)

	// and nobody stands in the way of the next one
	served = append(served, s.placeQueued(t, 1, s.script("ivr", hold))...)
	release(t, served[0])
	eventuallyBegun(t, b, 2)
	release(t, served[1])
	results := wait(t, 10*time.Second, served...)
	mustBeServed(t, results)
	all := slices.Concat(full, left, late, results)
	p.account(t, all, map[string]int{"no_backend": len(full) + len(late), "hangup": len(left), "completed": len(results)})
	p.mustLeakNothing(t, atRest)
}

// A backend that comes up serves the head of the queue, without waiting for a call
// to end.
func TestQueueIsServedByABackendThatComesUp(t *testing.T) {
	s := begin(t)
	up, down := s.fault(t, "up", ""), s.fault(t, "down", "fault=refuse")
	p := s.proxy(t, s.pool(`
		health: {interval: 500ms, fast_interval: 100ms, rise: 2, fall: 2}
		queue: {timeout: 30s, limit: 10}`, one(up), one(down)))
	atRest := p.atRest(t)
	eventually(t, 10*time.Second, "the backend that refuses is down", func() bool {
		return s.prometheus.sum(t, `agiproxy_backend_up{backend="down"}`) == 0
	})
	calls := s.place(t, 1, s.script("ivr", hold))
	eventuallyBegun(t, up, 1)
	calls = append(calls, s.placeQueued(t, 2, s.script("ivr", hold))...)
	if err := down.Set(faultless); err != nil {
		t.Fatal(err)
	}
	eventuallyBegun(t, down, 1)
	if id := down.Calls()[0].UniqueID; id != calls[1].uniqueID() {
		t.Errorf("the backend that came up serves %s; want %s, the head of the queue", id, calls[1].uniqueID())
	}
	s.eventuallyQueued(t, 1)
	release(t, calls[1])
	eventuallyBegun(t, down, 2)
	release(t, calls[0], calls[2])
	results := wait(t, 10*time.Second, calls...)
	mustBeServed(t, results)
	p.account(t, results, map[string]int{"completed": len(calls)})
	p.mustLeakNothing(t, atRest)
}

// With all backends down callers wait as well, for the first one to come back.
func TestQueueOutlastsAnOutage(t *testing.T) {
	s := begin(t)
	const n = 10
	b := s.perl(t, "fork", "perl1", quick...)
	p := s.proxy(t, s.pool(`
		health: {interval: 500ms, fast_interval: 200ms, timeout: 3s, rise: 2, fall: 2}
		queue: {timeout: 30s, limit: 100, music: waiting}`, b))
	atRest := p.atRest(t)
	b.kill()
	eventually(t, 10*time.Second, "the backend is down", func() bool {
		return s.prometheus.sum(t, `agiproxy_backend_up{backend="perl1"}`) == 0
	})
	calls := s.place(t, n, s.script("ivr"))
	s.eventuallyQueued(t, n)
	b.start(t)
	results := wait(t, 20*time.Second, calls...)
	mustBeServed(t, results)
	p.account(t, results, map[string]int{"completed": n})
	p.mustLeakNothing(t, atRest)
}
