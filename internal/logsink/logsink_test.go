package logsink

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// blocked is a writer that takes nothing until it is released.
type blocked struct {
	release chan struct{}
	got     bytes.Buffer
	writes  int
}

func (b *blocked) Write(p []byte) (int, error) {
	<-b.release
	b.writes++
	return b.got.Write(p)
}

func TestRecordsAreWrittenTogetherAndSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &blocked{release: make(chan struct{})}
		close(b.release)
		s := New(b)
		for range 100 {
			s.Write([]byte("record\n"))
		}
		time.Sleep(delay)
		synctest.Wait()
		if got, want := b.got.String(), strings.Repeat("record\n", 100); got != want || b.writes != 1 {
			t.Errorf("%d bytes in %d writes after %v; want %d in one", len(got), b.writes, delay, len(want))
		}
		s.Write([]byte("late\n"))
		s.Flush()
		if !strings.HasSuffix(b.got.String(), "late\n") {
			t.Error("Flush has not written the last record")
		}
		time.Sleep(delay)
	})
}

func TestBlockedWriterStopsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &blocked{release: make(chan struct{})}
		s := New(b)
		s.Write([]byte("first\n"))
		time.Sleep(delay)
		synctest.Wait() // the flush hangs in the writer
		record := bytes.Repeat([]byte("x"), Limit/4)
		for range 6 {
			s.Write(record)
		}
		if got := s.Dropped(); got != 2 {
			t.Errorf("%d records dropped; want 2: four fill the buffer", got)
		}
		close(b.release)
		s.Flush()
		if got, want := b.got.Len(), len("first\n")+Limit; got != want {
			t.Errorf("%d bytes written in the end; want %d", got, want)
		}
		time.Sleep(delay)
	})
}
