package proxy

import (
	"errors"
	"syscall"
)

// A result is what an attempt came to, see docs/metrics.md.
type result uint8

const (
	attemptServed result = iota
	attemptCompleted
	attemptAbandoned
	attemptRefused
	attemptTimeout
	attemptUnreachable
	attemptReset
	attemptClosed
	attemptSilent
	attemptLost
	attemptLocal // this side has no means; the backend isn't to blame
	attemptError
)

// numResults is how many values result has.
const numResults = int(attemptError) + 1

// String returns the result as metrics have it.
func (r result) String() string {
	return [numResults]string{
		"served", "completed", "abandoned", "refused", "timeout", "unreachable",
		"reset", "closed", "silent", "lost", "local", "error",
	}[r]
}

// connectResult returns the result of a connect that failed.
func connectResult(err error) result {
	for _, c := range [...]struct {
		errno  syscall.Errno
		result result
	}{
		{syscall.ECONNREFUSED, attemptRefused},
		{syscall.ETIMEDOUT, attemptTimeout},
		{syscall.EHOSTUNREACH, attemptUnreachable},
		{syscall.ENETUNREACH, attemptUnreachable},
		{syscall.ECONNRESET, attemptReset},
		{syscall.EMFILE, attemptLocal},
		{syscall.ENFILE, attemptLocal},
		{syscall.ENOBUFS, attemptLocal},
		{syscall.ENOMEM, attemptLocal},
	} {
		if errors.Is(err, c.errno) {
			return c.result
		}
	}
	if errors.Is(err, errDeclaredDown) {
		return attemptLost
	}
	return attemptError
}
