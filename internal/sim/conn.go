package sim

import (
	"net/netip"
	"os"
	"syscall"
	"time"
)

const (
	errRefused = syscall.ECONNREFUSED
	errReset   = syscall.ECONNRESET
	errPipe    = syscall.EPIPE
	errTimeout = syscall.ETIMEDOUT
)

// A Conn is one end of a connection, as package loop has it.
type Conn struct {
	net     *Net
	handler Handler
	peer    *Conn // nil until a connect has arrived
	remote  netip.AddrPort
	local   netip.AddrPort

	connecting bool
	closed     bool // by Close: nobody is told anything any more
	paused     bool
	eof, lost  bool // what Closed has told
	writeEnd   bool // nothing more will be written
	endSent    bool
	cut        bool // the network has forgotten this connection

	out      []byte        // written, not taken by the kernel
	sent     int           // bytes that the kernel took; the end counts as one
	acked    int           // of these, what the peer's kernel is known to have
	taken    int           // of these, what the peer's program is known to have read
	lastSent time.Duration // when what was sent last arrives: segments keep their order

	received int    // bytes that have arrived, with the end
	in       []byte // of these, what nobody has read
	fin      bool   // the peer's end has arrived
	rst      error  // the peer's reset has arrived

	timer   time.Duration
	timerID uint64
}

// Handle says who is told what happens from now on.
func (c *Conn) Handle(h Handler) { c.handler = h }

// RemoteAddr returns the peer's address.
func (c *Conn) RemoteAddr() netip.AddrPort { return c.remote }

// LocalAddr returns this end's address.
func (c *Conn) LocalAddr() netip.AddrPort { return c.local }

// Buffered returns how many bytes were written and not taken by the kernel.
func (c *Conn) Buffered() int { return len(c.out) }

// Unacked returns how many written bytes the peer's kernel isn't known to have;
// the end that CloseWrite sends counts as one. The error is that of a reset which
// has arrived.
func (c *Conn) Unacked() (int, error) {
	if c.closed || c.connecting && c.lost {
		return 0, os.ErrClosed
	}
	return c.sent - c.acked + len(c.out), c.rst
}

// QuickAck does nothing: acknowledgements here are as quick as the network.
func (c *Conn) QuickAck() {}

// Write sends p.
func (c *Conn) Write(p []byte) {
	if c.writeEnd || c.closed || c.lost || len(p) == 0 {
		return
	}
	if c.rst != nil {
		return // told by Closed
	}
	kept := len(c.out) > 0
	c.out = append(c.out, p...)
	if !kept && !c.connecting {
		c.send()
	}
}

// send gives the kernel what it takes.
func (c *Conn) send() {
	for len(c.out) > 0 && c.sent-c.taken < c.net.opts.Window {
		n := 1 + c.net.rng.IntN(min(len(c.out), c.net.opts.Segment, c.net.opts.Window-(c.sent-c.taken)))
		if c.net.rng.IntN(2) == 0 {
			n = min(len(c.out), c.net.opts.Segment, c.net.opts.Window-(c.sent-c.taken))
		}
		segment := append([]byte(nil), c.out[:n]...)
		c.out = c.out[n:]
		c.sent += n
		c.deliver(func(p *Conn) { p.receive(segment) })
	}
}

// deliver has f happen at the peer after all that was sent before. Every
// segment tells the peer what has arrived here until now.
func (c *Conn) deliver(f func(peer *Conn)) {
	if c.cut {
		return
	}
	c.lastSent = max(c.lastSent, c.net.now+c.net.delay())
	seen, peer := c.received, c.peer
	c.net.at(c.lastSent, func() {
		if c.cut {
			return
		}
		peer.acked = max(peer.acked, seen)
		f(peer)
	})
}

// CloseWrite ends this side in order.
func (c *Conn) CloseWrite() {
	if c.closed {
		return
	}
	c.writeEnd = true
	c.sendEnd()
}

// sendEnd sends the end if it is its turn.
func (c *Conn) sendEnd() {
	if !c.writeEnd || c.endSent || c.connecting || len(c.out) > 0 || c.rst != nil {
		return
	}
	c.endSent = true
	c.sent++
	c.deliver(func(p *Conn) { p.end() })
}

// Pause stops Received and Closed.
func (c *Conn) Pause() { c.paused = true }

// Resume ends a Pause.
func (c *Conn) Resume() {
	if c.paused {
		c.paused = false
		c.net.After(0, c.read)
	}
}

// SetTimer has TimedOut called at that time; 0 stops the timer.
func (c *Conn) SetTimer(at time.Duration) {
	c.timerID++
	c.timer = at
	if at == 0 || c.closed {
		return
	}
	id := c.timerID
	c.net.at(max(at, c.net.now), func() {
		if c.timerID == id && !c.closed {
			c.timer = 0
			c.handler.TimedOut()
		}
	})
}

// Close gives the connection up: in order if everything that has arrived was
// read, by a reset otherwise.
func (c *Conn) Close() { c.giveUp(len(c.in) > 0) }

// Reset gives the connection up by a reset.
func (c *Conn) Reset() { c.giveUp(true) }

func (c *Conn) giveUp(reset bool) {
	if c.closed {
		return
	}
	c.net.open--
	c.closed = true
	c.timerID++
	c.out = nil
	c.writeEnd = true
	switch {
	case c.peer == nil || c.rst != nil:
	case reset:
		c.reset()
	default:
		c.connecting = false // or the peer, which doesn't know, would wait for ever
		c.sendEnd()
	}
}

func (c *Conn) reset() { c.deliver(func(p *Conn) { p.abort() }) }

// Cut has the network forget the connection: nothing arrives any more, and the
// ends find out after the user timeout.
func (c *Conn) Cut() {
	for _, end := range []*Conn{c, c.peer} {
		if end == nil {
			continue
		}
		end.cut = true
		c.net.After(c.net.opts.UserTimeout, func() {
			switch {
			case end.connecting:
				end.refuse(errTimeout)
			case !end.closed && end.rst == nil:
				end.rst = errTimeout
				end.drop()
				end.read()
			}
		})
	}
}

// establish is the arrival of the listener's answer.
func (c *Conn) establish() {
	if c.closed || c.cut {
		return
	}
	if c.rst != nil {
		c.refuse(c.rst)
		return
	}
	c.connecting = false
	c.handler.Connected()
	if c.closed {
		return
	}
	c.flush()
	c.read()
}

// flush sends what was kept.
func (c *Conn) flush() {
	kept := len(c.out) > 0
	c.send()
	c.sendEnd()
	if kept && len(c.out) == 0 && !c.closed && !c.lost {
		c.handler.Drained()
	}
}

// refuse ends a connect.
func (c *Conn) refuse(err error) {
	if c.closed || c.lost {
		return
	}
	c.lost = true
	c.out = nil
	c.handler.Closed(err)
}

// receive is the arrival of bytes.
func (c *Conn) receive(p []byte) {
	if c.rst != nil {
		return
	}
	if c.closed {
		c.reset() // nobody is left to read them
		return
	}
	c.received += len(p)
	c.in = append(c.in, p...)
	c.acknowledge()
	c.read()
}

// acknowledge tells the peer what has arrived and what was read.
func (c *Conn) acknowledge() {
	if c.cut {
		return
	}
	seen, read, peer := c.received, c.received-len(c.in), c.peer
	c.net.After(c.net.delay(), func() {
		if c.cut {
			return
		}
		peer.acked = max(peer.acked, seen)
		peer.window(read)
	})
}

// window is told how much the peer's program has read.
func (c *Conn) window(read int) {
	if read <= c.taken || c.closed || c.rst != nil {
		return
	}
	c.taken = read
	c.flush()
}

// end is the arrival of the peer's orderly end.
func (c *Conn) end() {
	c.fin = true
	c.received++
	c.acknowledge()
	c.read()
}

// abort is the arrival of a reset.
func (c *Conn) abort() {
	if c.rst == nil {
		c.rst = errReset
		if c.fin {
			c.rst = errPipe
		}
		c.drop()
		c.read()
	}
}

// drop drops what is kept. Who has paused may wait for it to be gone.
func (c *Conn) drop() {
	kept := len(c.out) > 0
	c.out = nil
	if kept && c.paused && !c.closed {
		c.handler.Drained()
	}
}

// read tells the program what has arrived, in its order.
func (c *Conn) read() {
	for !c.closed && !c.connecting && !c.paused && c.handler != nil && len(c.in) > 0 {
		p := c.in
		c.in = nil
		c.handler.Received(p)
		if !c.closed {
			c.acknowledge()
		}
	}
	if c.closed || c.connecting || c.paused || c.handler == nil {
		return
	}
	if c.fin && !c.eof {
		c.eof = true
		c.handler.Closed(nil)
	}
	if c.rst != nil && !c.lost && !c.closed && !c.paused {
		c.lost = true
		c.handler.Closed(c.rst)
	}
}
