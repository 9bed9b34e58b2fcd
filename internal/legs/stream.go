package legs

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrCut is how a connection ends whose peer has not said by TLS that it ends.
var ErrCut = errors.New("closed without TLS's close_notify")

// A HandshakeError says that the two sides have not agreed to talk: nothing of what
// was sent has been read by anybody.
type HandshakeError struct{ Err error }

func (e *HandshakeError) Error() string { return "TLS handshake: " + e.Err.Error() }
func (e *HandshakeError) Unwrap() error { return e.Err }

// Handshake tells what kind of error it is to those who don't know this package.
func (*HandshakeError) Handshake() bool { return true }

const (
	keepIdle     = 30 * time.Second // as loops have it
	keepInterval = 10 * time.Second
	userTimeout  = time.Minute
)

// A Stream is TLS over a TCP connection. As a net.Conn it is like a [tls.Conn], but
// for its Read, which tells an end by the peer from one by anybody.
type Stream struct {
	*tls.Conn
	socket *socket
	heard  bool // something was read; the reader's
}

// Dial connects and shakes hands, for as long as ctx lasts. A failed handshake is a
// *[HandshakeError].
func Dial(ctx context.Context, to netip.AddrPort, cfg *tls.Config) (*Stream, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	s := &Stream{socket: newSocket(c.(*net.TCPConn))}
	s.Conn = tls.Client(s.socket, cfg)
	if err := s.Handshake(ctx); err != nil {
		s.Abandon()
		return nil, err
	}
	return s, nil
}

// Server returns the stream of a connection that was accepted. Its Handshake is
// still to come.
func Server(c *net.TCPConn, cfg *tls.Config) *Stream {
	s := &Stream{socket: newSocket(c)}
	s.Conn = tls.Server(s.socket, cfg)
	// With TLS 1.3 a client may be done and have sent all that it has to say when this
	// side gives the handshake up. A reset tells it that nobody has read that.
	_ = c.SetLinger(0) // fails only on what is no connection any more
	return s
}

// Handshake shakes hands, for as long as ctx lasts. The error is a *[HandshakeError],
// or says that the connection was lost.
func (s *Stream) Handshake(ctx context.Context) error {
	err := s.HandshakeContext(ctx)
	plain, isPlain := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case err == nil:
		_ = s.socket.SetLinger(-1) // see Server
		return nil
	case ctx.Err() != nil:
		return &HandshakeError{context.Cause(ctx)}
	case isPlain && plain.Conn != nil:
		return &HandshakeError{errors.New("the peer doesn't speak TLS")}
	case isPlain:
		return &HandshakeError{fmt.Errorf("the peer doesn't speak TLS: %w", err)}
	case errors.Is(err, io.EOF):
		return &HandshakeError{errors.New("the peer has closed")}
	case errors.Is(err, syscall.ECONNRESET):
		return &HandshakeError{errors.New("the peer has reset the connection")}
	}
	return &HandshakeError{err}
}

// Plain returns how the peer has begun if that was no TLS, nil if it was.
func (s *Stream) Plain() []byte { return s.socket.first }

// Raw returns the TCP connection, for what is not TLS.
func (s *Stream) Raw() *net.TCPConn { return s.socket.TCPConn }

// Read is a tls.Conn's, whose nil error at an end without close_notify is [ErrCut]
// here. A peer that refuses the handshake after this side was done with it, as TLS
// 1.3 has it with client certificates, is a *[HandshakeError].
func (s *Stream) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	s.heard = s.heard || n > 0
	if err == nil {
		return n, nil
	}
	if !s.heard && refuses(err) {
		return n, &HandshakeError{fmt.Errorf("the peer refuses: %w", err)}
	}
	if cut := err == io.EOF && s.socket.ended.Load(); cut || errors.Is(err, io.ErrUnexpectedEOF) {
		return n, ErrCut
	}
	return n, cleaned(err)
}

// refuses reports whether err is an alert by which the peer says that it has not taken
// part in a handshake. Others may come at any time. Package tls tells alerts apart by
// their text only.
func refuses(err error) bool {
	remote, ok := errors.AsType[*net.OpError](err)
	if !ok || remote.Op != "remote error" {
		return false
	}
	for _, code := range refusals {
		if remote.Err.Error() == code.Error() {
			return true
		}
	}
	return false
}

// refusals are about certificates and what else two sides can't agree on (RFC 8446,
// section 6.2).
var refusals = [...]tls.AlertError{40, 42, 43, 44, 45, 46, 48, 49, 51, 71, 116}

// cleaned is an error without what package net says around the system's.
func cleaned(err error) error {
	if n, ok := errors.AsType[syscall.Errno](err); ok {
		return n
	}
	return err
}

// CloseWrite tells the peer by TLS and by TCP that nothing more comes.
func (s *Stream) CloseWrite() error {
	err := s.Conn.CloseWrite()
	return cmp.Or(err, s.socket.CloseWrite())
}

// Close tells the peer that this is the end, unless something that it has sent is
// unread: then it is reset. Nobody may be reading.
func (s *Stream) Close() error { return s.finish(false) }

// finish closes; unread says that something was read that nobody has taken.
func (s *Stream) finish(unread bool) error {
	s.socket.stopped.Store(true)
	if !s.ConnectionState().HandshakeComplete {
		return s.socket.Close()
	}
	if !unread {
		// What TLS has taken out of the kernel, and nobody out of it.
		n, err := s.Conn.Read(make([]byte, 1))
		unread = n > 0 || errors.Is(err, io.ErrUnexpectedEOF) || s.socket.unread()
	}
	if unread {
		_ = s.socket.SetLinger(0) // fails only on what is no connection any more
	} else {
		_ = s.CloseWrite() // a peer that is gone isn't told
	}
	return s.socket.Close()
}

// Abandon closes without a word.
func (s *Stream) Abandon() { s.socket.Close() }

// Unacked returns how many bytes of TCP's the peer's kernel has not acknowledged.
func (s *Stream) Unacked() (n int, err error) {
	rc, err := s.socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	if cerr := rc.Control(func(fd uintptr) { n, err = unacked(int(fd)) }); cerr != nil {
		return 0, cerr
	}
	return n, err
}

// Broken returns the error that the kernel has to tell of a connection whose end has
// been read, nil if there is none.
func (s *Stream) Broken() (err error) {
	rc, err := s.socket.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := rc.Control(func(fd uintptr) { err = s.socket.takeError(fd) }); cerr != nil {
		return cerr
	}
	return err
}

// AwaitBroken is for a reader that has read the peer's close_notify. It waits for
// what may come behind that and is no word of TLS: nil if nothing can.
func (s *Stream) AwaitBroken() error {
	// A peer may leave the end of its TCP for later. What else it sends is nothing
	// that anybody would read.
	for buf := make([]byte, 512); !s.socket.ended.Load(); {
		if n, err := s.socket.Read(buf); n > 0 || err != nil && err != io.EOF {
			return cleaned(err)
		}
	}
	rc, err := s.socket.SyscallConn()
	if err != nil {
		return nil
	}
	_ = rc.Read(func(fd uintptr) bool {
		err = s.socket.takeError(fd)
		return err != nil
	})
	return err
}

// A socket is a TCP connection that notes how it ends.
type socket struct {
	*net.TCPConn
	first   []byte      // that the peer has sent, if it was no TLS
	begun   bool        // something was read
	ended   atomic.Bool // the peer's end was read
	stopped atomic.Bool // nothing more may be taken out of the kernel

	mu     sync.Mutex
	broken error // the kernel tells it only once
}

func newSocket(c *net.TCPConn) *socket {
	// They fail only on what is no connection any more.
	_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepIdle, Interval: keepInterval})
	if rc, err := c.SyscallConn(); err == nil {
		_ = rc.Control(func(fd uintptr) { setUserTimeout(int(fd), userTimeout) })
	}
	return &socket{TCPConn: c}
}

func (s *socket) Read(p []byte) (int, error) {
	if s.stopped.Load() {
		return 0, io.EOF
	}
	n, err := s.TCPConn.Read(p)
	if n > 0 && !s.begun {
		s.begun = true
		if p[0] != recordHandshake {
			s.first = append(s.first, p[:n]...)
		}
	}
	if err == io.EOF {
		s.ended.Store(true)
	}
	return n, err
}

// unread reports whether something waits in the kernel, which resets a connection that
// is closed then, but only after it has told of an orderly end that was asked for.
func (s *socket) unread() bool {
	n := 0
	if rc, err := s.SyscallConn(); err == nil {
		_ = rc.Control(func(fd uintptr) { n, _ = unread(int(fd)) }) // of what is closed there is nothing
	}
	return n > 0
}

// recordHandshake is the first byte of every connection by TLS (RFC 8446, 5.1).
const recordHandshake = 22

// takeError takes the socket's pending error, nil if there is none and was none.
func (s *socket) takeError(fd uintptr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		s.broken = socketError(int(fd))
	}
	return s.broken
}
