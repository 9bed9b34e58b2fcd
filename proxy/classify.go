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
	attemptOutrun    // another backend, tried because this one was slow or beside it, was connected first
	attemptHandshake // connected, and then the two sides have not agreed to talk
	attemptLocal     // this side has no means; the backend isn't to blame
	attemptError
)

// numResults is how many values result has.
const numResults = int(attemptError) + 1

// String returns the result as metrics have it.
func (r result) String() string {
	return [numResults]string{
		"served", "completed", "abandoned", "refused", "timeout", "unreachable",
		"reset", "closed", "silent", "lost", "outrun", "tls", "local", "error",
	}[r]
}

// speaksAgainst reports whether an attempt with that result is evidence that its
// backend doesn't work. A replay after a close or a silence shows that this
// pool's scripts always speak.
func (r result) speaksAgainst() bool {
	switch r {
	case attemptRefused, attemptTimeout, attemptUnreachable, attemptReset, attemptClosed, attemptSilent, attemptHandshake:
		return true
	}
	return false
}

// isHandshake reports whether err is of a connection on which the two sides have not
// agreed to talk.
func isHandshake(err error) bool {
	h, ok := errors.AsType[interface {
		error
		Handshake() bool
	}](err)
	return ok && h.Handshake()
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
	switch {
	case isHandshake(err):
		return attemptHandshake
	case errors.Is(err, ErrDown), errors.Is(err, ErrDrained):
		return attemptLost
	case errors.Is(err, errConnectLate):
		return attemptTimeout
	}
	return attemptError
}
