package main

import (
	"fmt"
	"io"
	"unicode"

	"agiproxy/internal/agisim"
)

// A printer writes a call's dialogue, a line each.
type printer struct {
	out    io.Writer
	header int // its lines so far
}

func newPrinter(out io.Writer) *printer { return &printer{out: out} }

func (p *printer) print(e agisim.Event) {
	switch e.Kind {
	case agisim.Connected:
		p.line(e, "connected to "+e.Text)
	case agisim.Header:
		if p.header++; e.Text == "" {
			p.line(e, fmt.Sprintf("header sent, %d lines", p.header))
		}
	case agisim.Received:
		p.line(e, "< "+printable(e.Text))
	case agisim.Sent:
		p.line(e, "> "+printable(e.Text))
	case agisim.Left:
		p.line(e, "the caller hangs up")
	case agisim.Closed:
		if e.Text == "" {
			e.Text = "closed"
		}
		p.line(e, e.Text)
	}
}

func (p *printer) line(e agisim.Event, text string) {
	fmt.Fprintf(p.out, "%8.3f  %s\n", e.Elapsed.Seconds(), text)
}

// printable keeps a peer's bytes from steering the terminal: by escape sequences,
// which some terminals have begin with one character of U+0080 to U+009F too, or by
// what has text run from right to left.
func printable(s string) string {
	clean := []rune(s)
	for i, r := range clean {
		if !unicode.IsGraphic(r) && r != '\t' {
			clean[i] = '�'
		}
	}
	return string(clean)
}
