package plot

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

func chart() *Bars {
	return &Bars{
		Title: "CPU per session", Unit: "µs & less is better", Mark: 1,
		Groups: []Group{
			{Name: "set-up", Bars: []Bar{
				{Label: "agiproxy", Value: 0.8, Min: 0.7, Max: 0.9, Ours: true},
				{Label: "a <peer>", Value: 1.2},
			}},
			{Name: "commands", Bars: []Bar{{Label: "agiproxy", Value: 0.9, Text: "0.9 of it"}}},
		},
	}
}

func TestSVGIsWellFormed(t *testing.T) {
	for name, c := range map[string]*Bars{"full": chart(), "empty": {}, "of zeros": {Groups: []Group{{Bars: []Bar{{}}}}}} {
		d := xml.NewDecoder(strings.NewReader(string(c.SVG())))
		for {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v in\n%s", name, err, c.SVG())
			}
		}
		if got := string(c.SVG()); strings.Contains(got, "NaN") || strings.Contains(got, "Inf") {
			t.Errorf("%s: a place that is no number in\n%s", name, got)
		}
	}
}

func TestSVGShowsEverything(t *testing.T) {
	got := string(chart().SVG())
	for _, want := range []string{"CPU per session", "µs &amp; less is better", "a &lt;peer&gt;", "set-up", "commands", "0.9 of it",
		`class="ours"`, `class="mark"`, `class="spread"`, "prefers-color-scheme:dark"} {
		if !strings.Contains(got, want) {
			t.Errorf("the chart has no %q:\n%s", want, got)
		}
	}
	if n := strings.Count(got, "<rect"); n != 3 {
		t.Errorf("the chart has %d bars; want 3", n)
	}
	if n := strings.Count(got, `class="spread"`); n != 1 {
		t.Errorf("the chart has %d whiskers; want 1: only one bar has a spread", n)
	}
}

func TestScaleHasFewRoundSteps(t *testing.T) {
	for _, largest := range []float64{0.003, 0.9, 1, 1.3, 7, 45, 130, 9999, 1e6} {
		step := scaleStep(largest)
		if n := math.Ceil(largest / step); n < 2 || n > 6 {
			t.Errorf("scaleStep(%v) = %v, which are %v steps; want 2 to 6", largest, step, n)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.834: "0.83", 3: "3", 14.26: "14.3", 130.4: "130", 7384: "7,384", 1234567: "1,234,567", -1234: "-1,234", -123: "-123"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %q; want %q", v, got, want)
		}
	}
}
