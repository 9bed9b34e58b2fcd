package health

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// A Probe looks at a backend once and returns nil if it is healthy. It tells by
// report how far it has come, from whichever goroutine it likes, and returns
// soon after ctx ends: with nil if the backend had been found healthy by then,
// and with an *[Error] whose reason says what was missing otherwise. When it
// returns, its connections are closed and its goroutines have ended.
type Probe func(ctx context.Context, report func(Stage)) error

// A Stage is how far a probe has come. A probe that reports nothing is still
// connecting.
type Stage uint8

const (
	// Waiting is when the request has been sent in full and only the answer is
	// missing. A full server leaves its callers here.
	Waiting Stage = iota + 1
	// Answered is when the backend has said something or closed. What is left
	// gets another timeout: a probe that waited long still ends politely.
	Answered
)

// The reasons that a probe fails for: the values of the label reason.
const (
	Refused     = "refused"     // nobody listens
	Timeout     = "timeout"     // no connection in time
	Silent      = "silent"      // connected, but no answer in time
	Reset       = "reset"       // the connection was reset before an answer
	Closed      = "closed"      // closed with the header unread, or in the middle of a line
	Unexpected  = "unexpected"  // an answer, but not the one that is expected
	Handshake   = "tls"         // connected, but the two sides have not agreed to talk
	Unreachable = "unreachable" // no way to the host
	Failed      = "error"       // anything else
)

var reasons = [...]string{Refused, Timeout, Silent, Reset, Closed, Unexpected, Handshake, Unreachable, Failed}

// An Error says why a probe failed.
type Error struct {
	Reason string // one of the constants above; every other is counted as Failed
	Err    error

	// Local says that this side had no means to probe, such as a free file
	// descriptor. It tells nothing about the backend and is not held against it.
	Local bool
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// TCP returns a probe that connects to address (host:port) and closes. It is for
// what can't take an AGI session: many FastAGI servers fork, log an error or
// wait for a header when somebody only connects. The preamble, which may be empty, is
// sent before the close.
func TCP(address string, preamble []byte) Probe {
	return Connect(func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}, preamble)
}

// Connect is [TCP] by way of dial. Of a connection that isn't plain TCP the backend's
// end is awaited: with TLS 1.3 that is where it tells that it has refused this side's
// certificate.
func Connect(dial func(context.Context) (net.Conn, error), preamble []byte) Probe {
	return func(ctx context.Context, report func(Stage)) error {
		conn, err := dial(ctx)
		if err != nil {
			return networkError(ctx, err, Timeout)
		}
		defer conn.Close()
		if len(preamble) > 0 {
			conn.SetWriteDeadline(time.Now().Add(sendTimeout))
			if _, err := conn.Write(preamble); err != nil {
				return networkError(ctx, err, Timeout)
			}
		}
		report(Answered)
		if _, plain := conn.(*net.TCPConn); plain {
			return nil
		}
		defer interruptOn(ctx, conn)()
		if c, ok := conn.(interface{ CloseWrite() error }); ok {
			c.CloseWrite()
		}
		if _, err := conn.Read(make([]byte, 1)); isHandshake(err) {
			return networkError(ctx, err, Handshake)
		}
		return nil // one that is slow to close is well
	}
}

// networkError returns err with the reason that it stands for; late is the
// reason if time was up. Of the end of ctx the cause is told, since what the
// net package makes of it ("operation was canceled") helps nobody.
func networkError(ctx context.Context, err error, late string) *Error {
	is := func(targets ...error) bool {
		for _, target := range targets {
			if errors.Is(err, target) {
				return true
			}
		}
		return false
	}
	var timeout net.Error
	switch {
	case ctx.Err() != nil:
		return &Error{Reason: late, Err: context.Cause(ctx)}
	case isHandshake(err):
		return &Error{Reason: Handshake, Err: err}
	case is(syscall.ECONNREFUSED):
		return &Error{Reason: Refused, Err: err}
	case is(syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED):
		return &Error{Reason: Reset, Err: err}
	case is(syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN):
		return &Error{Reason: Unreachable, Err: err}
	case is(syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL):
		return &Error{Reason: Failed, Err: err, Local: true}
	case is(os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return &Error{Reason: late, Err: err}
	}
	return &Error{Reason: Failed, Err: err}
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
