//go:build !linux

package health

import (
	"context"
	"io"
	"net"
	"time"
)

// resetDelay is how long a reset may come after the FIN that it belongs to and
// still be seen.
const resetDelay = 50 * time.Millisecond

// headerTaken tells, of a connection that the backend has closed, whether it
// had read all that was sent. Where the kernel can't be asked what has been
// acknowledged, the reset that follows an unread header is given some time; a
// connection that was reset takes no further line. (Asterisk sends this one,
// too, when a server has closed.)
func headerTaken(ctx context.Context, conn net.Conn) error {
	select {
	case <-ctx.Done():
	case <-time.After(resetDelay):
	}
	if _, err := io.WriteString(conn, "HANGUP\n"); err != nil {
		return errUnread
	}
	return nil
}
