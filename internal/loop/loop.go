package loop

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
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
	// Engine is how the loop works; "" means [Auto].
	Engine Engine
	// KeepIdle is how long a connection may be silent before the kernel asks
	// whether the peer is still there; 0 means 30s.
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
	// others wait: with more, every peer that floods keeps them waiting for longer.
	// A dialogue never fills one.
	readBurst = 1
	// eventBatch is how many events one wait can bring.
	eventBatch = 256
)

// A Loop is one thread's connections. Make it with [New].
type Loop struct {
	opts     Options
	engine   engine
	name     Engine // of the engine
	buf      []byte
	slots    []slot
	free     []uint32 // slots without a connection
	timers   timerHeap
	young    []newcomer      // connections without all their options, the oldest first
	ready    []*Conn         // who has to proceed without an event of the kernel's
	running  []*Conn         // ready's other half, while it is worked off
	held     map[*Conn]*held // what was received and could not be delivered yet
	freezing []freezing      // that are not done
	started  time.Time
	now      time.Duration // since started, as of the last wait
	heard    time.Duration // when the kernel last had something to tell
	load     atomic.Int64  // connections that there are
	spare    int           // a descriptor given up when there is no other; noFD if none

	mu       sync.Mutex
	posted   []func()
	stopping bool // Stop was called
	stopped  bool // the loop has ended
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
	l := &Loop{opts: o.withDefaults(), buf: make([]byte, readSize), held: make(map[*Conn]*held), started: time.Now()}
	if err := l.choose(o.Engine); err != nil {
		return nil, err
	}
	l.spare = openSpare()
	return l, nil
}

// Now returns the monotonic time since the loop was made, as of the last time
// that the loop woke. For handlers only.
func (l *Loop) Now() time.Duration { return l.now }

// Do has f run on the loop, soon and after what was given before. It may be
// called from anywhere and doesn't wait. Without an error, which can only be
// [ErrStopped], f does run, if only when the loop ends. With it no handler runs
// any more, and none will.
func (l *Loop) Do(f func()) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return ErrStopped
	}
	l.posted = append(l.posted, f)
	if len(l.posted) == 1 {
		l.engine.wake()
	}
	return nil
}

// Stop ends Run, which then closes all connections without telling anybody. It
// may be called from anywhere, more than once.
func (l *Loop) Stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopping = true
	if !l.stopped { // else the engine may be gone
		l.engine.wake()
	}
}

// Run serves until Stop. It is called once. The error is one of the poller's,
// which no peer can bring about.
func (l *Loop) Run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	wantShortSlices()
	defer l.close()
	if err := l.engine.start(); err != nil {
		return err
	}
	l.tick()
	for {
		patience, hold := l.patience()
		happened, err := l.engine.turn(patience, hold)
		if err != nil {
			return fmt.Errorf("wait for events: %w", err)
		}
		if happened {
			l.heard = l.now
		}
		l.timers.fire(l.now)
		l.mature()
		l.runReady()
		l.finishFreezes()
		if !l.runPosted() {
			return nil
		}
	}
}

func (l *Loop) tick() { l.now = time.Since(l.started) }

const (
	// heldWait is how long a wait may keep the processor that Go's scheduler
	// has lent to this thread; keeping it for ever would hold up the garbage
	// collector.
	heldWait = 10 * time.Millisecond
	// quietAfter is how long nothing happens until a wait gives the processor
	// up, so that an idle proxy sleeps.
	quietAfter = 100 * time.Millisecond
)

// patience returns how long to wait for events at most, negative for as long as
// it takes, and whether to keep the processor meanwhile.
func (l *Loop) patience() (d time.Duration, hold bool) {
	d = -1
	if next, ok := l.timers.next(); ok {
		d = max(0, next-l.now)
	}
	if len(l.young) > 0 {
		if due := max(0, l.young[0].since+youth-l.now); d < 0 || due < d {
			d = due
		}
	}
	switch {
	case len(l.ready) > 0 || len(l.freezing) > 0:
		return 0, true
	case d >= 0 && d <= heldWait:
		return d, true
	case l.now-l.heard <= quietAfter:
		return heldWait, true
	}
	return d, false
}

const (
	// youth is how long a connection does without the options that find a peer
	// that is gone. They are needed after half a minute of silence and cost a
	// fifth of a short session's system calls; most sessions are over by then.
	youth = 5 * time.Second
	// cohort is how much younger those may be that get theirs along with the
	// oldest, so that few are worth waking up for.
	cohort = time.Second
)

// A newcomer is a connection in its youth.
type newcomer struct {
	id    uint64 // as the poller has it
	since time.Duration
}

// mature gives connections that have been there for a while their options.
func (l *Loop) mature() {
	if len(l.young) == 0 || l.now-l.young[0].since < youth {
		return
	}
	n := 0
	for ; n < len(l.young) && l.now-l.young[n].since >= youth-cohort; n++ {
		if c := l.conn(l.young[n].id); c != nil {
			c.mature()
		}
	}
	if l.young = l.young[n:]; len(l.young) == 0 {
		l.young = nil
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
	posted, stopping := l.posted, l.stopping
	l.posted = nil
	l.mu.Unlock()
	for _, f := range posted {
		f()
	}
	return !stopping
}

// stopIfIdle ends Do, unless there is something that it was given.
func (l *Loop) stopIfIdle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = len(l.posted) == 0
	return l.stopped
}

func (l *Loop) close() {
	for !l.stopIfIdle() {
		l.runPosted() // whoever gave it may be waiting for it
	}
	for i := range l.slots {
		if c := l.slots[i].conn; c != nil {
			c.Close()
		}
	}
	if l.spare != noFD {
		closeFD(l.spare)
	}
	l.engine.close()
}

// Connect begins a connection to addr and returns it at once; the handler is
// told later whether it was made. What is written before is kept until then. It
// is for protocols in which who connects speaks first: a connection on which
// nothing is written may be known to the peer only some 40 ms later.
func (l *Loop) Connect(addr netip.AddrPort, h Handler) *Conn {
	c := &Conn{loop: l, handler: h, fd: noFD, ours: true, connecting: true, remote: newAddress(addr)}
	l.register(c)
	if err := l.engine.open(c, addr); err != nil {
		c.failed = err
		c.schedule()
	}
	return c
}

// register gives c a slot.
func (l *Loop) register(c *Conn) {
	c.slot = l.takeSlot()
	l.slots[c.slot].conn = c
	l.load.Add(1)
	l.young = append(l.young, newcomer{l.id(c.slot), l.now})
}

func (l *Loop) id(slot uint32) uint64 {
	return uint64(l.slots[slot].generation)<<32 | uint64(slot)
}

// conn returns the connection of that number, nil if it was closed meanwhile.
func (l *Loop) conn(id uint64) *Conn {
	if s := &l.slots[uint32(id)]; s.generation == uint32(id>>32) {
		return s.conn
	}
	return nil
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
