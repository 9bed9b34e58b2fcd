package health

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// losePayload makes the kernel drop what c receives but for segments without
// payload, as a network would that loses a header and nothing else.
func losePayload(t *testing.T, c *net.TCPConn) {
	t.Helper()
	const tcpHeader = 60 // bytes at most
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_LEN},
		{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: tcpHeader, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffff}, // take it
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},      // drop it
	}
	control(t, c, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
}

func control(t *testing.T, c *net.TCPConn, do func(fd int) error) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Error(err)
		return
	}
	raw.Control(func(fd uintptr) { err = do(int(fd)) })
	if err != nil {
		t.Error(err)
	}
}

// The backend closes while the header is still on its way to it. Only what TCP
// says of the header afterwards tells whether it was read.
func TestAGIAwaitsWhatBecomesOfItsHeader(t *testing.T) {
	for _, test := range []struct {
		name  string
		after func(c *net.TCPConn) // the FIN
		limit time.Duration
		want  error
	}{
		{"it arrives and is read", func(c *net.TCPConn) {
			control(t, c, func(fd int) error {
				return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
			})
			io.Copy(io.Discard, c)
		}, 3 * time.Second, nil},
		{"it arrives at a closed socket", func(c *net.TCPConn) { c.Close() }, 3 * time.Second, errUnread},
		{"it never arrives", func(c *net.TCPConn) { time.Sleep(time.Second) }, 100 * time.Millisecond, errUnacknowledged},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ready, sent := make(chan struct{}), make(chan struct{})
			address := serve(t, func(c *net.TCPConn) {
				losePayload(t, c)
				close(ready)
				<-sent
				c.CloseWrite()
				time.Sleep(20 * time.Millisecond)
				test.after(c)
			})
			probe := AGI(AGIOptions{
				Address: address,
				Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
					defer func() { <-ready }()
					return new(net.Dialer).DialContext(ctx, network, address)
				},
			})
			ctx, cancel := context.WithTimeout(t.Context(), test.limit)
			defer cancel()
			err := probe(ctx, func(s Stage) {
				if s == Waiting {
					close(sent)
				}
			})
			if !errors.Is(err, test.want) {
				t.Errorf("the probe's error is %v; want %v", err, test.want)
			}
			if test.want != nil {
				expectReason(t, test.name, err, Closed)
			}
		})
	}
}
