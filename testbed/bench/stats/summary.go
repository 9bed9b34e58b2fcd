package stats

import "slices"

// A Summary is what some measurements of the same thing come to.
type Summary struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"n"`
}

// Summarize returns the median and the spread of values; the zero Summary if
// there are none.
func Summarize(values []float64) Summary {
	if len(values) == 0 {
		return Summary{}
	}
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	return Summary{Median: (s[(n-1)/2] + s[n/2]) / 2, Min: s[0], Max: s[n-1], N: n}
}

// Ratios returns values[i] / base[i] for each round i that both have; a round
// in which either is missing (0) is left out. Values of one round were measured
// next to each other, so what slows the whole machine for a while slows both.
func Ratios(values, base []float64) []float64 {
	var ratios []float64
	for i := range min(len(values), len(base)) {
		if values[i] != 0 && base[i] != 0 {
			ratios = append(ratios, values[i]/base[i])
		}
	}
	return ratios
}
