package plot

import (
	"bytes"
	"fmt"
	"math"
)

// Lines is a chart of values over time, or over something else that goes on.
type Lines struct {
	Title string
	Unit  string // beneath the scale
	Lines []Line
	Marks []float64 // where lines across are drawn, for what has happened there
}

// A Line is a series.
type Line struct {
	Name   string // at its end; "": none
	Points []Point
	Ours   bool // drawn in the colour that stands out
}

// A Point is one value of a series.
type Point struct{ X, Y float64 }

// Sizes in pixels.
const (
	linesHeight = 200 // of the plot
	scaleWidth  = 60
	nameWidth   = 90
	linesWidth  = width - scaleWidth - nameWidth
)

// SVG returns the chart as a file's content. The same chart gives the same
// bytes.
func (c *Lines) SVG() []byte {
	var largest Point
	for _, l := range c.Lines {
		for _, p := range l.Points {
			largest = Point{max(largest.X, p.X), max(largest.Y, p.Y)}
		}
	}
	stepX, stepY := scaleStep(largest.X), scaleStep(largest.Y)
	endX, endY := max(largest.X, stepX), math.Max(1, math.Ceil(largest.Y/stepY))*stepY
	bottom := float64(titleSpace + linesHeight)
	x := func(v float64) float64 { return scaleWidth + linesWidth*v/endX }
	y := func(v float64) float64 { return bottom - linesHeight*v/endY }

	var w bytes.Buffer
	fmt.Fprintf(&w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n", width, titleSpace+linesHeight+footSpace, escape(c.Title))
	w.WriteString(style + linesStyle)
	fmt.Fprintf(&w, `<text class="title" x="0" y="20">%s</text>`+"\n", escape(c.Title))
	for i := 0; float64(i)*stepY <= endY*1.0001; i++ {
		v := float64(i) * stepY
		fmt.Fprintf(&w, `<path class="grid" d="M%d %.1fH%d"/><text class="dim" x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			scaleWidth, y(v), scaleWidth+linesWidth, scaleWidth-6, y(v)+4, number(v))
	}
	for i := 0; float64(i)*stepX <= endX*1.0001; i++ {
		v := float64(i) * stepX
		fmt.Fprintf(&w, `<text class="dim" x="%.1f" y="%.0f" text-anchor="middle">%s</text>`+"\n", x(v), bottom+18, number(v))
	}
	fmt.Fprintf(&w, `<text class="dim" x="%d" y="%.0f">%s</text>`+"\n", scaleWidth, bottom+38, escape(c.Unit))
	for _, m := range c.Marks {
		fmt.Fprintf(&w, `<path class="mark" d="M%.1f %dV%.0f"/>`+"\n", x(m), titleSpace, bottom)
	}
	for _, l := range c.Lines {
		l.draw(&w, x, y)
	}
	w.WriteString("</svg>\n")
	return w.Bytes()
}

const linesStyle = `<style>.line{fill:none;stroke:#8c959f;stroke-width:1.5}.line.ours{fill:none;stroke:#0969da}.mark{opacity:.5}
@media(prefers-color-scheme:dark){.line{stroke:#656c76}.line.ours{stroke:#4493f8}}</style>
`

func (l *Line) draw(w *bytes.Buffer, x, y func(float64) float64) {
	if len(l.Points) == 0 {
		return
	}
	class := "line"
	if l.Ours {
		class = "line ours"
	}
	fmt.Fprintf(w, `<path class="%s" d="`, class)
	for i, p := range l.Points {
		fmt.Fprintf(w, "%c%.1f %.1f", "ML"[min(i, 1)], x(p.X), y(p.Y))
	}
	last := l.Points[len(l.Points)-1]
	fmt.Fprintf(w, `"/><text x="%.1f" y="%.1f">%s</text>`+"\n", x(last.X)+6, y(last.Y)+4, escape(l.Name))
}
