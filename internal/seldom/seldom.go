// Package seldom keeps a flood of events from becoming a flood of log records: of
// each kind one is told at once, and then one a second.
package seldom

import (
	"container/list"
	"sync"
	"time"
)

const (
	// interval is between two records of one kind.
	interval = time.Second
	// mostKinds bounds what is remembered, and with it how many records a second
	// may bring, whoever sends from however many addresses.
	mostKinds = 1024
)

// Records decides which events of which kinds are told. The zero value is ready
// for use; it is safe for concurrent use.
type Records[K comparable] struct {
	mu     sync.Mutex
	kinds  map[K]*list.Element
	told   list.List // of *kind[K]; the one that was told of the longest ago is the first
	others kind[K]   // those for which there was no room
}

type kind[K comparable] struct {
	name       K
	last       time.Time // that it was told of; zero: never
	suppressed uint64    // since then
}

// Tell reports whether an event of that kind is told now, and how many of its kind
// were not since the last one that was. As long as more than a thousand kinds are
// told of in one second, the others share one record.
func (r *Records[K]) Tell(name K, now time.Time) (suppressed uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.kinds[name]
	if at == nil {
		if at = r.add(name, now); at == nil {
			return r.others.tell(now)
		}
	}
	suppressed, ok = at.Value.(*kind[K]).tell(now)
	if ok {
		r.told.MoveToBack(at)
	}
	return suppressed, ok
}

func (k *kind[K]) tell(now time.Time) (suppressed uint64, ok bool) {
	if !k.last.IsZero() && now.Sub(k.last) < interval {
		k.suppressed++
		return 0, false
	}
	suppressed, k.suppressed, k.last = k.suppressed, 0, now
	return suppressed, true
}

// add begins to remember a kind, in the place of the one that was told of the
// longest ago if there are too many; nil if that was within the interval. What was
// suppressed of that one is told with the others.
func (r *Records[K]) add(name K, now time.Time) *list.Element {
	if r.kinds == nil {
		r.kinds = make(map[K]*list.Element)
	}
	if len(r.kinds) == mostKinds {
		first := r.told.Front()
		oldest := first.Value.(*kind[K])
		if now.Sub(oldest.last) < interval {
			return nil
		}
		r.others.suppressed += oldest.suppressed
		delete(r.kinds, oldest.name)
		r.told.Remove(first)
	}
	at := r.told.PushBack(&kind[K]{name: name})
	r.kinds[name] = at
	return at
}
