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
	} {
		if errors.Is(err, c.errno) {
			return c.result
		}
	}
	return "error"
}
