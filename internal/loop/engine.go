package loop

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// An Engine is a way to have the kernel do things, by its name.
type Engine string

const (
	// Auto is IOURing where the kernel allows it, and Epoll elsewhere.
	Auto Engine = "auto"
	// Epoll asks the kernel what can be done without waiting, and does it. On
	// systems that have no epoll it is what they have instead.
	Epoll Engine = "epoll"
	// IOURing has the kernel do things and tell when they are done, so that
	// what one look brings about costs one system call. It needs Linux 6.1;
	// containers and hardened systems often don't allow it.
	IOURing Engine = "io_uring"
)

// An engine is how a loop gets things done by the kernel. All but wake belongs
// to the loop's thread, from start on.
type engine interface {
	start() error
	close()
	// wake ends a turn's wait that is under way, or the next. For any goroutine.
	wake()
	// turn waits until the kernel has something to tell, at most so long,
	// negative for as long as it takes, and tells it to connections and
	// listeners. It may return early. With hold it keeps the processor that
	// Go's scheduler has lent to this thread meanwhile: giving it up, as a call
	// that may block does, costs more than all else of a command when the
	// machine is not busy.
	turn(patience time.Duration, hold bool) (happened bool, err error)

	// submit gives the kernel what it is to do later, which may free descriptors.
	submit()

	// open begins a connection; adopt takes one that was accepted.
	open(c *Conn, addr netip.AddrPort) error
	adopt(c *Conn) error
	// write sends p and returns how much of it was taken; when more can be,
	// c.flush is called. A failure is told by c.fail, and takes all.
	write(c *Conn, p []byte) int
	// unsent returns how many bytes write has taken and not given to the kernel.
	unsent(c *Conn) int
	shutdown(c *Conn)
	// proceed goes on to receive after a pause, and to the end after a write
	// that has failed.
	proceed(c *Conn)
	// ended is told that the peer's orderly end was delivered: from then on a
	// reset may come.
	ended(c *Conn)
	// release closes the descriptor, with all that is under way on it.
	release(c *Conn)

	// freeze ends what is under way on c; still reports whether it is. thaw
	// begins again, before proceed is called.
	freeze(c *Conn)
	still(c *Conn) bool
	thaw(c *Conn) error

	listen(a *acceptor) error
	unlisten(a *acceptor)
}

// choose gives l the engine of that name.
func (l *Loop) choose(name Engine) (err error) {
	switch name {
	case Auto, "":
		if l.choose(IOURing) == nil {
			return nil
		}
		return l.choose(Epoll)
	case Epoll:
		l.engine, err = newPolling(l)
	case IOURing:
		l.engine, err = newURing(l)
	default:
		err = errors.New("no such engine")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	l.name = name
	return nil
}

// Engine returns how the loop works, never Auto. It may be called from anywhere.
func (l *Loop) Engine() Engine { return l.name }

// polling is the engine that asks a poller what can be done.
type polling struct {
	loop   *Loop
	poll   *poller
	events []event
}

func newPolling(l *Loop) (*polling, error) {
	p, err := newPoller()
	if err != nil {
		return nil, fmt.Errorf("open poller: %w", err)
	}
	return &polling{loop: l, poll: p, events: make([]event, eventBatch)}, nil
}

func (*polling) start() error { return nil }
func (p *polling) close()     { p.poll.close() }
func (p *polling) wake()      { p.poll.wake() }
func (*polling) submit()      {}

func (p *polling) turn(patience time.Duration, hold bool) (bool, error) {
	n, err := p.poll.wait(p.events, patience, hold)
	p.loop.tick()
	for i := range p.events[:n] {
		p.deliver(&p.events[i])
	}
	return n > 0, err
}

func (p *polling) deliver(e *event) {
	id := e.id()
	if id == wakeID {
		return
	}
	s := &p.loop.slots[uint32(id)]
	switch {
	case s.generation != uint32(id>>32):
	case s.conn != nil:
		s.conn.event(e)
	default:
		p.loop.accept(s.acceptor)
	}
}

func (p *polling) open(c *Conn, addr netip.AddrPort) error {
	fd, err := connectSocket(addr)
	if err != nil {
		return err
	}
	c.fd = int32(fd)
	c.watchedOut = true
	return p.poll.add(fd, p.loop.id(c.slot), true)
}

func (p *polling) adopt(c *Conn) error { return p.poll.add(int(c.fd), p.loop.id(c.slot), false) }

func (p *polling) write(c *Conn, b []byte) int {
	c.passed(outward)
	n, err := write(int(c.fd), b)
	if err != nil && !wouldBlock(err) {
		c.fail(err)
		return len(b)
	}
	if n < len(b) && !c.watchedOut {
		c.watchedOut = true
		if err := p.poll.addOutput(int(c.fd), p.loop.id(c.slot)); err != nil {
			c.fail(err)
			return len(b)
		}
	}
	return n
}

func (*polling) unsent(*Conn) int { return 0 }
func (*polling) shutdown(c *Conn) { shutdownWrite(int(c.fd)) }
func (*polling) proceed(c *Conn)  { c.read() }
func (*polling) ended(*Conn)      {}

func (p *polling) release(c *Conn) {
	p.loop.dropHeld(c)
	closeFD(int(c.fd))
}

// A descriptor that another process has too is watched until it is closed there
// as well, unless the poller forgets it.
func (p *polling) freeze(c *Conn) { p.poll.remove(int(c.fd)) }

func (*polling) still(*Conn) bool { return true }

// thaw watches c anew, which brings what can be told of it at once.
func (p *polling) thaw(c *Conn) error {
	c.watchedOut = c.watchedOut || len(c.out) > 0
	return p.poll.add(int(c.fd), p.loop.id(c.slot), c.watchedOut)
}

func (p *polling) listen(a *acceptor) error { return p.poll.addListener(a.fd, p.loop.id(a.slot)) }
func (p *polling) unlisten(a *acceptor)     { p.poll.remove(a.fd) }
