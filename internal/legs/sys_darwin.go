package legs

import (
	"time"

	"golang.org/x/sys/unix"
)

func unacked(fd int) (int, error) { return unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NWRITE) }

// unread returns how many bytes the kernel has that nobody has read.
func unread(fd int) (int, error) { return unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NREAD) }

// setUserTimeout leaves it to keepalive: there is no such option.
func setUserTimeout(int, time.Duration) {}
