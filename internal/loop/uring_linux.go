package loop

import (
	"bytes"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A uring is the engine that has the kernel do things and is told when they are
// done: what a turn of the loop brings about goes to the kernel in one call,
// which waits for the next results as well.
type uring struct {
	loop   *Loop
	ring   *ring
	wakeFD int
	sends  []send
	free   []uint32   // sends that are not under way
	batch  []uint32   // sends that the next enter, or one of this turn, submits
	spare  []uint32   // the batch before it
	hurry  bool       // somebody waits for the end of such a send
	over   []newcomer // connections that have told their end, the oldest first
}

// A send is bytes on their way to the kernel. It is decided when the kernel has
// been entered: only what was not sent as a whole has a result.
type send struct {
	conn  *Conn // nil if it was closed meanwhile
	buf   []byte
	entry *sqe   // that says so
	enter uint32 // the number of the enter before which it was prepared
}

const (
	// mostHeld is how much may arrive for a paused connection until the kernel
	// is asked to keep the rest. What it has received by then comes on top.
	mostHeld = 8 << 10
	// mostJoined is from where on a write is kept and not joined to the one
	// before it: whoever looks at Buffered should see that it gets too much.
	mostJoined = 32 << 10
	// sendSize is what a line and its like need; longer ones get their own.
	sendSize = 512
	// watchAfter is how long after a connection's orderly end it is watched for a
	// reset. Nearly all are closed by then.
	watchAfter = 5 * time.Millisecond
)

// The kinds of results, in a result's highest bits. Below are a connection's
// number, as the poller has it, or an index.
const (
	kindShift = 61

	kindNone    = 0 // nobody waits for it
	kindRecv    = 1
	kindSend    = 2
	kindConnect = 3
	kindListen  = 4
	kindWake    = 5
	kindRoom    = 6
	kindError   = 7

	idMask = 1<<kindShift - 1
)

func newURing(l *Loop) (engine, error) {
	r, err := openRing()
	if err != nil {
		return nil, err
	}
	wakeFD, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		r.close()
		return nil, os.NewSyscallError("eventfd", err)
	}
	return &uring{loop: l, ring: r, wakeFD: wakeFD}, nil
}

func (u *uring) start() error {
	if err := u.ring.start(); err != nil {
		return err
	}
	u.watchWake()
	return nil
}

func (u *uring) close() {
	u.submit() // what connections were given up
	u.ring.close()
	closeFD(u.wakeFD)
}

func (u *uring) submit() { _ = u.ring.enter(0, 0, true) } // an error comes again in the turn's own

func (u *uring) wake() {
	one := [8]byte{1}
	_, _ = unix.Write(u.wakeFD, one[:])
}

func (u *uring) watchWake() {
	e := u.ring.next()
	e.op, e.fd, e.opFlags, e.len = opPollAdd, int32(u.wakeFD), unix.POLLIN, pollMultishot
	e.data = kindWake << kindShift
}

// prepare returns an entry for the connection, of that kind.
func (u *uring) prepare(c *Conn, op uint8, kind uint64) *sqe {
	e := u.ring.next()
	e.op, e.fd = op, c.fd
	if kind == kindNone {
		e.flags = sqeSkipSuccess
	} else {
		e.data = u.data(c, kind)
	}
	return e
}

// data is how a result of that kind tells whose it is.
func (u *uring) data(c *Conn, kind uint64) uint64 { return kind<<kindShift | u.loop.id(c.slot)&idMask }

// turn gives the kernel what was prepared, waits and tells of the results.
func (u *uring) turn(patience time.Duration, hold bool) (happened bool, err error) {
	if u.watchEnded(); len(u.over) > 0 && (patience < 0 || patience > watchAfter) {
		patience = watchAfter
	}
	want := uint32(1)
	if patience == 0 || u.hurry || u.ring.results() > 0 {
		want, patience = 0, 0
	}
	batch := u.batch
	u.batch, u.hurry = u.spare[:0], false
	if err := u.ring.enter(want, patience, hold); err != nil {
		return false, err
	}
	u.loop.tick()
	if u.ring.prepared() > 0 {
		// The kernel has no memory, or no room for results, and takes the rest
		// when it was relieved of those that there are.
		u.batch, batch, u.hurry = batch, u.batch, true
	}
	for {
		// What comes meanwhile is the next turn's, or one could go on for ever.
		for range u.ring.results() {
			e := u.ring.take()
			happened = true
			u.deliver(e)
		}
		if !u.ring.overflowed() {
			break
		}
		if err := u.ring.enter(0, 0, true); err != nil { // which brings more of them
			return false, err
		}
	}
	u.decided(batch)
	u.spare = batch
	return happened, nil
}

// decided takes the sends of an enter whose results have all been seen as done.
func (u *uring) decided(batch []uint32) {
	for _, i := range batch {
		s := &u.sends[i]
		c := s.conn
		s.conn, s.entry = nil, nil
		if cap(s.buf) > sendSize {
			s.buf = make([]byte, 0, sendSize)
		}
		u.free = append(u.free, i)
		if c != nil {
			c.sending = 0
			if !c.watchedOut { // else there was no room, and a result will tell of it
				c.flush()
			}
		}
	}
}

func (u *uring) deliver(e cqe) {
	switch e.data >> kindShift {
	case kindSend:
		u.sent(uint32(e.data&idMask), e.res)
	case kindListen:
		u.arrived(e.data, e.res)
	case kindWake:
		var count [8]byte
		_, _ = unix.Read(u.wakeFD, count[:])
		if e.flags&cqeMore == 0 {
			u.watchWake()
		}
	case kindRecv:
		u.received(u.conn(e.data), e)
	case kindConnect:
		if c := u.conn(e.data); c != nil {
			u.connected(c, e.res)
		}
	case kindRoom:
		if c := u.conn(e.data); c != nil {
			c.watchedOut = false
			c.flush()
		}
	case kindError:
		if c := u.conn(e.data); c != nil {
			c.polling = e.flags&cqeMore != 0
			if e.res > 0 && e.res&unix.POLLERR != 0 {
				c.broken, c.readable = true, true
				c.afterEnd()
			}
		}
	}
}

// slot returns whose a result is, nil if that one was closed meanwhile.
func (u *uring) slot(data uint64) *slot {
	id := data & idMask
	s := &u.loop.slots[uint32(id)]
	if uint64(s.generation)<<32&idMask != id&^(1<<32-1) {
		return nil
	}
	return s
}

// conn returns whom a result belongs to, nil if it was closed meanwhile.
func (u *uring) conn(data uint64) *Conn {
	if s := u.slot(data); s != nil {
		return s.conn
	}
	return nil
}

// receive has what arrives be received from now on. A write that has failed has
// it end: there may be something to read yet, but nothing is waited for.
func (u *uring) receive(c *Conn) {
	switch {
	case c.eof || c.lost:
		return
	case c.failed != nil && c.receiving:
		u.stopReceiving(c)
		return
	case c.failed != nil:
		c.read()
		return
	case c.receiving:
		return
	}
	c.receiving = true
	e := u.prepare(c, opRecv, kindRecv)
	e.flags = sqeBufferSelect
	if !c.bulk {
		e.ioprio = recvMultishot
	}
	if c.last == neither && c.ours {
		e.ioprio |= recvPollFirst // nothing can be there yet
	}
}

func (u *uring) received(c *Conn, e cqe) {
	if e.flags&cqeBuffer != 0 {
		defer u.ring.giveBack(uint16(e.flags >> cqeBufferShift))
	}
	if c == nil {
		return
	}
	if e.flags&cqeMore == 0 {
		c.receiving, c.stopping = false, false
	}
	if c.lost {
		return
	}
	switch {
	case e.res > 0 && (c.deaf() || c.readable):
		c.readable = true
		h := u.loop.hold(c)
		h.bytes = append(h.bytes, u.ring.buffer(e)...)
		if len(h.bytes) > mostHeld && c.receiving {
			u.stopReceiving(c)
		}
		return
	case e.res > 0:
		// A peer that fills buffers would have 32 of them at a time (the kernel's
		// MULTISHOT_MAX_RETRY), and a few such peers all that there are, so that others
		// would wait for turns of a megabyte. It gets one a turn.
		if c.bulk = e.res == ringBufferSize; c.bulk && c.receiving {
			u.stopReceiving(c)
		}
		c.passed(inward)
		c.handler.Received(u.ring.buffer(e))
	case e.res == -int32(unix.ENOBUFS), e.res == -int32(unix.ECANCELED), e.res == -int32(unix.EINTR), e.res == -int32(unix.EAGAIN):
	default:
		var err error
		if e.res < 0 {
			err = syscall.Errno(-e.res)
		}
		if c.deaf() || c.readable {
			c.readable = true
			h := u.loop.hold(c)
			h.end, h.err = true, err
			return
		}
		c.end(err)
		return
	}
	switch {
	case c.closed:
	case c.deaf() || c.readable:
		c.readable = true
	default:
		u.receive(c)
	}
}

// stopReceiving ends what receive began.
func (u *uring) stopReceiving(c *Conn) {
	if !c.stopping {
		c.stopping = true
		u.cancel(c, kindRecv)
	}
}

// cancel has the kernel end what is under way of that kind; a last result tells
// of it. To name it costs less than to have the kernel look for all that a
// descriptor has under way.
func (u *uring) cancel(c *Conn, kind uint64) {
	e := u.prepare(c, opAsyncCancel, kindNone)
	e.fd, e.addr = -1, u.data(c, kind)
}

// ended notes that c has told its end.
func (u *uring) ended(c *Conn) { u.over = append(u.over, newcomer{u.loop.id(c.slot), u.loop.now}) }

// watchEnded has the kernel tell of a reset on connections that ended in order a
// while ago.
func (u *uring) watchEnded() {
	n := 0
	for ; n < len(u.over) && u.loop.now-u.over[n].since >= watchAfter; n++ {
		if c := u.loop.conn(u.over[n].id); c != nil && !c.lost && !c.frozen && !c.polling {
			c.polling = true
			e := u.prepare(c, opPollAdd, kindError)
			e.len = pollMultishot // for the end, which is there already, and for what comes after it
		}
	}
	u.over = slices.Delete(u.over, 0, n)
}

// proceed goes on where a pause, or a write that failed, has interrupted.
func (u *uring) proceed(c *Conn) {
	if c.readable = c.deaf(); c.readable {
		return
	}
	if u.loop.deliverHeld(c) {
		u.receive(c)
	}
}

// write sends p, with what else is sent before the next enter. A write that is
// under way takes it as well, unless it is submitted or long.
func (u *uring) write(c *Conn, p []byte) int {
	if c.sending > 0 {
		if s := &u.sends[c.sending-1]; !u.submitted(s) && len(s.buf) <= mostJoined {
			s.add(p)
			return len(p)
		}
		u.hurry = true
		return 0
	}
	c.passed(outward)
	var i uint32
	if n := len(u.free); n > 0 {
		i = u.free[n-1]
		u.free = u.free[:n-1]
	} else {
		i = uint32(len(u.sends))
		u.sends = append(u.sends, send{buf: make([]byte, 0, sendSize)})
	}
	u.batch = append(u.batch, i)
	u.hurry = u.hurry || c.kept
	c.sending = i + 1
	e := u.prepare(c, opSend, kindNone)
	// Either all of it is sent at once and without a result, or a result tells
	// how much.
	e.opFlags, e.data = unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT|unix.MSG_WAITALL, kindSend<<kindShift|uint64(i)
	s := &u.sends[i]
	s.conn, s.entry, s.enter, s.buf = c, e, u.ring.enters, s.buf[:0]
	s.add(p)
	return len(p)
}

// submitted reports whether the kernel has been given s.
func (u *uring) submitted(s *send) bool { return s.enter != u.ring.enters }

// unsent returns how much was written that the kernel has not been given yet.
func (u *uring) unsent(c *Conn) int {
	if c.sending == 0 || u.submitted(&u.sends[c.sending-1]) {
		return 0
	}
	return len(u.sends[c.sending-1].buf)
}

// add adds to a send that is not submitted yet.
func (s *send) add(p []byte) {
	s.buf = append(s.buf, p...)
	s.entry.addr, s.entry.len = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(s.buf)))), uint32(len(s.buf))
}

// sent takes the result of a send that has not sent everything.
func (u *uring) sent(i uint32, res int32) {
	s := &u.sends[i]
	c := s.conn
	switch {
	case c == nil:
	case res >= 0 || res == -int32(unix.EAGAIN) || res == -int32(unix.EINTR):
		c.out = append(bytes.Clone(s.buf[max(0, res):]), c.out...)
		c.kept = true
		if c.frozen {
			return
		}
		c.watchedOut = true
		e := u.prepare(c, opPollAdd, kindRoom)
		e.opFlags = unix.POLLOUT
	default:
		c.fail(syscall.Errno(-res))
	}
}

// shutdown ends c's side, after the write that is under way if there is one. The
// ring would have a thread of the kernel's do it.
func (u *uring) shutdown(c *Conn) {
	if c.sending > 0 {
		u.hurry = true // flush will come back here
		return
	}
	shutdownWrite(int(c.fd))
}

// release closes c's descriptor, with everything that is under way on it.
func (u *uring) release(c *Conn) {
	u.loop.dropHeld(c)
	if c.sending > 0 {
		if c.writeEnd {
			// The end comes after what was written, and before what a close over
			// unread bytes brings about.
			u.submit()
			shutdownWrite(int(c.fd))
		}
		u.sends[c.sending-1].conn = nil
	}
	for _, under := range []struct {
		way  bool
		kind uint64
	}{{c.receiving, kindRecv}, {c.connecting, kindConnect}, {c.watchedOut, kindRoom}, {c.polling, kindError}} {
		if under.way {
			u.cancel(c, under.kind)
		}
	}
	u.prepare(c, opClose, kindNone)
}

// freeze ends what waits for the peer. A write under way is awaited, which
// doesn't: it takes what there is room for.
func (u *uring) freeze(c *Conn) {
	u.hurry = u.hurry || c.sending > 0
	if c.receiving {
		u.stopReceiving(c)
	}
	if c.watchedOut {
		u.cancel(c, kindRoom)
	}
	if c.polling {
		u.cancel(c, kindError)
	}
}

func (u *uring) still(c *Conn) bool {
	return !c.receiving && !c.watchedOut && !c.polling && c.sending == 0
}

// thaw leaves it to proceed to receive and to write.
func (u *uring) thaw(c *Conn) error {
	if c.eof && !c.lost {
		u.ended(c)
	}
	return nil
}

// open begins a connection. The kernel makes it or refuses it while connect is
// called, if the peer is near, so that asking the ring to connect would have it
// wait for nothing.
func (u *uring) open(c *Conn, addr netip.AddrPort) error {
	fd, err := connectSocket(addr)
	if outOfDescriptors(err) {
		u.submit()
		fd, err = connectSocket(addr)
	}
	if err != nil {
		return err
	}
	c.fd = int32(fd)
	e := u.prepare(c, opPollAdd, kindConnect)
	e.opFlags = unix.POLLOUT
	return nil
}

func (u *uring) connected(c *Conn, res int32) {
	err := error(nil)
	switch {
	case res < 0:
		err = syscall.Errno(-res)
	case res&(unix.POLLERR|unix.POLLHUP) != 0:
		err = socketError(int(c.fd))
	}
	if err != nil {
		c.lose(err)
		return
	}
	c.connecting = false
	c.handler.Connected()
	if c.closed {
		return
	}
	u.receive(c)
	c.flush()
}

// adopt receives on a connection that was accepted.
func (u *uring) adopt(c *Conn) error {
	u.receive(c)
	return nil
}

// listen has the kernel tell once when connections have come: of several loops
// that wait, it tells one.
func (u *uring) listen(a *acceptor) error {
	e := u.ring.next()
	e.op, e.fd, e.opFlags = opPollAdd, int32(a.fd), unix.POLLIN|unix.EPOLLEXCLUSIVE
	e.data = kindListen<<kindShift | u.loop.id(a.slot)&idMask
	return nil
}

// arrived takes connections, and asks again.
func (u *uring) arrived(data uint64, res int32) {
	s := u.slot(data)
	if s == nil || s.acceptor == nil || s.acceptor.resting {
		return
	}
	a := s.acceptor
	if res < 0 { // the kernel has no memory to watch with
		u.loop.rest(a)
		return
	}
	u.loop.accept(a)
	if s := u.slot(data); s != nil && !a.resting { // the handlers may have ended the Accept
		_ = u.listen(a)
	}
}

// unlisten ends listen.
func (u *uring) unlisten(a *acceptor) {
	e := u.ring.next()
	e.op, e.fd, e.flags = opAsyncCancel, -1, sqeSkipSuccess
	e.addr = kindListen<<kindShift | u.loop.id(a.slot)&idMask
	u.submit() // the descriptor may be closed before the next turn
}
