package legs

import (
	"time"

	"golang.org/x/sys/unix"
)

func unacked(fd int) (int, error) { return unix.IoctlGetInt(fd, unix.SIOCOUTQ) }

// unread returns how many bytes the kernel has that nobody has read.
func unread(fd int) (int, error) { return unix.IoctlGetInt(fd, unix.SIOCINQ) }

// setUserTimeout bounds how long bytes may stay unacknowledged.
func setUserTimeout(fd int, d time.Duration) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds())) // fails only on what is no connection any more
}
