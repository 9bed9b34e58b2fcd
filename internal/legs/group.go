package legs

import (
	"context"
	"net/netip"
	"sync"
)

// A Group is the connections of a process, whose goroutines it waits for. The zero
// value is one without any. Its methods are safe for concurrent use.
type Group struct {
	wg sync.WaitGroup

	mu     sync.Mutex
	live   map[*Conn]struct{}
	closed bool
}

// Connect begins a connection that dial makes, and returns it at once; the handler is
// told later whether it was made. dial's context ends with the connection. For the
// loop only.
func (g *Group) Connect(l Loop, to netip.AddrPort, dial func(context.Context) (*Stream, error), h Handler) *Conn {
	c := newConn(g, l, to)
	c.handler, c.connecting = h, true
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	if g.add(c) {
		g.wg.Go(func() {
			defer cancel()
			c.dial(ctx, dial)
		})
	}
	return c
}

// Attach makes a connection of a stream. It tells nothing before Serve. For the loop
// only.
func (g *Group) Attach(l Loop, s *Stream, remote netip.AddrPort) *Conn {
	c := newConn(g, l, remote)
	c.stream = s
	if g.add(c) {
		g.wg.Go(c.write)
	} else {
		s.Abandon()
	}
	return c
}

// add takes a connection, and reports whether there may be any more.
func (g *Group) add(c *Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		c.shut()
		return false
	}
	if g.live == nil {
		g.live = make(map[*Conn]struct{})
	}
	g.live[c] = struct{}{}
	return true
}

func (g *Group) remove(c *Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.live, c)
}

// Close ends all connections without a word, but for those that were closed and still
// have something to send, and waits for their goroutines. The loops have ended, so
// nobody is told.
func (g *Group) Close() {
	g.mu.Lock()
	g.closed = true
	for c := range g.live {
		if !c.isLeaving() {
			c.shut()
		}
	}
	g.mu.Unlock()
	g.wg.Wait()
}
