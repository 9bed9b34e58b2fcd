package admin

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"agiproxy/proxy"
)

const (
	snapshotInterval = time.Second
	// historyLength is five minutes: long enough to see when something began.
	historyLength = 300
	// recentEndings is how many endings a watcher begins with.
	recentEndings = 100
	// mostWatchers is more than look at one agiproxy, and few enough to be no load.
	mostWatchers = 64
)

// A watch looks at the controller once a second, and shows what it saw to all who
// watch. Its methods are safe for concurrent use.
//
// Counts are taken in any case, so that whoever comes sees the last minutes at
// once; pools and endings, which cost more, only while somebody watches.
type watch struct {
	control Controller

	mu       sync.Mutex
	watchers map[*watcher]struct{}
	now      *Snapshot // the last one; nil if nobody has watched then
	past     []Point   // the oldest first
	totals   proxy.Totals
	counted  time.Time // when totals were taken
	recent   []Ending  // the last ones, newest first; as of now
}

// A watcher is somebody who is shown snapshots, encoded.
type watcher struct {
	events chan []byte // one at most
	behind bool        // it was too slow for one; watch.mu guards it
}

func newWatch(c Controller) *watch {
	return &watch{control: c, watchers: make(map[*watcher]struct{})}
}

// run looks until ctx ends.
func (w *watch) run(ctx context.Context) {
	tick := time.NewTicker(snapshotInterval)
	defer tick.Stop()
	w.look()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.look()
		}
	}
}

// join adds a watcher, whose first event is there already; nil if there are too
// many. It must leave.
func (w *watch) join() *watcher {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.watchers) >= mostWatchers {
		return nil
	}
	if w.now == nil {
		w.now = w.snapshot()
	}
	one := &watcher{events: make(chan []byte, 1)}
	one.events <- w.whole()
	w.watchers[one] = struct{}{}
	return one
}

func (w *watch) leave(one *watcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.watchers, one)
}

// look counts, and shows what there is now to those who watch.
func (w *watch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count()
	if w.now = nil; len(w.watchers) > 0 {
		w.now = w.snapshot()
		w.show()
	}
}

// count adds a point to the history. w.mu is held.
func (w *watch) count() {
	status, totals, now := w.control.Status(), w.control.Totals(), time.Now()
	p := Point{Time: now, Sessions: status.Sessions, Queued: status.Queued}
	if passed := now.Sub(w.counted).Seconds(); !w.counted.IsZero() && passed > 0 {
		diff := totals.Since(w.totals)
		rate := func(n uint64) float64 { return float64(n) / passed }
		p.Rates = Rates{Sessions: rate(diff.Sessions()), Commands: rate(diff.Commands), Failures: rate(diff.Failures())}
		if q := NewQuantiles(diff.Dispatch); q != nil {
			p.Latencies = Latencies{&q.P50, &q.P99}
		}
	}
	w.totals, w.counted = totals, now
	if len(w.past) == historyLength {
		w.past = append(w.past[:0], w.past[1:]...)
	}
	w.past = append(w.past, p)
}

// snapshot tells how it is now. Its endings are those since the one before. w.mu
// is held.
func (w *watch) snapshot() *Snapshot {
	var after uint64
	if len(w.recent) > 0 {
		after = w.recent[0].Number
	}
	s := &Snapshot{
		Time: time.Now(), Status: w.control.Status(), Pools: w.control.Pools(),
		Endings: w.control.Endings(after), History: []Point{},
	}
	if len(w.past) > 0 {
		last := w.past[len(w.past)-1]
		s.Rates, s.Latencies = last.Rates, last.Latencies
	}
	w.recent = append(s.Endings[:len(s.Endings):len(s.Endings)], w.recent...)
	w.recent = w.recent[:min(len(w.recent), recentEndings)]
	return s
}

// show gives the snapshot to all watchers, and to one that missed some a whole
// one. It waits for nobody. w.mu is held.
func (w *watch) show() {
	var next, whole []byte // encoded once for all
	for one := range w.watchers {
		event := &next
		if one.behind {
			event = &whole
		}
		if *event == nil {
			if one.behind {
				whole = w.whole()
			} else {
				next = encode(w.now)
			}
		}
		select {
		case one.events <- *event:
			one.behind = false
		default:
			one.behind = true
		}
	}
}

// whole is the snapshot with all that came before it, encoded. w.mu is held.
func (w *watch) whole() []byte {
	s := *w.now
	s.Whole, s.History, s.Endings = true, w.past, w.recent
	if s.History == nil {
		s.History = []Point{}
	}
	return encode(&s)
}

func encode(s *Snapshot) []byte {
	data, err := json.Marshal(s)
	if err != nil {
		panic(err) // it's made of strings and finite numbers alone
	}
	return data
}
