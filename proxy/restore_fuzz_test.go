package proxy

import (
	"bytes"
	"encoding/gob"
	"testing"
)

// FuzzRestore asserts that whatever another process describes is refused, and then
// leaves nothing, or becomes a session that can go on, move again, and end.
func FuzzRestore(f *testing.F) {
	s := newStage(Options{}, limits())
	s.establish(plainHeader)
	var wire bytes.Buffer
	if err := gob.NewEncoder(&wire).Encode(s.worker.Freeze()[0].Move()); err != nil {
		f.Fatal(err)
	}
	s.worker.Thaw()
	s.finish()
	f.Add(wire.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		var m Moved
		if gob.NewDecoder(bytes.NewReader(data)).Decode(&m) != nil {
			t.Skip()
		}
		next := newStage(Options{}, limits())
		next.establish(plainHeader) // whose connections serve, and whose session is given up
		next.worker.Freeze()
		next.worker.Release()
		if _, _, err := next.worker.Restore(&m, next.listener, PoolOptions{}, next.front, &next.host.back); err != nil {
			if next.server.Sessions() != 0 || next.worker.frozen.first != nil {
				t.Errorf("Restore(%+v) = %v, and left %d sessions", m, err, next.server.Sessions())
			}
			return
		}
		next.worker.Thaw()
		for _, again := range next.worker.Freeze() {
			again.Move()
		}
		next.worker.Thaw()
		next.worker.Abort()
		if n := next.server.Sessions(); n != 0 {
			t.Errorf("%d sessions are left of %+v; want none", n, m)
		}
	})
}
