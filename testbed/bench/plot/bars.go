// Package plot draws bar charts as SVG files that read well on light and dark
// pages.
package plot

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
)

// Bars is a chart of horizontal bars in groups, which share one scale.
type Bars struct {
	Title  string
	Unit   string // beneath the scale
	Groups []Group
	Mark   float64 // where a line across is drawn, as for 1 in ratios; 0: none
}

// A Group is bars beneath a heading.
type Group struct {
	Name string
	Bars []Bar
}

// A Bar is a value with its spread, drawn as a whisker if there is one.
type Bar struct {
	Label           string
	Value, Min, Max float64
	Text            string // beside the bar; "": the value
	Ours            bool   // drawn in the colour that stands out
}

// Sizes in pixels.
const (
	width      = 760
	labelWidth = 190
	textWidth  = 90
	plotWidth  = width - labelWidth - textWidth
	barHeight  = 18
	barStep    = 24
	headHeight = 28
	titleSpace = 44
	footSpace  = 46
)

const style = `<style>
text{font:13px system-ui,sans-serif;fill:#1f2328}
.title{font-size:16px;font-weight:600}.head{font-weight:600}.dim{fill:#59636e;font-size:12px}
.peer{fill:#8c959f}.ours{fill:#0969da}.grid{stroke:#d1d9e0}.mark{stroke:#cf222e;stroke-dasharray:4 3}.spread{stroke:#1f2328}
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.dim{fill:#9198a1}.peer{fill:#656c76}.ours{fill:#4493f8}.grid{stroke:#3d444d}.mark{stroke:#f85149}.spread{stroke:#f0f6fc}}
</style>
`

// SVG returns the chart as a file's content. The same chart gives the same
// bytes.
func (c *Bars) SVG() []byte {
	height := titleSpace + footSpace
	largest := c.Mark
	for _, g := range c.Groups {
		height += headHeight + barStep*len(g.Bars)
		for _, b := range g.Bars {
			largest = max(largest, b.Value, b.Max)
		}
	}
	step := scaleStep(largest)
	end := math.Max(1, math.Ceil(largest/step)) * step
	x := func(v float64) float64 { return labelWidth + plotWidth*v/end }

	var w bytes.Buffer
	fmt.Fprintf(&w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n", width, height, escape(c.Title))
	w.WriteString(style)
	fmt.Fprintf(&w, `<text class="title" x="0" y="20">%s</text>`+"\n", escape(c.Title))
	bottom := height - footSpace
	for i := 0; float64(i)*step <= end*1.0001; i++ {
		v := float64(i) * step
		fmt.Fprintf(&w, `<path class="grid" d="M%.1f %dV%d"/><text class="dim" x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			x(v), titleSpace-8, bottom+4, x(v), bottom+20, number(v))
	}
	fmt.Fprintf(&w, `<text class="dim" x="%d" y="%d">%s</text>`+"\n", labelWidth, bottom+38, escape(c.Unit))
	y := titleSpace
	for _, g := range c.Groups {
		fmt.Fprintf(&w, `<text class="head" x="0" y="%d">%s</text>`+"\n", y+headHeight-10, escape(g.Name))
		y += headHeight
		for _, b := range g.Bars {
			b.draw(&w, x, y)
			y += barStep
		}
	}
	if c.Mark > 0 {
		fmt.Fprintf(&w, `<path class="mark" d="M%.1f %dV%d"/>`+"\n", x(c.Mark), titleSpace-8, bottom+4)
	}
	w.WriteString("</svg>\n")
	return w.Bytes()
}

func (b *Bar) draw(w *bytes.Buffer, x func(float64) float64, y int) {
	class, text := "peer", b.Text
	if b.Ours {
		class = "ours"
	}
	if text == "" {
		text = number(b.Value)
	}
	middle := y + barHeight/2
	fmt.Fprintf(w, `<text x="%d" y="%d" text-anchor="end">%s</text>`, labelWidth-8, middle+4, escape(b.Label))
	fmt.Fprintf(w, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>`, class, labelWidth, y, max(1, x(b.Value)-labelWidth), barHeight)
	if b.Max > b.Min {
		fmt.Fprintf(w, `<path class="spread" d="M%.1f %dH%.1fM%.1f %dv8M%.1f %dv8"/>`,
			x(b.Min), middle, x(b.Max), x(b.Min), middle-4, x(b.Max), middle-4)
	}
	fmt.Fprintf(w, `<text x="%.1f" y="%d">%s</text>`+"\n", x(max(b.Value, b.Max))+6, middle+4, escape(text))
}

// scaleStep returns 1, 2 or 5 times a power of ten so that a scale up to
// largest has four to eight steps or so.
func scaleStep(largest float64) float64 {
	if largest <= 0 {
		return 1
	}
	rough := largest / 5
	power := math.Pow(10, math.Floor(math.Log10(rough)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= rough {
			return m * power
		}
	}
	return 10 * power
}

// number writes v with about three figures.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1000:
		s := fmt.Sprintf("%.0f", v)
		for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
			s = s[:i] + "," + s[i:]
		}
		return s
	case a >= 100 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

func escape(s string) string {
	var w bytes.Buffer
	// It fails only where writing does, which here can't.
	_ = xml.EscapeText(&w, []byte(s))
	return w.String()
}
