package agi

import "bytes"

// Lines cuts a stream into lines. The zero value is at the beginning of one. It
// is not safe for concurrent use.
type Lines struct {
	rest []byte // the line under way
}

// maxKept is how much of a line Lines keeps. Replies that anybody waits for are
// short.
const maxKept = 1024

// Feed takes the next bytes and calls each for every line that they complete,
// without its line end, until each returns false; what follows that line is
// dropped. Of a long line there is the first KiB. The line is valid during the
// call only.
func (l *Lines) Feed(p []byte, each func(line []byte) bool) {
	for len(p) > 0 {
		part, rest, whole := bytes.Cut(p, []byte("\n"))
		p = rest
		l.rest = append(l.rest, part[:min(len(part), maxKept-len(l.rest))]...)
		if !whole {
			return
		}
		line := trimEOL(l.rest)
		l.rest = l.rest[:0]
		if !each(line) {
			return
		}
	}
}
