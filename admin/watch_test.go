package admin

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"agiproxy/proxy"
)

// A countedControl counts how often it is asked. In its process, which has done much
// before, each second brings 5 calls, one of which fails, and 20 commands.
type countedControl struct {
	*fakeControl
	began          time.Time
	pools, endings atomic.Int32
}

func newCountedControl() *countedControl {
	return &countedControl{fakeControl: newFakeControl(), began: time.Now()}
}

func (c *countedControl) seconds() uint64 { return uint64(time.Since(c.began) / time.Second) }

func (c *countedControl) Pools() []Pool {
	c.pools.Add(1)
	return c.fakeControl.Pools()
}

func (c *countedControl) Totals() (t proxy.Totals) {
	t.Ended[proxy.Completed], t.Ended[proxy.Lost], t.Commands = 4*c.seconds(), c.seconds(), 1000+20*c.seconds()
	return t
}

func (c *countedControl) Endings(after uint64) []Ending {
	c.endings.Add(1)
	all := []Ending{}
	for n := 5 * c.seconds(); n > after && len(all) < 100; n-- {
		all = append(all, Ending{Number: n})
	}
	return all
}

// watching has a watch run for a test, in a bubble.
func watching(t *testing.T, test func(*countedControl, *watch)) {
	synctest.Test(t, func(t *testing.T) {
		c := newCountedControl()
		w := newWatch(c)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.run(ctx)
		}()
		synctest.Wait() // it has looked for the first time
		test(c, w)
		cancel()
		<-done
	})
}

// next reads a watcher's event.
func next(t *testing.T, one *watcher) (s Snapshot) {
	t.Helper()
	if err := json.Unmarshal(<-one.events, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func numbers(endings []Ending) (all []uint64) {
	for _, e := range endings {
		all = append(all, e.Number)
	}
	return all
}

func TestWatchersShareSnapshots(t *testing.T) {
	watching(t, func(c *countedControl, w *watch) {
		time.Sleep(10*time.Second + time.Millisecond)
		var all []*watcher
		for range 10 {
			one := w.join()
			all = append(all, one)
			if s := next(t, one); !s.Whole || len(s.History) != 11 || len(s.Endings) != 50 {
				t.Fatalf("first snapshot: whole %v, %d points, %d endings; want 11 and 50", s.Whole, len(s.History), len(s.Endings))
			}
		}
		for second := range 5 {
			for i, one := range all {
				s := next(t, one)
				if want := uint64(5 * (11 + second)); s.Whole || len(s.History) != 0 || !slices.Equal(numbers(s.Endings), []uint64{want, want - 1, want - 2, want - 3, want - 4}) {
					t.Errorf("watcher %d, second %d: whole %v, %d points, endings %v; want the last five, to %d", i, second, s.Whole, len(s.History), numbers(s.Endings), want)
				}
				if want := (Rates{Sessions: 5, Commands: 20, Failures: 1}); s.Rates != want || s.Latencies.P50 != nil {
					t.Errorf("rates are %+v, latencies %+v; want %+v, and no latency of none", s.Rates, s.Latencies, want)
				}
				if s.Status.Version != "1.2.3" || len(s.Pools) != 2 {
					t.Errorf("snapshot: %+v; want the status and the pools", s)
				}
			}
		}
		if n := c.pools.Load(); n != 6 {
			t.Errorf("ten watchers in six seconds had the pools asked for %d times; want 6", n)
		}
	})
}

func TestNobodyWatches(t *testing.T) {
	watching(t, func(c *countedControl, w *watch) {
		one := w.join()
		w.leave(one)
		time.Sleep(time.Second + time.Millisecond)
		pools, endings := c.pools.Load(), c.endings.Load()
		time.Sleep(10 * time.Minute)
		if p, e := c.pools.Load(), c.endings.Load(); p != pools || e != endings {
			t.Errorf("with nobody there, pools were asked for %d times and endings %d times; want none", p-pools, e-endings)
		}
		one = w.join()
		defer w.leave(one)
		s := next(t, one)
		if first, last := s.History[0], s.History[len(s.History)-1]; len(s.History) != 300 || last.Time.Sub(first.Time) != 299*time.Second {
			t.Errorf("the first snapshot has %d points, from %v to %v; want five minutes", len(s.History), first.Time, last.Time)
		}
		if n := numbers(s.Endings); len(n) != 100 || n[0] != 5*601 || n[99] != n[0]-99 {
			t.Errorf("the first snapshot has the endings %v; want the last hundred", n)
		}
	})
}

func TestSlowWatchersMissSnapshots(t *testing.T) {
	watching(t, func(_ *countedControl, w *watch) {
		slow, quick := w.join(), w.join()
		next(t, quick)
		for range 10 {
			if s := next(t, quick); s.Whole {
				t.Fatal("who keeps up gets a whole snapshot again")
			}
		}
		synctest.Wait()
		next(t, slow) // the first one, which has waited
		s := next(t, slow)
		if !s.Whole || len(s.History) != 12 || len(s.Endings) != 55 {
			t.Errorf("who missed ten snapshots gets next: whole %v, %d points, %d endings; want all there is", s.Whole, len(s.History), len(s.Endings))
		}
		if s := next(t, slow); s.Whole || len(s.Endings) != 5 {
			t.Errorf("and then: whole %v, %d endings; want what is new", s.Whole, len(s.Endings))
		}
	})
}

func TestWatchersAreFew(t *testing.T) {
	watching(t, func(c *countedControl, w *watch) {
		var last *watcher
		for range mostWatchers {
			last = w.join()
		}
		h := handler(Options{Registry: registry(), Control: c}, w)
		r := httptest.NewRecorder()
		h.ServeHTTP(r, httptest.NewRequest("GET", "/api/v1/events", nil))
		if r.Code != 503 || !strings.Contains(r.Body.String(), "64 watch already") || r.Header().Get("Retry-After") == "" {
			t.Errorf("one too many: %d %s; want 503", r.Code, r.Body)
		}
		w.leave(last)
		if w.join() == nil {
			t.Error("there is no place although one has left")
		}
	})
}
