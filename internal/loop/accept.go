package loop

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
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
	opts ListenOptions

	mu        sync.Mutex
	acceptors []*acceptor
}

// ListenOptions are a listener's. The zero value is usable.
type ListenOptions struct {
	// PeerSpeaks is for protocols in which the peer speaks first: a connection
	// stays in the kernel until its first bytes are there, or for so long, and
	// is read from as soon as it is accepted. 0 means a protocol in which
	// anybody may.
	PeerSpeaks time.Duration
}

// Listen opens a TCP listener on an address such as ":4577". Connections inherit
// from it that small writes are sent at once.
func Listen(ctx context.Context, address string, o ListenOptions) (*Listener, error) {
	var optErr error
	lc := net.ListenConfig{
		KeepAlive: -1, // a loop gives connections theirs, when they are old enough
		Control: func(_, _ string, rc syscall.RawConn) error {
			return rc.Control(func(fd uintptr) {
				if optErr = setNoDelay(int(fd)); optErr == nil && o.PeerSpeaks > 0 {
					optErr = setDefer(int(fd), o.PeerSpeaks)
				}
			})
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
	return duplicateListener(ln.(*net.TCPListener), o)
}

// Inherit makes a listener of a TCP socket that somebody else has opened and that
// listens already, such as systemd. The listener has a descriptor of its own: f
// stays open, and may be given again when the listener is closed.
func Inherit(f *os.File, o ListenOptions) (*Listener, error) {
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("listener %s: not TCP", ln.Addr())
	}
	inherited, err := duplicateListener(tcp, o)
	if err != nil {
		return nil, err
	}
	if err = setNoDelay(inherited.fd); err == nil && o.PeerSpeaks > 0 {
		err = setDefer(inherited.fd, o.PeerSpeaks)
	}
	if err != nil {
		inherited.Close()
		return nil, fmt.Errorf("set options of listener %s: %w", ln.Addr(), err)
	}
	return inherited, nil
}

// duplicateListener makes a listener of ln's socket, with a descriptor of its own.
func duplicateListener(ln *net.TCPListener, o ListenOptions) (*Listener, error) {
	rc, err := ln.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("take descriptor of listener %s: %w", ln.Addr(), err)
	}
	fd := noFD
	if cerr := rc.Control(func(s uintptr) { fd, err = duplicate(int(s)) }); cerr != nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("duplicate descriptor of listener %s: %w", ln.Addr(), err)
	}
	return &Listener{fd: fd, addr: ln.Addr().(*net.TCPAddr).AddrPort(), opts: o}, nil
}

// Addr returns the address that the listener is bound to.
func (ln *Listener) Addr() netip.AddrPort { return ln.addr }

// FD returns the descriptor, which stays the listener's.
func (ln *Listener) FD() int { return ln.fd }

// Net returns a listener of package net on the same socket, with a descriptor of its
// own: for connections that no loop can serve by itself.
func (ln *Listener) Net() (*net.TCPListener, error) {
	fd, err := duplicate(ln.fd)
	if err != nil {
		return nil, fmt.Errorf("duplicate descriptor of listener %s: %w", ln.addr, err)
	}
	f := os.NewFile(uintptr(fd), ln.addr.String())
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// Close stops listening. Every loop must have ended its Accept before.
func (ln *Listener) Close() {
	closeFD(ln.fd)
	ln.fd = noFD
}

// An acceptor is a listener as one loop serves it.
type acceptor struct {
	loop     *Loop
	listener *Listener
	gifts    []arrival // from other loops; guarded by the listener's mu
	fd       int
	slot     uint32
	farewell []byte
	eager    bool  // connections have bytes when they are accepted
	resting  bool  // the engine doesn't listen
	rest     *Conn // none at all: its timer ends the rest
	open     func(*Conn) Handler
	shed     func(error)
}

// Accept takes connections from ln from now on and calls open for each, which
// returns the connection's handler, or nil to have it closed without a byte. A
// connection for which there is no descriptor gets the listener's farewell and is
// closed, and shed is called with the reason. For handlers and Do only;
// [Loop.Refuse] and [Loop.Finish] end it.
func (l *Loop) Accept(ln *Listener, open func(*Conn) Handler, shed func(error)) error {
	a := &acceptor{loop: l, listener: ln, fd: ln.fd, slot: l.takeSlot(), farewell: ln.Farewell, eager: ln.opts.PeerSpeaks > 0, open: open, shed: shed}
	a.rest = &Conn{loop: l, handler: (*resting)(a), fd: noFD, slot: noSlot}
	l.slots[a.slot].acceptor = a
	if err := l.engine.listen(a); err != nil {
		l.freeSlot(a.slot)
		return fmt.Errorf("watch listener %s: %w", ln.addr, err)
	}
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.acceptors = append(ln.acceptors, a)
	return nil
}

// Refuse ends Accept. What waits in the listener's line stays there. For
// handlers and Do only.
func (l *Loop) Refuse(ln *Listener) {
	if a := l.acceptorOf(ln); a != nil {
		ln.mu.Lock()
		ln.acceptors = slices.DeleteFunc(ln.acceptors, func(b *acceptor) bool { return a == b })
		ln.mu.Unlock()
		a.take() // nobody gives it any more
		l.engine.unlisten(a)
		l.freeSlot(a.slot)
		a.rest.Close()
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
	generation, submitted := l.slots[a.slot].generation, false
	for range acceptBurst {
		fd, remote, err := acceptSocket(a.fd)
		switch {
		case err == nil:
			submitted = false
			l.place(fd, remote, a)
		case outOfDescriptors(err) && !submitted:
			submitted = true
			l.engine.submit() // some may be about to be closed
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

// fairShare is how many connections a loop may have more than another, besides an
// eighth of its own, before it gives new ones away.
const fairShare = 16

// place makes fd a connection of this loop, or of one that has far fewer. Of
// loops that wait the kernel wakes the one that has waited for the shortest
// time, so that one would get nearly all of the calls of a quiet hour, and their
// commands in the busy one.
func (l *Loop) place(fd int, remote netip.AddrPort, a *acceptor) {
	b := a.listener.give(a, arrival{fd, remote})
	switch {
	case b == a:
		l.adopt(fd, remote, a)
	case b.loop.Do(b.take) != nil: // it has ended, and takes nothing any more
		for _, x := range b.given() {
			l.adopt(x.fd, x.remote, a)
		}
	}
}

// An arrival is a connection that was accepted.
type arrival struct {
	fd     int
	remote netip.AddrPort
}

// give gives x to the acceptor that should have it, if that isn't a, and returns
// that one.
func (ln *Listener) give(a *acceptor, x arrival) *acceptor {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	b := slices.MinFunc(ln.acceptors, func(a, b *acceptor) int { return cmp.Compare(a.load(), b.load()) })
	if b.load() >= a.load()*7/8-fairShare {
		return a
	}
	b.gifts = append(b.gifts, x)
	return b
}

// load is how many connections a's loop has, or will have; the listener is
// locked.
func (a *acceptor) load() int { return int(a.loop.load.Load()) + len(a.gifts) }

// given returns what others have given to a since it was last asked.
func (a *acceptor) given() []arrival {
	a.listener.mu.Lock()
	defer a.listener.mu.Unlock()
	given := a.gifts
	a.gifts = nil
	return given
}

// take makes what others have given to a connections of its loop.
func (a *acceptor) take() {
	for _, x := range a.given() {
		a.loop.adopt(x.fd, x.remote, a)
	}
}

// adopt makes fd a connection of this loop.
func (l *Loop) adopt(fd int, remote netip.AddrPort, a *acceptor) {
	c := &Conn{loop: l, fd: int32(fd), slot: noSlot, remote: newAddress(remote), noDelay: true}
	l.register(c)
	if err := l.engine.adopt(c); err != nil {
		c.Write(a.farewell)
		c.Close()
		a.shed(fmt.Errorf("watch connection: %w", err))
		return
	}
	switch c.handler = a.open(c); {
	case c.handler == nil:
		c.Close()
	case a.eager && !c.closed:
		l.engine.proceed(c)
	}
}

// shed closes the connection that waits first, by means of the spare
// descriptor: left alone it would wake the loop for ever. If even that can't be
// had, the listener isn't looked at for a while. It reports whether there was one.
func (l *Loop) shed(a *acceptor, reason error) bool {
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
		l.rest(a)
	}
	return err == nil
}

// rest has the listener not be looked at for a while.
func (l *Loop) rest(a *acceptor) {
	if a.resting {
		return
	}
	a.resting = true
	l.engine.unlisten(a)
	a.rest.SetTimer(l.now + restTime)
}

// resting is an acceptor as its timer sees it.
type resting acceptor

func (*resting) Connected()      {}
func (*resting) Received([]byte) {}
func (*resting) Drained()        {}
func (*resting) Closed(error)    {}

// TimedOut has the poller watch the listener again.
func (a *resting) TimedOut() {
	l := a.loop
	if l.spare == noFD {
		l.spare = openSpare()
	}
	if err := l.engine.listen((*acceptor)(a)); err != nil {
		a.rest.SetTimer(l.now + restTime)
		return
	}
	a.resting = false
}
