package loop

import (
	"bytes"
	"testing"
	"time"
)

// TestHeldComesInPieces has more be held for a paused connection than a read brings.
// Who hears of it may pause again in the middle, and gets the rest later.
func TestHeldComesInPieces(t *testing.T) {
	l := startLoop(t)
	ln := listen(t, "127.0.0.1:0")
	text := bytes.Repeat([]byte("0123456789"), 30_000)
	var conn *Conn
	var pieces []int
	var got bytes.Buffer
	serve(t, l, ln, func(c *Conn) Handler {
		conn = c
		return &hooks{received: func(p []byte) {
			pieces = append(pieces, len(p))
			got.Write(p)
			c.Pause()
		}}
	})
	dial(t, ln.Addr())
	eventually(t, l, "the connection was accepted", func() bool { return conn != nil })
	on(t, l, func() {
		conn.Pause()
		conn.readable = true
		l.hold(conn).bytes = bytes.Clone(text)
	})
	for got.Len() < len(text) {
		before := 0
		on(t, l, func() {
			before = len(pieces)
			conn.Resume()
		})
		eventually(t, l, "the next piece", func() bool { return len(pieces) > before })
		time.Sleep(time.Millisecond) // in which more would come
		on(t, l, func() {
			if n := pieces[len(pieces)-1]; len(pieces) != before+1 || n > readSize {
				t.Errorf("pieces of %d after %d resumes; want one each, of at most %d", pieces, before+1, readSize)
			}
		})
		if t.Failed() {
			return
		}
	}
	if !bytes.Equal(got.Bytes(), text) {
		t.Error("what came is not what was held")
	}
}
