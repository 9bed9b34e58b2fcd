package loop

import (
	"net/netip"
	"os"
	"syscall"
	"time"
)

// A Conn is one connection of a loop. Its methods are for handlers of the same
// loop only; none blocks, and none calls a handler. After Close they do nothing.
type Conn struct {
	loop    *Loop
	handler Handler
	remote  netip.AddrPort
	out     []byte // what the kernel would not take
	timer   timer
	failed  error // why writing, or connecting, came to its end
	fd      int
	slot    uint32

	connecting bool
	closed     bool // by Close: nobody is told anything any more
	paused     bool
	readable   bool // the kernel has told of bytes, or an end, that were not read
	ended      bool // the kernel has told of an end: read on until it comes
	broken     bool // the kernel has told of an error that nobody took
	eof        bool // Closed(nil) has been delivered
	lost       bool // Closed(err) has been delivered
	writeEnd   bool // nothing more will be written
	scheduled  bool // in loop.ready
}

// RemoteAddr returns the peer's address.
func (c *Conn) RemoteAddr() netip.AddrPort { return c.remote }

// Buffered returns how many bytes were written and not taken by the kernel.
func (c *Conn) Buffered() int { return len(c.out) }

// Unacked returns how many of the bytes written the peer's kernel has not
// acknowledged; the end that CloseWrite sends counts as one. After the peer's
// orderly end, 0 says that the peer had received everything when it ended. The
// error is the kernel's, or [os.ErrClosed] where there is no connection.
func (c *Conn) Unacked() (int, error) {
	if c.fd == noFD || c.connecting && c.lost {
		return 0, os.ErrClosed
	}
	n, err := unacked(c.fd)
	return n + len(c.out), err
}

// Write sends p, or keeps what the kernel won't take now.
func (c *Conn) Write(p []byte) {
	if c.writeEnd || c.failed != nil || c.fd == noFD {
		return
	}
	if c.connecting || len(c.out) > 0 {
		c.out = append(c.out, p...)
		return
	}
	n, err := write(c.fd, p)
	if err != nil && !wouldBlock(err) {
		c.fail(err)
		return
	}
	if n < len(p) {
		c.out = append(c.out, p[n:]...)
	}
}

// CloseWrite ends this side in order, after what is buffered: the peer reads to
// an end, and may go on sending.
func (c *Conn) CloseWrite() {
	if c.writeEnd {
		return
	}
	c.writeEnd = true
	if len(c.out) == 0 && !c.connecting && c.fd != noFD {
		shutdownWrite(c.fd)
	}
}

// Pause stops Received until Resume, and Closed with it, since what the peer
// sent before comes first.
func (c *Conn) Pause() { c.paused = true }

// Resume ends a Pause.
func (c *Conn) Resume() {
	if !c.paused {
		return
	}
	c.paused = false
	if c.readable {
		c.schedule()
	}
}

// QuickAck has the kernel acknowledge at once what was received and what comes
// next. A peer without TCP_NODELAY sends a second small write only after that,
// which is 40 ms later by default.
func (c *Conn) QuickAck() {
	if c.fd != noFD {
		quickAck(c.fd)
	}
}

// SetTimer has TimedOut called once at that time of [Loop.Now]; 0 stops the
// timer. A connection has one timer.
func (c *Conn) SetTimer(at time.Duration) {
	if !c.closed {
		c.loop.timers.set(&c.timer, at)
	}
}

func (c *Conn) expired() { c.handler.TimedOut() }

// Close gives the connection up. What is buffered is dropped; what the peer
// sent and nobody read makes the kernel tell it by a reset.
func (c *Conn) Close() {
	c.closed = true
	c.loop.timers.remove(&c.timer)
	c.handler = nil
	c.out = nil
	if c.slot != noSlot {
		c.loop.freeSlot(c.slot)
		c.slot = noSlot
	}
	if c.fd != noFD {
		closeFD(c.fd)
		c.fd = noFD
	}
}

// schedule has proceed called before the next wait.
func (c *Conn) schedule() {
	if !c.scheduled {
		c.scheduled = true
		c.loop.ready = append(c.loop.ready, c)
	}
}

// fail notes that nothing can be written any more. Reading goes on to its end,
// since the peer may have sent something before.
func (c *Conn) fail(err error) {
	c.failed = err
	c.out = nil
	c.ended = true
	c.schedule()
}

// proceed does what was put off: a connect that failed at once, a read after a
// pause, the end after a failed write.
func (c *Conn) proceed() {
	switch {
	case c.closed || c.lost:
	case c.connecting:
		c.lose(c.failed)
	case c.eof:
		c.afterEnd()
	default:
		c.read()
	}
}

// event takes what the kernel told of the connection.
func (c *Conn) event(e event) {
	c.readable = c.readable || e.readable || e.ended
	c.ended = c.ended || e.ended
	c.broken = c.broken || e.failed
	if c.lost || c.connecting && !c.connected(e) {
		return
	}
	switch {
	case c.eof:
		c.afterEnd()
	case c.readable:
		c.read()
	}
	if e.writable && c.fd != noFD && len(c.out) > 0 {
		c.flush()
	}
}

// connected takes the first event of a connection that is being made, and
// reports whether it was.
func (c *Conn) connected(e event) bool {
	if e.failed || e.ended {
		if err := socketError(c.fd); err != nil {
			c.lose(err)
			return false
		}
	}
	if !e.writable {
		return false
	}
	c.connecting = false
	c.handler.Connected()
	if c.closed {
		return false
	}
	c.flush()
	return !c.closed
}

// read delivers what has arrived.
func (c *Conn) read() {
	for range readBurst {
		if c.paused {
			c.readable = true
			return
		}
		n, err := read(c.fd, c.loop.buf)
		switch {
		case err != nil && wouldBlock(err) && c.failed == nil:
			c.readable = false
			return
		case c.failed != nil && (err != nil || n == 0 && c.failed != syscall.EPIPE):
			// The failed write took the socket's error with it, so that the
			// end looks orderly. With EPIPE it was: a reset has come after it.
			c.lose(c.failed)
			return
		case err != nil:
			c.lose(err)
			return
		case n == 0:
			c.eof = true
			c.handler.Closed(nil)
			c.afterEnd()
			return
		}
		c.handler.Received(c.loop.buf[:n])
		if c.closed {
			return
		}
		if n < len(c.loop.buf) && !c.ended {
			c.readable = false
			return
		}
	}
	c.readable = true
	c.schedule()
}

// afterEnd tells what may have come after the peer's orderly end: a reset, of
// which reading doesn't tell.
func (c *Conn) afterEnd() {
	if c.closed || c.paused {
		return
	}
	if c.broken && c.failed == nil {
		c.broken = false
		c.failed = socketError(c.fd)
	}
	if c.failed != nil {
		c.lose(c.failed)
	}
}

// flush writes what was kept.
func (c *Conn) flush() {
	kept := len(c.out) > 0
	if kept {
		n, err := write(c.fd, c.out)
		if err != nil && !wouldBlock(err) {
			c.fail(err)
			return
		}
		if c.out = c.out[n:]; len(c.out) > 0 {
			return
		}
		c.out = nil
	}
	if c.writeEnd {
		shutdownWrite(c.fd)
	}
	if kept {
		c.handler.Drained()
	}
}

// lose tells that the connection is gone.
func (c *Conn) lose(err error) {
	c.lost = true
	c.failed = err
	c.out = nil
	c.handler.Closed(err)
}
