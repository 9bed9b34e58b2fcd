package main

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A color is an SGR parameter of ECMA-48; "" is the terminal's own.
type color string

const (
	ordinary color = ""
	bold     color = "1"
	dim      color = "2"
	red      color = "31"
	green    color = "32"
	yellow   color = "33"
)

// A span is a piece of a line in one color.
type span struct {
	text  string
	color color
}

// A line of the live view.
type line []span

func text(format string, args ...any) line { return line{{fmt.Sprintf(format, args...), ordinary}} }

// render cuts the line to width and paints it.
func (l line) render(width int, colored bool) string {
	var b strings.Builder
	for _, s := range l {
		t := s.text
		if n := utf8.RuneCountInString(t); n > width {
			if width < 1 {
				break
			}
			t = string([]rune(t)[:width-1]) + "…"
		}
		width -= utf8.RuneCountInString(t)
		if colored && s.color != ordinary && t != "" {
			t = "\x1b[" + string(s.color) + "m" + t + "\x1b[0m"
		}
		b.WriteString(t)
	}
	return b.String()
}

// frame is the live view of a scene, of at most height lines: the more
// important a part, the smaller a terminal has it.
func (sc *scene) frame(width, height int) (lines []line) {
	head := []line{
		{{"agiproxy demo", bold}, {fmt.Sprintf("   %s   listens on %s for %d simulated callers; ^C ends it", clock(sc.elapsed), sc.listen, sc.callers), ordinary}},
		nil,
	}
	foot := []line{nil, {{"To call it from a real Asterisk:", bold}}}
	for _, l := range sc.dialplan() {
		foot = append(foot, text("  %s", l))
	}
	foot = append(foot, text("Metrics: http://%s/metrics", sc.metrics))

	lines = append(lines, head...)
	lines = append(lines, sc.table(width)...)
	lines = append(lines, nil, sc.counts())
	story := []line{nil, {{"What happened", bold}}}
	room := height - len(lines)
	if room >= len(foot)+len(story)+1 {
		room -= len(foot)
	} else {
		foot = nil
	}
	if n := min(room-len(story), len(sc.events)); n > 0 {
		lines = append(lines, story...)
		for _, e := range sc.events[len(sc.events)-n:] {
			lines = append(lines, line{{fmt.Sprintf("%6s  ", clock(e.at)), dim}, {e.text, ordinary}})
		}
		room -= len(story) + n
	}
	for range room { // so that the foot stays where it is
		if foot != nil {
			lines = append(lines, nil)
		}
	}
	lines = append(lines, foot...)
	return lines[:min(len(lines), height)]
}

// table has a row for each server.
func (sc *scene) table(width int) []line {
	const server, address, state, counts = "%-8s", "%-17s", "%-19s", "%6v%8v  "
	who := server
	if width >= 70 {
		who += address
	} else {
		who += "%.0s" // the first that is gone without
	}
	lines := []line{{{fmt.Sprintf(who+state+counts, "Server", "Address", "State", "Calls", "Served"), bold}}}
	var all uint64
	for _, v := range sc.servers {
		all += v.served
	}
	bar := min(30, width-utf8.RuneCountInString(lines[0][0].text)-6)
	for _, v := range sc.servers {
		c := green
		switch {
		case !v.alive || v.state == "down":
			c = red
		case v.state != "up":
			c = yellow
		}
		share := 0.0
		if all > 0 {
			share = float64(v.served) / float64(all)
		}
		l := line{
			{fmt.Sprintf(who, v.name, v.address), ordinary},
			{fmt.Sprintf(state, v.words()), c},
			{fmt.Sprintf(counts, v.sessions, v.served), ordinary},
		}
		if bar >= 5 {
			full := int(share*float64(bar) + 0.5)
			l = append(l,
				span{strings.Repeat("█", full), c},
				span{strings.Repeat("░", bar-full), dim},
				span{fmt.Sprintf("%4.0f %%", 100*share), ordinary})
		}
		lines = append(lines, l)
	}
	return lines
}

// counts is the line that matters most.
func (sc *scene) counts() line {
	t := sc.totals
	failed := green
	if t.failed > 0 {
		failed = red
	}
	l := line{
		{"Calls", bold},
		{fmt.Sprintf("   %d under way   %d served   ", t.underWay, t.served), ordinary},
		{fmt.Sprintf("%d failed", t.failed), failed},
		{fmt.Sprintf("   %d moved away from a dead server", t.moved), ordinary},
	}
	if others := sc.sessions - t.underWay; others > 0 {
		l = append(l, span{fmt.Sprintf("   %d from elsewhere", others), ordinary})
	}
	return l
}
