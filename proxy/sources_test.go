package proxy

import (
	"net/netip"
	"sync"
	"testing"
	"time"
)

// checkSources checks what must hold between the table and the lists.
func checkSources(t *testing.T, s *sources, known, busy int) {
	t.Helper()
	if len(s.known) != known || s.busy.Len() != busy || s.idle.Len() != known-busy {
		t.Fatalf("%d sources are known, %d busy, %d idle; want %d, of which %d busy", len(s.known), s.busy.Len(), s.idle.Len(), known, busy)
	}
}

func TestSourceOf(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.1":             "10.0.0.1",
		"::ffff:10.0.0.1":      "10.0.0.1",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::",
		"2001:db8:1:2:ffff::":  "2001:db8:1:2::",
		"fe80::1%eth0":         "fe80::",
	} {
		if got := SourceOf(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("SourceOf(%s) = %s; want %s", in, got, want)
		}
	}
}

// Each step is a session that comes, or that ends.
func TestSourceLimits(t *testing.T) {
	type step struct {
		at   time.Duration
		from string // "-" before it: one of its sessions ends
		want refusal
	}
	for _, c := range []struct {
		name  string
		max   int
		rate  Rate
		steps []step
	}{
		{"sessions at a time", 2, Rate{}, []step{
			{0, "10.0.0.1", notRefused}, {0, "10.0.0.1", notRefused}, {0, "10.0.0.1", refusedSource}, {0, "10.0.0.2", notRefused},
			{0, "-10.0.0.1", 0}, {0, "10.0.0.1", notRefused}, {0, "::ffff:10.0.0.1", refusedSource},
		}},
		{"a /64 is one source", 1, Rate{}, []step{
			{0, "2001:db8::1", notRefused}, {0, "2001:db8::2", refusedSource}, {0, "2001:db8:0:1::1", notRefused},
		}},
		{"sessions a second", 0, Rate{2, 3}, []step{
			{0, "10.0.0.1", notRefused}, {0, "10.0.0.1", notRefused}, {0, "10.0.0.1", notRefused}, {0, "10.0.0.1", refusedRate},
			{0, "10.0.0.2", notRefused},
			{499 * time.Millisecond, "10.0.0.1", refusedRate}, {500 * time.Millisecond, "10.0.0.1", notRefused},
			{500 * time.Millisecond, "10.0.0.1", refusedRate}, // those refused have not used it up
			{time.Hour, "10.0.0.1", notRefused}, {time.Hour, "10.0.0.1", notRefused}, {time.Hour, "10.0.0.1", notRefused}, {time.Hour, "10.0.0.1", refusedRate},
		}},
		{"an end gives no rate back", 0, Rate{1, 1}, []step{
			{0, "10.0.0.1", notRefused}, {0, "-10.0.0.1", 0}, {0, "10.0.0.1", refusedRate}, {0, "10.0.0.9", notRefused}, {0, "10.0.0.1", refusedRate},
		}},
		{"who is over its sessions uses up no rate", 1, Rate{1, 2}, []step{
			{0, "10.0.0.1", notRefused}, {0, "10.0.0.1", refusedSource}, {0, "10.0.0.1", refusedSource}, {0, "-10.0.0.1", 0}, {0, "10.0.0.1", notRefused},
		}},
	} {
		var s sources
		o := &ListenerOptions{MaxSessionsPerSource: c.max, Rate: c.rate}
		start := time.Unix(1e9, 0)
		held := make(map[netip.Addr][]*source)
		for i, step := range c.steps {
			if step.from[0] == '-' {
				a := SourceOf(netip.MustParseAddr(step.from[1:]))
				s.leave(held[a][0], start.Add(step.at))
				held[a] = held[a][1:]
				continue
			}
			a := netip.MustParseAddr(step.from)
			x, why := s.admit(a, o, start.Add(step.at))
			if why != step.want {
				t.Errorf("%s: step %d: a session from %s is refused %q; want %q", c.name, i, a, why, step.want)
			}
			if x != nil {
				held[SourceOf(a)] = append(held[SourceOf(a)], x)
			}
		}
	}
}

// What nothing is held against any more takes no memory.
func TestIdleSourcesAreForgotten(t *testing.T) {
	var s sources
	start := time.Unix(1e9, 0)
	sessions := &ListenerOptions{MaxSessionsPerSource: 5}
	x, _ := s.admit(netip.MustParseAddr("10.0.0.1"), sessions, start)
	checkSources(t, &s, 1, 1)
	s.leave(x, start)
	checkSources(t, &s, 0, 0)

	rated := &ListenerOptions{Rate: Rate{10, 20}}
	for i := range 100 {
		x, _ := s.admit(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), rated, start)
		s.leave(x, start)
	}
	checkSources(t, &s, 100, 0)
	s.admit(netip.MustParseAddr("10.1.0.1"), rated, start.Add(1999*time.Millisecond))
	checkSources(t, &s, 101, 1)
	s.admit(netip.MustParseAddr("10.1.0.2"), rated, start.Add(2*time.Second)) // a burst's time later
	checkSources(t, &s, 2, 2)
}

// However many sources come, no more than so many are remembered: the one that has
// been quiet for the longest goes, and only then one with sessions.
func TestSourcesAreBounded(t *testing.T) {
	var s sources
	now := time.Unix(1e9, 0)
	o := &ListenerOptions{MaxSessionsPerSource: 1, Rate: Rate{0.001, 1}}
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	first, _ := s.admit(addr(0), o, now)
	second, _ := s.admit(addr(1), o, now)
	s.leave(second, now)
	for i := 2; i < mostSources; i++ {
		s.admit(addr(i), o, now)
	}
	checkSources(t, &s, mostSources, mostSources-1)
	s.admit(addr(mostSources), o, now)
	checkSources(t, &s, mostSources, mostSources)
	if s.known[addr(1)] != nil || s.known[addr(0)] != first {
		t.Error("at the bound a source with a session was forgotten; want the one without")
	}
	s.admit(addr(mostSources+1), o, now)
	checkSources(t, &s, mostSources, mostSources)
	if s.known[addr(0)] != nil {
		t.Error("the first of sources that all have sessions is still known; want it forgotten")
	}
	again, why := s.admit(addr(0), o, now)
	if why != notRefused {
		t.Errorf("a source that was forgotten is refused: %v; want it to begin anew", why)
	}
	s.leave(first, now) // which counts for nobody any more
	if again.sessions != 1 || s.known[addr(0)] != again {
		t.Errorf("the end of a forgotten session left %d of one; want it to count for nobody", again.sessions)
	}
	checkSources(t, &s, mostSources, mostSources)
}

// A rate that a reload has changed holds for who is known already.
func TestRateChanges(t *testing.T) {
	var s sources
	now, a := time.Unix(1e9, 0), netip.MustParseAddr("10.0.0.1")
	if s.admit(a, &ListenerOptions{Rate: Rate{1, 1}}, now); len(s.known) != 1 {
		t.Fatal("no source")
	}
	for i, want := range []refusal{notRefused, notRefused, refusedRate} {
		if _, why := s.admit(a, &ListenerOptions{Rate: Rate{1, 2}}, now); why != want {
			t.Errorf("session %d under the new rate: %q; want %q", i, why, want)
		}
	}
	if _, why := s.admit(a, &ListenerOptions{MaxSessionsPerSource: 4}, now); why != notRefused {
		t.Errorf("without a rate: %q; want it let in", why)
	}
	if _, why := s.admit(a, &ListenerOptions{MaxSessionsPerSource: 4}, now); why != refusedSource {
		t.Errorf("the fifth of four: %q; want it refused: those from before count", why)
	}
}

// All loops share the limits.
func TestSourcesAreShared(t *testing.T) {
	var s sources
	o := &ListenerOptions{MaxSessionsPerSource: 3, Rate: Rate{1e6, 1e6}}
	now, a := time.Unix(1e9, 0), netip.MustParseAddr("10.0.0.1")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				x, _ := s.admit(a, o, now)
				s.mu.Lock()
				if k := s.known[SourceOf(a)]; k != nil && k.sessions > 3 {
					t.Errorf("%d sessions of three", k.sessions)
				}
				s.mu.Unlock()
				if x != nil {
					s.leave(x, now)
				}
			}
		})
	}
	wg.Wait()
	checkSources(t, &s, 1, 0)
}
