package loop

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

const (
	// acceptBurst is how many connections one listener may bring before the
	// loop looks at the others again.
	acceptBurst = 64
	// restTime is how long a listener isn't looked at that has connections,
	// but nothing to take them with.
	restTime = 100 * time.Millisecond
)

// finishRounds times acceptBurst is more than the longest line that the kernel
// keeps by default (net.core.somaxconn, 4096).
const finishRounds = 80

// A Listener is a socket that loops accept connections from. It may be given to
// several loops.
type Listener struct {
	// Farewell is what a connection gets that there is no descriptor for, before
	// it is closed; nil is nothing. It is set before Accept.
	Farewell []byte

	fd   int
	addr netip.AddrPort
}

// Listen opens a TCP listener on an address such as ":4577". Options that every
// connection needs are set on it, since accepted sockets inherit them: no
// delay, and keepalive as o says.
func Listen(ctx context.Context, address string, o Options) (*Listener, error) {
	o = o.withDefaults()
	var optErr error
	lc := net.ListenConfig{
		KeepAlive: -1, // ours are set below, for IPv4 and IPv6 alike
		Control: func(_, _ string, rc syscall.RawConn) error {
			return rc.Control(func(fd uintptr) { optErr = setSessionOptions(int(fd), &o) })
		},
	}
	lc.SetMultipathTCP(false) // Asterisk doesn't speak it, and it takes no TCP options
	ln, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	// The runtime's poller would be woken for each connection that the loops
	// accept, so they get a descriptor that it doesn't watch.
	defer ln.Close()
	if optErr != nil {
		return nil, fmt.Errorf("set options of listener %s: %w", address, optErr)
	}
	rc, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("take descriptor of listener %s: %w", address, err)
	}
	fd := noFD
	if cerr := rc.Control(func(s uintptr) { fd, err = duplicate(int(s)) }); cerr != nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("duplicate descriptor of listener %s: %w", address, err)
	}
	return &Listener{fd: fd, addr: ln.Addr().(*net.TCPAddr).AddrPort()}, nil
}

// Addr returns the address that the listener is bound to.
func (ln *Listener) Addr() netip.AddrPort { return ln.addr }

// Close stops listening. Every loop must have ended its Accept before.
func (ln *Listener) Close() {
	closeFD(ln.fd)
	ln.fd = noFD
}

// An acceptor is a listener as one loop serves it.
type acceptor struct {
	loop     *Loop
	fd       int
	slot     uint32
	farewell []byte
	rest     timer // runs while the poller doesn't watch the listener
	open     func(*Conn) Handler
	shed     func(error)
}

// Accept takes connections from ln from now on and calls open for each, which
// returns the connection's handler, or nil to have it closed without a byte. A
// connection for which there is no descriptor gets the listener's farewell and is
// closed, and shed is called with the reason. For handlers and Do only;
// [Loop.Refuse] and [Loop.Finish] end it.
func (l *Loop) Accept(ln *Listener, open func(*Conn) Handler, shed func(error)) error {
	a := &acceptor{loop: l, fd: ln.fd, slot: l.takeSlot(), farewell: ln.Farewell, open: open, shed: shed}
	a.rest.owner = a
	l.slots[a.slot].acceptor = a
	if err := l.poll.addListener(a.fd, l.id(a.slot)); err != nil {
		l.freeSlot(a.slot)
		return fmt.Errorf("watch listener %s: %w", ln.addr, err)
	}
	return nil
}

// Refuse ends Accept. What waits in the listener's line stays there. For
// handlers and Do only.
func (l *Loop) Refuse(ln *Listener) {
	if a := l.acceptorOf(ln); a != nil {
		l.poll.remove(a.fd)
		l.timers.remove(&a.rest)
		l.freeSlot(a.slot)
	}
}

// Finish takes all that waits in the listener's line, and then is [Loop.Refuse]: a
// connection that the kernel has made already would be reset when the listener
// is closed. For Do only.
func (l *Loop) Finish(ln *Listener) {
	for range finishRounds {
		a := l.acceptorOf(ln)
		if a == nil {
			return // a handler has refused meanwhile
		}
		l.accept(a)
	}
	l.Refuse(ln)
}

// acceptorOf returns how this loop serves ln, nil if it doesn't.
func (l *Loop) acceptorOf(ln *Listener) *acceptor {
	for _, s := range l.slots {
		if s.acceptor != nil && s.acceptor.fd == ln.fd {
			return s.acceptor
		}
	}
	return nil
}

func (l *Loop) accept(a *acceptor) {
	generation := l.slots[a.slot].generation
	for range acceptBurst {
		fd, remote, err := acceptSocket(a.fd)
		switch {
		case err == nil:
			l.adopt(fd, remote, a)
		case outOfDescriptors(err):
			l.shed(a, err)
			return
		case wouldBlock(err):
			return
		default:
			// The peer has gone before it was accepted, or the network has
			// told of an error that belongs to that one connection.
			continue
		}
		if l.slots[a.slot].generation != generation {
			return // the handler has ended the Accept
		}
	}
}

// adopt makes fd a connection of this loop.
func (l *Loop) adopt(fd int, remote netip.AddrPort, a *acceptor) {
	c := &Conn{loop: l, fd: fd, slot: noSlot, remote: remote}
	c.timer.owner = c
	if err := l.register(c); err != nil {
		c.Write(a.farewell)
		c.Close()
		a.shed(fmt.Errorf("watch connection: %w", err))
		return
	}
	if c.handler = a.open(c); c.handler == nil {
		c.Close()
	}
}

// shed closes the connection that waits first, by means of the spare
// descriptor: left alone it would wake the loop for ever. If even that can't be
// had, the listener isn't looked at for a while.
func (l *Loop) shed(a *acceptor, reason error) {
	if l.spare != noFD {
		closeFD(l.spare)
	}
	fd, _, err := acceptSocket(a.fd)
	if err == nil {
		_, _ = write(fd, a.farewell) // a new socket has room for it
		shutdownWrite(fd)
		closeFD(fd)
	}
	l.spare = openSpare()
	switch {
	case err == nil:
		a.shed(reason)
	case outOfDescriptors(err):
		l.poll.remove(a.fd)
		l.timers.set(&a.rest, l.now+restTime)
	}
}

// expired has the poller watch the listener again.
func (a *acceptor) expired() {
	l := a.loop
	if l.spare == noFD {
		l.spare = openSpare()
	}
	if err := l.poll.addListener(a.fd, l.id(a.slot)); err != nil {
		l.timers.set(&a.rest, l.now+restTime)
	}
}
