package proxy

import (
	"errors"
	"sync/atomic"
	"time"

	"agiproxy/agi"
)

// A Speaker is who sent a line.
type Speaker uint8

const (
	Asterisk Speaker = iota
	Backend
	Agiproxy // which speaks for itself, to Asterisk
)

// String returns the speaker in lower case.
func (s Speaker) String() string { return [...]string{"asterisk", "backend", "agiproxy"}[s] }

// A Line is one line of a dialogue, as it passed.
type Line struct {
	Time time.Time
	From Speaker
	Text string // without its line end; of one of a KiB and more the first KiB, and Cut
}

// Cut stands behind what is shown of a long line.
const Cut = " …"

// mostShown is how much of a line is kept, as [agi.Lines] does: a script that sends
// megabytes must not have them kept as often as lines are.
const mostShown = 1024

// mostTraces is how many traces there can be at one time, which keep a quarter of a
// megabyte each at most, and cost the loop some time for each line.
const mostTraces = 16

// ErrTraces says that there are as many traces as there can be.
var ErrTraces = errors.New("too many traces at one time")

// mostTraced is how many lines are kept for a reader who isn't there at once.
const mostTraced = 256

// A Trace reads a session's dialogue along. Its methods are safe for concurrent
// use. A reader who is slow never keeps the session waiting: it loses lines.
type Trace struct {
	worker  *Worker
	session *Session
	lines   chan Line
	lost    atomic.Uint64
	replies agi.Lines
	closed  atomic.Bool
}

// Trace reads along what passes from now on in the session of that id. The error
// is [ErrNoSession] or [ErrTraces]; else the trace must be closed.
func (s *Server) Trace(id uint32) (*Trace, error) {
	if s.traces.Add(1) > mostTraces {
		s.traces.Add(-1)
		return nil, ErrTraces
	}
	t := &Trace{lines: make(chan Line, mostTraced)}
	err := s.on(id, func(x *Session) {
		w := x.worker
		t.worker, t.session = w, x
		if w.traces == nil {
			w.traces = make(map[*Session][]*Trace)
		}
		w.traces[x] = append(w.traces[x], t)
		x.traced = true
	})
	if err != nil {
		s.traces.Add(-1)
		return nil, err
	}
	return t, nil
}

// Lines returns the lines, whose channel is closed at the session's end.
func (t *Trace) Lines() <-chan Line { return t.lines }

// Lost returns how many lines were lost so far, since they were not taken.
func (t *Trace) Lost() uint64 { return t.lost.Load() }

// Close ends the trace. It may be called after the session's end, and again.
func (t *Trace) Close() {
	if t.closed.Swap(true) {
		return
	}
	t.worker.server.traces.Add(-1)
	_ = t.worker.host.Do(func() { // which on a loop that has ended nobody needs
		w := t.worker
		all := w.traces[t.session]
		for i, other := range all {
			if other == t {
				all = append(all[:i:i], all[i+1:]...)
				break
			}
		}
		w.traces[t.session] = all
		if len(all) == 0 {
			t.session.traced = false
			delete(w.traces, t.session)
		}
	})
}

// add gives the reader a line, if there is room.
func (t *Trace) add(from Speaker, line []byte) {
	for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r') {
		line = line[:len(line)-1]
	}
	text := ""
	if len(line) < mostShown {
		text = string(line)
	} else {
		text = string(line[:mostShown]) + Cut
	}
	select {
	case t.lines <- Line{time.Now(), from, text}:
	default:
		t.lost.Add(1)
	}
}

// trace shows a line to who reads along.
func (s *Session) trace(from Speaker, line []byte) {
	for _, t := range s.worker.traces[s] {
		t.add(from, line)
	}
}

// traceAsterisk shows what Asterisk sends, which comes in any pieces.
func (s *Session) traceAsterisk(p []byte) {
	for _, t := range s.worker.traces[s] {
		t.replies.Feed(p, func(line []byte) bool {
			t.add(Asterisk, line)
			return true
		})
	}
}

// endTraces tells who reads along that there is no more to come.
func (s *Session) endTraces() {
	for _, t := range s.worker.traces[s] {
		close(t.lines)
	}
	delete(s.worker.traces, s)
	s.traced = false
}
