package loop

import (
	"errors"
	"net/netip"
	"syscall"
	"time"
)

// A State is what a frozen connection is beside its descriptor: what another
// loop, maybe another process's, needs to go on with it.
type State struct {
	Remote netip.AddrPort
	In     []byte // received and not delivered
	End    bool   // behind In stands the peer's end, of which Closed has not told
	EndErr syscall.Errno
	Out    []byte        // written and not taken by the kernel
	Kept   bool          // Drained is due when Out is gone
	Failed syscall.Errno // why nothing can be written any more; 0: it can
	Timer  time.Duration // until it runs out; 0: there is none

	Ours     bool // made by Connect
	NoDelay  bool // small writes are sent at once
	Paused   bool
	EOF      bool // Closed(nil) was delivered
	Lost     bool // Closed(err) was delivered
	WriteEnd bool // CloseWrite was called
}

// A freezing is a Freeze that is not done.
type freezing struct {
	conns []*Conn
	done  func()
}

// Freeze has nothing happen any more on these connections, which must have been
// made: no byte is read or written, no timer runs out and no handler is called,
// until Thaw. What is under way in the kernel is ended, or awaited, and then done
// is called; that takes as long as the kernel does, whatever the peers do, unless
// StopFreezing comes before. For handlers and Do only.
func (l *Loop) Freeze(conns []*Conn, done func()) {
	for _, c := range conns {
		c.frozen = true
		l.timers.remove(c)
		l.engine.freeze(c)
	}
	l.freezing = append(l.freezing, freezing{conns, done})
}

// StopFreezing gives up every Freeze that is not done: its done is not called any
// more. Its connections are frozen until Thaw all the same, which may come at once.
// For handlers and Do only.
func (l *Loop) StopFreezing() { l.freezing = nil }

// finishFreezes calls done where nothing is under way any more.
func (l *Loop) finishFreezes() {
	if len(l.freezing) == 0 {
		return
	}
	all := l.freezing
	l.freezing = nil
	for _, f := range all {
		if l.still(f.conns) {
			f.done()
		} else {
			l.freezing = append(l.freezing, f)
		}
	}
}

// still reports whether the kernel does nothing any more on conns.
func (l *Loop) still(conns []*Conn) bool {
	for _, c := range conns {
		if !c.closed && !l.engine.still(c) {
			return false
		}
	}
	return true
}

// Thaw ends a Freeze as if nothing had been: what has arrived meanwhile is
// delivered, what is kept is written, and a timer that is over runs out.
func (c *Conn) Thaw() {
	if !c.frozen {
		return
	}
	c.frozen, c.thawed, c.readable = false, true, true
	if c.timer.at != 0 {
		c.loop.timers.set(c, c.timer.at)
	}
	if err := c.loop.engine.thaw(c); err != nil {
		c.fail(err)
	}
	c.schedule()
}

// FD returns the descriptor, which stays the connection's.
func (c *Conn) FD() int { return int(c.fd) }

// State returns what is to be known of a frozen connection.
func (c *Conn) State() *State {
	s := &State{
		Remote: c.RemoteAddr(), Out: c.out, Kept: c.kept, Ours: c.ours, NoDelay: c.noDelay,
		Paused: c.paused, EOF: c.eof, Lost: c.lost, WriteEnd: c.writeEnd,
	}
	if h := c.loop.held[c]; h != nil {
		s.In, s.End, s.EndErr = h.bytes, h.end, number(h.err)
	}
	if c.timer.at != 0 {
		s.Timer = max(c.timer.at-c.loop.now, 1)
	}
	s.Failed = number(c.failed)
	return s
}

// number returns an error as the system's number.
func number(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	if n, ok := errors.AsType[syscall.Errno](err); ok {
		return n
	}
	return syscall.EIO
}

// failure is number's other way.
func failure(n syscall.Errno) error {
	if n == 0 {
		return nil
	}
	return n
}

// Attach makes a connection of a descriptor and of what its connection was
// elsewhere. It is frozen: Thaw begins it, after Handle has said whom it tells.
// Until then Close gives up no more than this descriptor, as it does for every
// frozen connection: whoever else has the connection can go on with it. For
// handlers and Do only.
func (l *Loop) Attach(fd int, s *State) *Conn {
	c := &Conn{
		loop: l, fd: int32(fd), remote: newAddress(s.Remote), out: s.Out, kept: s.Kept, failed: failure(s.Failed),
		ours: s.Ours, noDelay: s.NoDelay, paused: s.Paused, eof: s.EOF, lost: s.Lost, writeEnd: s.WriteEnd, frozen: true,
	}
	c.ended = c.failed != nil
	if len(s.In) > 0 || s.End {
		l.held[c] = &held{s.In, s.End, failure(s.EndErr)}
	}
	if s.Timer != 0 {
		c.timer.at = l.now + s.Timer
	}
	l.register(c)
	return c
}

// Handle says who is told what happens on a connection from Attach.
func (c *Conn) Handle(h Handler) { c.handler = h }

// held is what was received for a connection and could not be delivered yet.
type held struct {
	bytes []byte
	end   bool
	err   error // of the end
}

// hold returns what is held for c, where something is to be added.
func (l *Loop) hold(c *Conn) *held {
	h := l.held[c]
	if h == nil {
		h = new(held)
		l.held[c] = h
	}
	return h
}

// deliverHeld delivers what is held for c, and reports whether there may be more
// to read, and somebody to tell.
func (l *Loop) deliverHeld(c *Conn) bool {
	h := l.held[c]
	if h == nil {
		return true
	}
	for len(h.bytes) > 0 {
		// In pieces as reads have them: who hears of one may not want the next yet.
		p := h.bytes[:min(len(h.bytes), readSize)]
		h.bytes = h.bytes[len(p):]
		c.handler.Received(p)
		if c.closed || c.deaf() {
			c.readable = !c.closed // the end may still be held
			return false
		}
	}
	delete(l.held, c)
	if h.end {
		c.end(h.err)
		return false
	}
	return true
}

// dropHeld forgets what is held for a connection that is closed. Had the kernel
// still had it, the peer would be told by a reset that nobody has read it.
func (l *Loop) dropHeld(c *Conn) {
	if h := l.held[c]; h != nil {
		if len(h.bytes) > 0 {
			resetOnClose(int(c.fd))
		}
		delete(l.held, c)
	}
}
