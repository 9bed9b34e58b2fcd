package balancer

import (
	"errors"
	"testing"
)

func TestPoolHasALimit(t *testing.T) {
	everyPolicy(t, func(t *testing.T, policy Policy) {
		b := newBackends(1, 1, 1)
		pool := NewPool(policy, Options{Sessions: 4}, b)
		var loans []Loan
		for range 4 {
			loans = append(loans, mustPick(t, pool))
		}
		if loan, err := pool.Pick(nil, 0); !errors.Is(err, ErrPoolFull) {
			t.Errorf("the fifth of four: Pick = %v, %v; want ErrPoolFull", loan.Backend(), err)
		}
		loans[1].Done()
		mustPick(t, pool)
		if _, err := pool.Pick(nil, 0); !errors.Is(err, ErrPoolFull) {
			t.Errorf("Pick = %v; want ErrPoolFull", err)
		}
	})
}

func TestARoomInThePoolServesTheHead(t *testing.T) {
	b := newBackends(1, 1)
	pool := NewPool(LeastConnections{}, Options{Sessions: 2, Queue: 10}, b)
	first, second := mustPick(t, pool), mustPick(t, pool)
	ahead, behind := newGuest("ahead", first.Backend()), newGuest("behind")
	mustWait(t, pool, ahead)
	mustWait(t, pool, behind)
	wantServed(t, ahead, nil)
	other := second.Backend()
	first.Done() // a place in the pool, which the head can use on the other backend
	loan := wantServed(t, ahead, other)
	wantServed(t, behind, nil)
	loan.Done()
	if l := behind.served(); l.Backend() == nil {
		t.Error("a free place in the pool served nobody; want the one who waits")
	}
}

// A reload keeps the count: of what goes on, also on backends that are there no more.
func TestALimitSurvivesAReload(t *testing.T) {
	b := newBackends(1, 1)
	before := NewPool(LeastConnections{}, Options{}, b)
	loans := []Loan{mustPick(t, before), mustPick(t, before), mustPick(t, before)}
	after := NewPool(LeastConnections{}, Options{Sessions: 3, Queue: 5}, []*Backend{b[0], newBackends(1)[0]})
	after.Inherit(before)
	if _, err := after.Pick(nil, 0); !errors.Is(err, ErrPoolFull) {
		t.Errorf("with three sessions from before: Pick = %v; want ErrPoolFull", err)
	}
	last := NewPool(LeastConnections{}, Options{Sessions: 3, Queue: 5}, newBackends(1))
	last.Inherit(after)
	if _, err := before.Pick(nil, 0); !errors.Is(err, ErrPoolFull) {
		t.Errorf("after two reloads: Pick of the first version = %v; want ErrPoolFull", err)
	}
	g := newGuest("guest")
	mustWait(t, last, g)
	wantServed(t, g, nil)
	for i := range loans {
		if loans[i].Backend() == b[1] { // of which the pool has nothing any more
			loans[i].Done()
			break
		}
	}
	wantServed(t, g, last.backends[0])

	higher := NewPool(LeastConnections{}, Options{Sessions: 5, Queue: 5}, last.backends)
	waiting := []*guest{newGuest("a"), newGuest("b"), newGuest("c")}
	for _, g := range waiting {
		mustWait(t, last, g)
	}
	higher.Inherit(last)
	wantServed(t, waiting[0], last.backends[0])
	wantServed(t, waiting[1], last.backends[0])
	wantServed(t, waiting[2], nil)
}

// What another process has lent counts.
func TestAdoptedSessionsCountForTheLimit(t *testing.T) {
	b := newBackends(1)
	pool := NewPool(RoundRobin{}, Options{Sessions: 2}, b)
	one, two := b[0].Adopt(true, false), b[0].Adopt(false, false)
	if _, err := pool.Pick(nil, 0); !errors.Is(err, ErrPoolFull) {
		t.Errorf("with two adopted of two: Pick = %v; want ErrPoolFull", err)
	}
	one.Done()
	mustPick(t, pool)
	two.Done()
}

// Of two who pick at the same time one gets the last place.
func TestTheLastPlaceGoesToOne(t *testing.T) {
	pool := NewPool(LeastConnections{}, Options{Sessions: 1}, newBackends(1, 1, 1))
	for round := range 20_000 {
		var loans [2]Loan
		together(func() { loans[0], _ = pool.Pick(nil, 0) }, func() { loans[1], _ = pool.Pick(nil, 0) })
		given := 0
		for i := range loans {
			if loans[i].Backend() != nil {
				given++
				loans[i].Done()
			}
		}
		if given != 1 {
			t.Fatalf("round %d: %d of two got the only place; want 1", round, given)
		}
	}
}
