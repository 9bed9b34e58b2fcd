package loop

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"time"
)

// A Handler is told what happens on a connection. Its methods are called on the
// connection's loop and must not block.
type Handler interface {
	// Connected says that a connection made by [Loop.Connect] is there.
	Connected()
	// Received brings the next bytes, at least one. p belongs to the loop.
	Received(p []byte)
	// Drained says that nothing is buffered any more.
	Drained()
	// Closed says that no more bytes will come: nil after the peer's orderly
	// end of its side, after which writing may go on. An error means that the
	// connection is lost both ways, or was never made. A nil may be followed
	// by one error later.
	Closed(err error)
	// TimedOut says that the timer of [Conn.SetTimer] has run out.
	TimedOut()
}

// Options of a loop. The zero value is usable.
type Options struct {
	// KeepIdle is how long a connection made by Connect may be silent before
	// the kernel asks whether the peer is still there; 0 means 30s.
	KeepIdle time.Duration
	// KeepInterval is the time between such questions; 0 means 10s.
	KeepInterval time.Duration
	// UserTimeout is how long bytes or questions may stay unacknowledged
	// before the connection counts as lost; 0 means 60s, which is longer than
	// a network takes to find another path.
	UserTimeout time.Duration
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		value *time.Duration
		or    time.Duration
	}{{&o.KeepIdle, 30 * time.Second}, {&o.KeepInterval, 10 * time.Second}, {&o.UserTimeout, time.Minute}} {
		if *d.value == 0 {
			*d.value = d.or
		}
	}
	return o
}

const (
	// readSize is the loop's only read buffer. A socket that gives less is
	// empty, so it should be larger than what arrives between two looks.
	readSize = 64 << 10
	// readBurst is how many full buffers one connection gets in a row while
	// others wait.
	readBurst = 4
	// eventBatch is how many events one wait can bring.
	eventBatch = 256
)

// A Loop is one thread's connections. Make it with [New].
type Loop struct {
	opts    Options
	poll    *poller
	buf     []byte
	slots   []slot
	free    []uint32 // slots without a connection
	timers  timerHeap
	ready   []*Conn // who has to proceed without an event of the kernel's
	running []*Conn // ready's other half, while it is worked off
	started time.Time
	now     time.Duration // since started, as of the last wait
	spare   int           // a descriptor given up when there is no other; noFD if none

	mu      sync.Mutex
	posted  []func()
	stopped bool
}

// A slot is where the poller's events find their connection. The generation
// tells a late event from one of the slot's next tenant.
type slot struct {
	conn       *Conn
	acceptor   *acceptor
	generation uint32
}

const (
	noSlot = ^uint32(0)
	noFD   = -1
	wakeID = ^uint64(0) // the event that tells of Do and Stop
)

// ErrStopped is what Do returns after the loop has ended.
var ErrStopped = errors.New("loop has ended")

// New returns a loop that Run starts.
func New(o Options) (*Loop, error) {
	p, err := newPoller()
	if err != nil {
		return nil, fmt.Errorf("open poller: %w", err)
	}
	return &Loop{
		opts: o.withDefaults(), poll: p, buf: make([]byte, readSize),
		started: time.Now(), spare: openSpare(),
	}, nil
}

// Now returns the monotonic time since the loop was made, as of the last time
// that the loop woke. For handlers only.
func (l *Loop) Now() time.Duration { return l.now }

// Do has f run on the loop, soon and after what was given before. It may be
// called from anywhere and doesn't wait. Without an error, which can only be
// [ErrStopped], f does run, if only when the loop ends.
func (l *Loop) Do(f func()) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return ErrStopped
	}
	l.posted = append(l.posted, f)
	if len(l.posted) == 1 {
		l.poll.wake()
	}
	return nil
}

// Stop ends Run, which then closes all connections without telling anybody. It
// may be called from anywhere, more than once.
func (l *Loop) Stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.stopped { // else the poller may be gone
		l.stopped = true
		l.poll.wake()
	}
}

// Run serves until Stop. It is called once. The error is one of the poller's,
// which no peer can bring about.
func (l *Loop) Run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer l.close()
	l.tick()
	events := make([]event, eventBatch)
	for {
		n, err := l.poll.wait(events, l.patience())
		if err != nil {
			return fmt.Errorf("wait for events: %w", err)
		}
		l.tick()
		for _, e := range events[:n] {
			l.deliver(e)
		}
		l.timers.fire(l.now)
		l.runReady()
		if !l.runPosted() {
			return nil
		}
	}
}

func (l *Loop) tick() { l.now = time.Since(l.started) }

// patience returns how long to wait for events at most; negative means for as
// long as it takes.
func (l *Loop) patience() time.Duration {
	if len(l.ready) > 0 {
		return 0
	}
	next, ok := l.timers.next()
	if !ok {
		return -1
	}
	return max(0, next-l.now)
}

func (l *Loop) deliver(e event) {
	index, generation := uint32(e.id), uint32(e.id>>32)
	if e.id == wakeID || l.slots[index].generation != generation {
		return
	}
	if a := l.slots[index].acceptor; a != nil {
		l.accept(a)
	} else {
		l.slots[index].conn.event(e)
	}
}

// runReady calls the connections that have something to do without an event of
// the kernel's. What they add waits for the next turn, so that none starves the
// others.
func (l *Loop) runReady() {
	l.ready, l.running = l.running[:0], l.ready
	for i, c := range l.running {
		l.running[i] = nil
		c.scheduled = false
		c.proceed()
	}
}

// runPosted runs what Do was given, and reports whether the loop goes on.
func (l *Loop) runPosted() bool {
	l.mu.Lock()
	posted, stopped := l.posted, l.stopped
	l.posted = nil
	l.mu.Unlock()
	for _, f := range posted {
		f()
	}
	return !stopped
}

func (l *Loop) close() {
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	l.runPosted() // whoever gave it may be waiting for it
	for i := range l.slots {
		if c := l.slots[i].conn; c != nil {
			c.Close()
		}
	}
	if l.spare != noFD {
		closeFD(l.spare)
	}
	l.poll.close()
}

// Connect begins a connection to addr and returns it at once; the handler is
// told later whether it was made. What is written before is kept until then.
func (l *Loop) Connect(addr netip.AddrPort, h Handler) *Conn {
	c := &Conn{loop: l, handler: h, fd: noFD, slot: noSlot, connecting: true, remote: addr}
	c.timer.owner = c
	fd, err := connectSocket(addr, &l.opts)
	if err == nil {
		c.fd = fd
		if err = l.register(c); err != nil {
			closeFD(fd)
			c.fd = noFD
		}
	}
	if err != nil {
		c.failed = err
		c.schedule()
	}
	return c
}

// register gives c a slot and has the poller watch it.
func (l *Loop) register(c *Conn) error {
	c.slot = l.takeSlot()
	l.slots[c.slot].conn = c
	if err := l.poll.add(c.fd, l.id(c.slot)); err != nil {
		l.freeSlot(c.slot)
		c.slot = noSlot
		return err
	}
	return nil
}

func (l *Loop) id(slot uint32) uint64 {
	return uint64(l.slots[slot].generation)<<32 | uint64(slot)
}

func (l *Loop) takeSlot() uint32 {
	if n := len(l.free); n > 0 {
		s := l.free[n-1]
		l.free = l.free[:n-1]
		return s
	}
	l.slots = append(l.slots, slot{})
	return uint32(len(l.slots) - 1)
}

func (l *Loop) freeSlot(s uint32) {
	l.slots[s] = slot{generation: l.slots[s].generation + 1}
	l.free = append(l.free, s)
}
