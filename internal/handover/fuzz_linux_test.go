package handover

import (
	"bytes"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// FuzzReceive asserts that whatever the other process sends is received or refused,
// and that no descriptor is left over.
func FuzzReceive(f *testing.F) {
	f.Add([]byte{}, uint8(0))
	f.Add([]byte("AGIP"), uint8(3))
	for _, data := range recorded(f) {
		f.Add(data, uint8(0))
		f.Add(data, uint8(2))
		f.Add(data[:len(data)-1], uint8(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, n uint8) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		given := os.NewFile(uintptr(fds[0]), "handover")
		c, err := Open(given)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		before := openFiles(t)
		var rights []byte
		if n %= 8; n > 0 {
			null, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			defer null.Close()
			var numbers []int
			for range n {
				numbers = append(numbers, int(null.Fd()))
			}
			rights = unix.UnixRights(numbers...)
			before++
		}
		// What doesn't fit into the socket would have to be read meanwhile.
		data = data[:min(len(data), 32<<10)]
		if len(data) > 0 {
			if err := unix.Sendmsg(fds[1], data, rights, nil, 0); err != nil {
				t.Fatal(err)
			}
		}
		unix.Close(fds[1])
		before-- // that one
		_ = c.c.SetDeadline(time.Now().Add(5 * time.Second))
		for {
			got, received, err := c.Hello()
			CloseFiles(received)
			if err != nil {
				break
			}
			if len(got) > len(data) || len(received) > int(n) {
				t.Errorf("%d bytes and %d descriptors became %d and %d", len(data), n, len(got), len(received))
			}
		}
		if now := openFiles(t); now > before {
			t.Errorf("%d descriptors are open after all is received; want %d", now, before)
		}
	})
}

// recorded is what a real process sends.
func recorded(f *testing.F) (all [][]byte) {
	f.Helper()
	for _, data := range [][]byte{nil, []byte("greeting"), bytes.Repeat([]byte("x"), 5000)} {
		old, socket, err := Pair()
		if err != nil {
			f.Fatal(err)
		}
		if err := old.Hello(data, nil); err != nil {
			f.Fatal(err)
		}
		old.Close()
		var sent bytes.Buffer
		if _, err := sent.ReadFrom(socket); err != nil {
			f.Fatal(err)
		}
		socket.Close()
		all = append(all, sent.Bytes())
	}
	return all
}
