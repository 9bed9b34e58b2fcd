package sim

import (
	"container/heap"
	"math/rand/v2"
	"net/netip"
	"time"
)

// A Handler is told what happens on a connection, as by package loop.
type Handler interface {
	Connected()
	Received(p []byte)
	Drained()
	Closed(err error)
	TimedOut()
}

// Options of a network.
type Options struct {
	// Delay is the longest time that a segment travels; at least 1µs.
	Delay time.Duration
	// Segment is the most bytes that travel together; 0 means 1460. What is
	// written is cut at random places.
	Segment int
	// Window is how many bytes a receiver takes without its program reading
	// them; 0 means 64 KiB.
	Window int
	// UserTimeout is when a connection that was cut by [Conn.Cut], or isn't
	// answered, counts as lost; 0 means a minute.
	UserTimeout time.Duration
}

// A Net is a network. It belongs to one goroutine.
type Net struct {
	opts      Options
	rng       *rand.Rand
	now       time.Duration
	events    eventHeap
	seq       uint64
	listeners map[netip.AddrPort]*Listener
	open      int
	ports     uint16
}

// New returns a network without anybody in it.
func New(seed uint64, o Options) *Net {
	if o.Delay < time.Microsecond {
		o.Delay = time.Microsecond
	}
	if o.Segment == 0 {
		o.Segment = 1460
	}
	if o.Window == 0 {
		o.Window = 64 << 10
	}
	if o.UserTimeout == 0 {
		o.UserTimeout = time.Minute
	}
	return &Net{
		opts: o, rng: rand.New(rand.NewPCG(seed, 0)), now: time.Second,
		listeners: make(map[netip.AddrPort]*Listener),
	}
}

// Now returns the virtual time.
func (n *Net) Now() time.Duration { return n.now }

// Rand is where chance comes from, for scripts as well.
func (n *Net) Rand() *rand.Rand { return n.rng }

// Open returns how many ends of connections are not closed.
func (n *Net) Open() int { return n.open }

// After has f called when d has passed.
func (n *Net) After(d time.Duration, f func()) { n.at(n.now+d, f) }

// Run lets time pass until nothing is left to happen, or limit is over. It
// reports whether nothing is left.
func (n *Net) Run(limit time.Duration) bool {
	end := n.now + limit
	for len(n.events) > 0 {
		if n.events[0].at > end {
			n.now = end
			return false
		}
		e := heap.Pop(&n.events).(event)
		n.now = max(n.now, e.at)
		e.do()
	}
	return true
}

// A Listener is an address that can be connected to.
type Listener struct {
	net    *Net
	addr   netip.AddrPort
	accept func(*Conn) Handler
}

// Listen has accept called for each connection to addr; it returns the handler
// of the new end, or nil to have it closed.
func (n *Net) Listen(addr netip.AddrPort, accept func(*Conn) Handler) *Listener {
	l := &Listener{net: n, addr: addr, accept: accept}
	n.listeners[addr] = l
	return l
}

// Close stops listening: connects are refused.
func (l *Listener) Close() { delete(l.net.listeners, l.addr) }

// Blackhole has connects to addr never answered. They fail after the user
// timeout.
func (n *Net) Blackhole(addr netip.AddrPort) { n.listeners[addr] = nil }

// Connect begins a connection to addr.
func (n *Net) Connect(addr netip.AddrPort, h Handler) *Conn {
	n.ports++
	from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), n.ports)
	c := &Conn{net: n, handler: h, remote: addr, local: from, connecting: true}
	n.open++
	n.After(n.delay(), func() { n.arrive(c, addr, from) })
	return c
}

// arrive is what the first segment of a connection meets.
func (n *Net) arrive(c *Conn, addr, from netip.AddrPort) {
	if c.closed || c.cut {
		return
	}
	l, there := n.listeners[addr]
	switch {
	case !there:
		n.After(n.delay(), func() { c.refuse(errRefused) })
		return
	case l == nil:
		n.After(n.opts.UserTimeout, func() { c.refuse(errTimeout) })
		return
	}
	peer := &Conn{net: n, remote: from, local: addr, peer: c}
	n.open++
	c.peer = peer
	n.After(n.delay(), c.establish)
	if peer.handler = l.accept(peer); peer.handler == nil {
		peer.Close()
	}
}

// delay returns how long a segment travels.
func (n *Net) delay() time.Duration {
	return time.Microsecond + time.Duration(n.rng.Int64N(int64(n.opts.Delay)))
}

func (n *Net) at(t time.Duration, f func()) {
	n.seq++
	heap.Push(&n.events, event{t, n.seq, f})
}

// An event is something that will happen.
type event struct {
	at  time.Duration
	seq uint64 // keeps the order of what happens at the same time
	do  func()
}

type eventHeap []event

func (h eventHeap) Len() int      { return len(h) }
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}
func (h *eventHeap) Push(x any) { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = event{}
	*h = (*h)[:last]
	return e
}
