// Package stats has what the benchmark counts with: a histogram of durations,
// and medians of few values with their spread.
package stats

import (
	"math/bits"
	"time"
)

const (
	// subBits is the histogram's resolution: 2^subBits buckets for each power
	// of two, so that a value is told to 1/64 of itself.
	subBits = 6
	sub     = 1 << subBits
	// buckets are enough for every int64 that isn't negative.
	buckets = (64 - subBits) * sub
)

// A Histogram counts durations in log-linear buckets: its error is below 1.6 %
// whatever their size. The zero value is empty. It is not safe for concurrent
// use.
type Histogram struct {
	counts [buckets]uint64
	count  uint64
	max    time.Duration
}

// Record counts d; less than nothing counts as nothing.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(uint64(d))]++
	h.count++
	h.max = max(h.max, d)
}

// Reset empties h.
func (h *Histogram) Reset() { *h = Histogram{} }

// Count returns how many durations were recorded.
func (h *Histogram) Count() uint64 { return h.count }

// Max returns the longest duration recorded, exactly; 0 if there is none.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile returns the duration that the share q, from 0 to 1, of all recorded
// ones doesn't exceed; 0 if there is none. It is the upper end of a bucket, but
// never more than Max.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.count == 0 {
		return 0
	}
	want := max(1, uint64(q*float64(h.count)+0.5))
	var seen uint64
	for i, n := range h.counts {
		if seen += n; seen >= want {
			return min(time.Duration(upper(i)), h.max)
		}
	}
	return h.max
}

// bucket returns where v is counted: below 2*sub each value has its own bucket,
// above it the highest subBits+1 bits decide.
func bucket(v uint64) int {
	if v < 2*sub {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return shift*sub + int(v>>shift)
}

// upper returns the largest value that is counted in bucket i.
func upper(i int) uint64 {
	if i < 2*sub {
		return uint64(i)
	}
	shift := i/sub - 1
	return uint64(i-shift*sub+1)<<shift - 1
}
