package proxy

import (
	"errors"
	"syscall"
)

// connectResult returns the label of a connect that failed.
func connectResult(err error) string {
	for _, c := range [...]struct {
		errno  syscall.Errno
		result string
	}{
		{syscall.ECONNREFUSED, "refused"},
		{syscall.ETIMEDOUT, "timeout"},
		{syscall.EHOSTUNREACH, "unreachable"},
		{syscall.ENETUNREACH, "unreachable"},
		{syscall.ECONNRESET, "reset"},
		{syscall.EMFILE, "local"}, // this side has no means; the backend isn't to blame
		{syscall.ENFILE, "local"},
		{syscall.ENOBUFS, "local"},
		{syscall.ENOMEM, "local"},
	} {
		if errors.Is(err, c.errno) {
			return c.result
		}
	}
	if errors.Is(err, errDeclaredDown) {
		return "lost"
	}
	return "error"
}
