package stats

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBucketsAreContiguous(t *testing.T) {
	for i := range buckets {
		if got := bucket(upper(i)); got != i {
			t.Fatalf("bucket(upper(%d) = %d) = %d; want %d", i, upper(i), got, i)
		}
		if i+1 < buckets {
			if got := bucket(upper(i) + 1); got != i+1 {
				t.Fatalf("bucket(upper(%d)+1 = %d) = %d; want %d", i, upper(i)+1, got, i+1)
			}
		}
	}
}

func TestQuantileIsNearTheExactOne(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	var all []time.Duration
	for range 100_000 {
		d := time.Duration(random.ExpFloat64() * float64(200*time.Microsecond))
		all = append(all, d)
		h.Record(d)
	}
	slices.Sort(all)
	for _, q := range []float64{0.5, 0.9, 0.99, 0.999, 1} {
		exact := all[min(len(all)-1, int(q*float64(len(all))))]
		got := h.Quantile(q)
		if off := float64(got)/float64(exact) - 1; off < -0.02 || off > 0.02 {
			t.Errorf("Quantile(%v) = %v; want %v within 2 %%", q, got, exact)
		}
	}
	if got, want := h.Max(), all[len(all)-1]; got != want {
		t.Errorf("Max() = %v; want %v", got, want)
	}
}

func TestHistogramOfFewValues(t *testing.T) {
	var h Histogram
	if got := h.Quantile(0.5); got != 0 {
		t.Errorf("Quantile(0.5) of an empty histogram = %v; want 0", got)
	}
	h.Record(-time.Second)
	h.Record(3 * time.Second)
	if got := h.Quantile(0.5); got != 0 {
		t.Errorf("Quantile(0.5) of a negative duration and 3s = %v; want 0", got)
	}
	if got := h.Quantile(1); got != 3*time.Second {
		t.Errorf("Quantile(1) = %v; want 3s, the maximum", got)
	}
	if h.Reset(); h.Count() != 0 || h.Max() != 0 {
		t.Errorf("after Reset: %d values, maximum %v; want none", h.Count(), h.Max())
	}
}

func TestSummarize(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []float64
		want   Summary
	}{
		{"none", nil, Summary{}},
		{"one", []float64{7}, Summary{7, 7, 7, 1}},
		{"an odd number", []float64{9, 1, 4}, Summary{4, 1, 9, 3}},
		{"an even number", []float64{9, 1, 4, 6}, Summary{5, 1, 9, 4}},
	} {
		values := slices.Clone(c.values)
		if got := Summarize(c.values); got != c.want {
			t.Errorf("%s: Summarize(%v) = %+v; want %+v", c.name, c.values, got, c.want)
		}
		if !slices.Equal(values, c.values) {
			t.Errorf("%s: Summarize has changed its argument to %v", c.name, c.values)
		}
	}
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	got := Ratios([]float64{2, 0, 9, 5}, []float64{1, 4, 3, 0})
	if want := []float64{2, 3}; !slices.Equal(got, want) {
		t.Errorf("Ratios = %v; want %v: rounds without a value are left out", got, want)
	}
}

func BenchmarkRecord(b *testing.B) {
	var h Histogram
	for b.Loop() {
		h.Record(123456)
	}
}
