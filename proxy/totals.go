package proxy

import "time"

// Totals is what sessions have counted: since the process began, or between two
// moments.
type Totals struct {
	Ended    [NumOutcomes]uint64
	Commands uint64
	Dispatch Histogram               // from accept to the first command
	First    map[BackendID]Histogram // from the header's being sent to the first command
}

// BackendID names a backend.
type BackendID struct{ Pool, Backend string }

// Totals returns what was counted so far. It waits for the workers' loops.
func (s *Server) Totals() Totals {
	t := Totals{First: make(map[BackendID]Histogram)}
	sum := newHistogram(dispatchBounds)
	for pool, p := range s.counts().pools {
		for o, n := range p.ended {
			t.Ended[o] += n
		}
		for _, c := range p.commands {
			if c != nil {
				t.Commands += c.sent
			}
		}
		sum.add(&p.dispatch)
		for backend, b := range p.backends {
			t.First[BackendID{pool, backend}] = Histogram{b.first.bounds, b.first.buckets}
		}
	}
	t.Dispatch = Histogram{sum.bounds, sum.buckets}
	return t
}

// Since returns what was counted between before and t.
func (t Totals) Since(before Totals) Totals {
	d := Totals{Commands: t.Commands - before.Commands, First: make(map[BackendID]Histogram)}
	for o := range t.Ended {
		d.Ended[o] = t.Ended[o] - before.Ended[o]
	}
	d.Dispatch = t.Dispatch.since(before.Dispatch)
	for id, h := range t.First {
		d.First[id] = h.since(before.First[id])
	}
	return d
}

// Sessions returns how many sessions have ended.
func (t *Totals) Sessions() (n uint64) {
	for _, ended := range t.Ended {
		n += ended
	}
	return n
}

// Failures returns how many of them were not served as they should.
func (t *Totals) Failures() (n uint64) {
	for _, o := range [...]Outcome{Lost, NoBackend, NoRoute, BadHeader, Rejected, Timeout} {
		n += t.Ended[o]
	}
	return n
}

// A Histogram counts durations. The zero Histogram is empty.
type Histogram struct {
	bounds  []time.Duration
	buckets []uint64 // one more than bounds
}

func (h Histogram) since(before Histogram) Histogram {
	if before.buckets == nil {
		return h
	}
	d := Histogram{h.bounds, make([]uint64, len(h.buckets))}
	for i := range h.buckets {
		d.buckets[i] = h.buckets[i] - before.buckets[i]
	}
	return d
}

// Quantile returns a duration that at least the share q of those counted have
// not exceeded: the upper bound of a bucket, the largest for what is beyond all.
// It is false for an empty histogram.
func (h Histogram) Quantile(q float64) (time.Duration, bool) {
	var all uint64
	for _, n := range h.buckets {
		all += n
	}
	if all == 0 {
		return 0, false
	}
	var sum uint64
	for i, bound := range h.bounds {
		if sum += h.buckets[i]; float64(sum) >= q*float64(all) {
			return bound, true
		}
	}
	return h.bounds[len(h.bounds)-1], true
}
