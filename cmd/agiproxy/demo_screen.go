package main

import (
	"bytes"
	"io"
	"os"

	"golang.org/x/term"
)

// A screen is a stage on a terminal, which it has for itself.
type screen struct {
	file  *os.File
	color bool
}

// What a terminal is told, as xterm documents it.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // alternate screen, no cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	beginFrame  = "\x1b[?2026h\x1b[H" // show nothing before the frame is whole
	endFrame    = "\x1b[J\x1b[?2026l"
	endLine     = "\x1b[K"
)

func (s *screen) begin(sc *scene) {
	_, _ = io.WriteString(s.file, enterScreen)
	s.draw(sc)
}

// draw writes over the last frame, in one write.
func (s *screen) draw(sc *scene) {
	width, height, err := term.GetSize(int(s.file.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		width, height = 80, 24
	}
	var b bytes.Buffer
	b.WriteString(beginFrame)
	for i, l := range sc.frame(width, height) {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(l.render(width, s.color))
		b.WriteString(endLine)
	}
	b.WriteString(endFrame)
	_, _ = s.file.Write(b.Bytes())
}

func (s *screen) end() { _, _ = io.WriteString(s.file, leaveScreen) }
