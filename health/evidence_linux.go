package health

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tcpClose is the state TCP_CLOSE of Linux's include/net/tcp_states.h.
const tcpClose = 7

var errUnacknowledged = errors.New("closed, and never acknowledged the header")

// headerTaken tells, of a connection that the backend has closed, whether it
// had read all that was sent, and returns nil if so or if conn is no socket.
//
// TCP proves it. A close over unread data is a reset, so what had come before
// the FIN and was acknowledged has been read. What comes after the close is not
// acknowledged but reset; that reset can be later than the FIN, and then no read
// or write tells of it in time. So as long as bytes are unacknowledged, either
// their acknowledgement or the reset is awaited, until ctx ends.
func headerTaken(ctx context.Context, conn net.Conn) error {
	if c, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = c.NetConn() // what TLS goes over
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		var unacknowledged int
		var reset bool
		err := raw.Control(func(fd uintptr) {
			unacknowledged, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			reset = err == nil && info.State == tcpClose
		})
		switch {
		case err != nil:
			return err
		case reset:
			return errUnread
		case unacknowledged == 0:
			return nil
		}
		select {
		case <-ctx.Done():
			return errUnacknowledged
		case <-time.After(pause):
		}
	}
}
