// Package logsink keeps log records from making their writers wait.
//
// An event loop that writes its records straight to a file stands still, with
// all its calls, whenever the disk or the reader of a pipe does. A [Sink] takes
// records into memory and writes them from a goroutine of its own, many at a
// time.
package logsink

import (
	"io"
	"sync"
	"time"
)

const (
	// delay is how long a record may wait for others to be written with it.
	delay = 20 * time.Millisecond
	// Limit is how many bytes may wait, 8 MiB: some thirty thousand records.
	Limit = 8 << 20
)

// A Sink is an io.Writer in front of another. It is safe for concurrent use.
// Make it with [New].
type Sink struct {
	out io.Writer

	writing sync.Mutex // one flush at a time; taken before mu

	mu      sync.Mutex
	waiting []byte
	spare   []byte // the buffer of the flush before
	armed   bool   // a flush is due
	dropped uint64
}

// New returns a sink for what out takes.
func New(out io.Writer) *Sink { return &Sink{out: out} }

// Write takes a record, which must be whole: where there is no room the record
// is dropped and counted. It never waits and never fails.
func (s *Sink) Write(record []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting)+len(record) > Limit {
		s.dropped++
		return len(record), nil
	}
	s.waiting = append(s.waiting, record...)
	if !s.armed {
		s.armed = true
		time.AfterFunc(delay, s.Flush)
	}
	return len(record), nil
}

// Dropped returns how many records were dropped so far.
func (s *Sink) Dropped() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

// Flush writes what was taken before and returns when it is written. What the
// writer below doesn't take is lost: there is nobody to tell it to.
func (s *Sink) Flush() {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	records := s.waiting
	s.waiting, s.spare, s.armed = s.spare[:0], nil, false
	s.mu.Unlock()
	if len(records) > 0 {
		s.out.Write(records)
	}
	s.mu.Lock()
	if cap(records) <= Limit/8 { // one bad hour must not hold memory for ever
		s.spare = records[:0]
	}
	s.mu.Unlock()
}
