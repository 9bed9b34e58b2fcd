package loop

import (
	"cmp"
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
	out     []byte // what the kernel would not take
	failed  error  // why writing, or connecting, came to its end
	timer   timer
	fd      int32
	slot    uint32
	sending uint32 // what the engine has of a write under way; 0: nothing
	remote  address

	last       direction // of the last bytes
	noDelay    bool      // small writes are sent at once
	kept       bool      // Drained is due
	watchedOut bool      // the poller tells when there is room to write
	receiving  bool      // the ring receives, and tells of it
	stopping   bool      // it was asked to end that
	bulk       bool      // the peer's last bytes filled a buffer
	polling    bool      // the ring tells of errors
	ours       bool      // made by Connect
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
	frozen     bool // nothing happens until Thaw
	thawed     bool // what is kept is to be written
}

// A direction is which way bytes have passed.
type direction uint8

const (
	neither direction = iota
	inward
	outward
)

// RemoteAddr returns the peer's address, without a zone.
func (c *Conn) RemoteAddr() netip.AddrPort { return c.remote.addrPort() }

// LocalAddr returns this side's address, without a zone; the zero AddrPort if the
// connection is gone. It asks the kernel.
func (c *Conn) LocalAddr() netip.AddrPort {
	if c.fd == noFD {
		return netip.AddrPort{}
	}
	return localAddr(int(c.fd))
}

// Buffered returns how many bytes were written and not taken by the kernel.
func (c *Conn) Buffered() int { return len(c.out) }

// Unacked returns how many of the bytes written the peer's kernel has not
// acknowledged; the end that CloseWrite sends counts as one. After the peer's
// orderly end, 0 says that the peer had received everything when it ended. The
// error is the kernel's, such as of a reset that has come behind the end and that
// Closed will tell, or [os.ErrClosed] where there is no connection.
func (c *Conn) Unacked() (int, error) {
	if c.fd == noFD || c.connecting && c.lost {
		return 0, os.ErrClosed
	}
	if c.eof && c.failed == nil {
		if err := socketError(int(c.fd)); err != nil {
			c.fail(err) // the kernel tells it only once
		}
	}
	n, err := unacked(int(c.fd))
	return n + len(c.out) + c.loop.engine.unsent(c), cmp.Or(c.failed, err)
}

// Write sends p, or keeps what the kernel won't take now.
func (c *Conn) Write(p []byte) {
	if c.writeEnd || c.failed != nil || c.fd == noFD {
		return
	}
	n := 0
	if !c.connecting && len(c.out) == 0 {
		n = c.loop.engine.write(c, p)
	}
	if n < len(p) {
		c.kept = true
		c.out = append(c.out, p[n:]...)
	}
}

// passed notes that bytes pass. A dialogue in which each side answers the other
// has at most one write unacknowledged when the next comes, so that TCP never
// holds one back (RFC 1122, 4.2.3.4), and most sessions end without having
// needed the option that says not to. Two writes in a row, or two reads, show
// that this dialogue is none of those.
func (c *Conn) passed(d direction) {
	if c.last == d {
		c.setNoDelay()
	}
	c.last = d
}

func (c *Conn) setNoDelay() {
	if !c.noDelay {
		c.noDelay = true
		_ = setNoDelay(int(c.fd)) // fails only on what is no connection any more
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
		c.loop.engine.shutdown(c)
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
		quickAck(int(c.fd))
	}
}

// SetTimer has TimedOut called once at that time of [Loop.Now]; 0 stops the
// timer. A connection has one timer.
func (c *Conn) SetTimer(at time.Duration) {
	if !c.closed {
		c.loop.timers.set(c, at)
	}
}

// Close gives the connection up. What is buffered is dropped; what the peer
// sent and nobody read makes the kernel tell it by a reset, unless it has arrived
// in this very moment.
func (c *Conn) Close() {
	c.closed = true
	c.loop.timers.remove(c)
	c.handler = nil
	c.out = nil
	switch {
	case c.fd == noFD:
	case c.frozen: // somebody else may go on with it
		delete(c.loop.held, c)
		closeFD(int(c.fd))
	default:
		c.loop.engine.release(c)
	}
	c.fd = noFD
	if c.slot != noSlot {
		c.loop.freeSlot(c.slot)
		c.loop.load.Add(-1)
		c.slot = noSlot
	}
}

// mature gives c the options that a connection needs which lasts.
func (c *Conn) mature() {
	_ = setKeepAlive(int(c.fd), &c.loop.opts) // fails only on what is no connection any more
	c.setNoDelay()
}

// deaf reports whether nothing may be delivered now.
func (c *Conn) deaf() bool { return c.paused || c.frozen }

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
	c.ended, c.readable = true, true
	c.schedule()
}

// proceed does what was put off: a connect that failed at once, a read after a
// pause, the end after a failed write.
func (c *Conn) proceed() {
	if c.thawed && !c.lost && !c.frozen {
		c.thawed = false
		c.flush()
	}
	if c.failed != nil && c.kept && c.paused && !c.frozen && !c.lost && !c.closed {
		// Closed waits for Resume, and who would call that may wait for this.
		c.kept = false
		c.handler.Drained()
	}
	switch {
	case c.closed || c.lost || c.frozen:
	case c.connecting:
		c.lose(c.failed)
	case c.eof:
		c.afterEnd()
	default:
		c.loop.engine.proceed(c)
	}
}

// event takes what the kernel told of the connection.
func (c *Conn) event(e *event) {
	if e.ended() {
		c.ended, c.readable = true, true
		c.broken = c.broken || e.failed()
	}
	c.readable = c.readable || e.readable()
	if c.lost || c.connecting && !c.connected(e) {
		return
	}
	switch {
	case c.eof:
		c.afterEnd()
	case c.readable:
		c.read()
	}
	if e.writable() && c.fd != noFD && len(c.out) > 0 {
		c.flush()
	}
}

// connected takes the first event of a connection that is being made, and
// reports whether it was.
func (c *Conn) connected(e *event) bool {
	if e.ended() {
		if err := socketError(int(c.fd)); err != nil {
			c.lose(err)
			return false
		}
	}
	if !e.writable() {
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
		if c.deaf() {
			c.readable = true
			return
		}
		if len(c.loop.held) > 0 && !c.loop.deliverHeld(c) {
			return
		}
		n, err := read(int(c.fd), c.loop.buf)
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
		c.passed(inward)
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

// end tells of the peer's end, which was held.
func (c *Conn) end(err error) {
	switch {
	case err != nil && (c.failed == nil || c.failed == syscall.EPIPE):
		c.lose(err)
	case c.failed != nil && c.failed != syscall.EPIPE:
		c.lose(c.failed) // see read
	default:
		c.eof = true
		c.handler.Closed(nil)
		c.afterEnd()
		if !c.closed && !c.lost {
			c.loop.engine.ended(c)
		}
	}
}

// afterEnd tells what may have come after the peer's orderly end: a reset, of
// which reading doesn't tell.
func (c *Conn) afterEnd() {
	if c.closed || c.deaf() || c.lost {
		return
	}
	if c.broken && c.failed == nil {
		c.broken = false
		c.failed = socketError(int(c.fd))
	}
	if c.failed != nil {
		c.lose(c.failed)
	}
}

// flush writes what was kept.
func (c *Conn) flush() {
	if c.frozen {
		return
	}
	if len(c.out) > 0 && c.sending == 0 {
		// A failure has dropped what is kept, and there is nothing to cut.
		if n := c.loop.engine.write(c, c.out); n < len(c.out) {
			c.out = c.out[n:]
		} else {
			c.out = nil
		}
	}
	if len(c.out) > 0 || c.sending > 0 || c.failed != nil {
		return
	}
	if c.writeEnd {
		c.loop.engine.shutdown(c)
	}
	if c.kept {
		c.kept = false
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

// An address is a netip.AddrPort without a zone, in less memory.
type address struct {
	ip   [16]byte
	port uint16
	is4  bool
}

func newAddress(a netip.AddrPort) address {
	return address{a.Addr().As16(), a.Port(), a.Addr().Unmap().Is4()}
}

func (a address) addrPort() netip.AddrPort {
	ip := netip.AddrFrom16(a.ip)
	if a.is4 {
		ip = ip.Unmap()
	}
	return netip.AddrPortFrom(ip, a.port)
}
