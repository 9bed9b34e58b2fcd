package app

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"agiproxy/internal/legs"
	"agiproxy/proxy"
)

const (
	// mostHandshakes is how many handshakes a listener has under way at one time.
	mostHandshakes = 512
	// mostHandshakesOfOne is how many of those one source has, lest it keep all others
	// out by saying nothing.
	mostHandshakesOfOne = mostHandshakes / 4
	// gateRest is how long a gate waits when there is no descriptor for what comes.
	gateRest = 100 * time.Millisecond
	// gateFinish is how long one that is shut takes what has connected already.
	gateFinish = 20 * time.Millisecond
	// partingTime is how long a client gets to read why it was refused: a close over
	// what it has sent would be a reset, which can overtake that.
	partingTime = time.Second
)

var (
	errHandshakeLate   = errors.New("not over in time")
	errManyHandshakes  = errors.New("too many TLS handshakes are under way")
	errSourceShakes    = errors.New("too many TLS handshakes of this source are under way")
	errPlainAsterisk   = errors.New("it speaks plain FastAGI, and this listener wants TLS")
	errNoLongerWelcome = errors.New("not welcome when it came")
)

// A gate accepts a front's connections where they speak TLS, and gives them to the
// loops after the handshake. Nothing of it happens on a loop.
type gate struct {
	app         *App
	front       *front
	credentials *legs.Credentials
	ln          *net.TCPListener
	shaking     shaking
	accepting   sync.WaitGroup
}

// A newcomer is a connection that may become a session.
type newcomer struct {
	stream   *legs.Stream
	from     netip.AddrPort
	reserved proxy.Reservation
}

// openGate begins to accept.
func (a *App) openGate(f *front, c *legs.Credentials) (*gate, error) {
	ln, err := f.socket.Net()
	if err != nil {
		return nil, err
	}
	g := &gate{app: a, front: f, credentials: c, ln: ln}
	g.accepting.Go(g.accept)
	return g, nil
}

// finish takes what waits in the kernel, and then is refuse.
func (g *gate) finish() { g.end(time.Now().Add(gateFinish)) }

// refuse accepts no more. Handshakes under way go on.
func (g *gate) refuse() { g.end(time.Unix(1, 0)) } // long past

func (g *gate) end(at time.Time) {
	_ = g.ln.SetDeadline(at) // fails only on what is closed
	g.accepting.Wait()
	g.ln.Close()
}

func (g *gate) accept() {
	for {
		c, err := g.ln.AcceptTCP()
		var timeout net.Error
		switch {
		case err == nil:
			g.take(c)
		case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, net.ErrClosed):
			return
		default: // there is no descriptor, or the peer has gone
			_ = g.app.workers[0].loop.Do(func() { g.app.workers[0].sessions.Shed(g.front.listener) }) // one that has ended counts no more
			g.app.shed(g.front, err)
			time.Sleep(gateRest)
		}
	}
}

// take begins a handshake, or refuses to.
func (g *gate) take(c *net.TCPConn) {
	from := netip.AddrPortFrom(netip.Addr{}, 0)
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		from = netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	}
	l, now := g.front.listener, time.Now()
	s := legs.Server(c, g.credentials.Material().Server())
	if !l.Welcome(from.Addr()) {
		g.app.handshakes.add()
		g.give(newcomer{s, from, l.Unreserved()}) // as it is: it gets no further
		return
	}
	end, err := g.shaking.begin(from.Addr(), l.Announced(from.Addr()))
	if err != nil {
		s.Abandon()
		g.reject("tls_handshakes", from, err)
		return
	}
	reserved, reason, err := l.Reserve(from.Addr(), now)
	if err != nil {
		end()
		s.Abandon()
		g.reject(reason, from, err)
		return
	}
	g.app.handshakes.add()
	g.app.handshakes.wg.Go(func() {
		defer end()
		g.greet(newcomer{s, from, reserved})
	})
}

// greet shakes hands.
func (g *gate) greet(a newcomer) {
	ctx, cancel := context.WithTimeoutCause(g.app.handshakes.ctx, g.front.listener.HeaderTimeout(), errHandshakeLate)
	defer cancel()
	s := a.stream
	err := s.Handshake(ctx)
	if err == nil {
		g.give(a)
		return
	}
	defer g.app.handshakes.done()
	a.reserved.Cancel(time.Now())
	if string(s.Plain()[:min(4, len(s.Plain()))]) == "agi_" {
		err = errPlainAsterisk
		_, _ = io.WriteString(s.Raw(), proxy.FailureLine) // else the dialplan would take it for a success
	}
	g.reject("tls", a.from, err)
	part(s)
}

// part closes a connection whose peer may still have to read why.
func part(s *legs.Stream) {
	raw := s.Raw()
	if raw.CloseWrite() == nil && raw.SetReadDeadline(time.Now().Add(partingTime)) == nil {
		_, _ = io.CopyN(io.Discard, raw, 64<<10)
	}
	s.Abandon()
}

// give makes a session of a connection, on the loop that has the fewest.
func (g *gate) give(a newcomer) {
	w := g.app.workers[0]
	for _, other := range g.app.workers[1:] {
		if other.loop.Load() < w.loop.Load() {
			w = other
		}
	}
	err := w.loop.Do(func() {
		defer g.app.handshakes.done()
		c := g.app.legs.Attach(w.loop, a.stream, a.from)
		h := w.sessions.AcceptReserved(a.reserved, c)
		switch {
		case h == nil:
			c.Close()
		case !a.stream.ConnectionState().HandshakeComplete: // a reload has changed who is welcome
			h.Closed(errNoLongerWelcome)
		default:
			c.Serve(h)
		}
	})
	if err != nil { // the loop has ended
		g.app.handshakes.done()
		a.reserved.Cancel(time.Now())
		a.stream.Abandon()
	}
}

// reject counts a connection that isn't to be a session, and tells of it.
func (g *gate) reject(reason string, from netip.AddrPort, err error) {
	w := g.app.workers[0]
	_ = w.loop.Do(func() { w.sessions.Reject(g.front.listener, reason) }) // one that has ended counts no more
	suppressed, told := g.app.refusals.Tell(refusal{from.Addr(), reason}, time.Now())
	if !told {
		return
	}
	args := []any{"listener", g.front.address, "client", from.String(), "reason", reason, "error", err}
	if suppressed > 0 {
		args = append(args, "suppressed", suppressed)
	}
	g.app.log.Warn("connection refused", args...)
}

// shaking are the handshakes of a listener that are under way, by who shakes. It is
// safe for concurrent use.
type shaking struct {
	mu  sync.Mutex
	all int
	of  map[netip.Addr]int
}

// begin counts one more handshake until end, unless there are too many, of all or of
// this source. Who brings the connections of others is no one source.
func (s *shaking) begin(from netip.Addr, ofOthers bool) (end func(), err error) {
	source := proxy.SourceOf(from)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.all >= mostHandshakes:
		return nil, errManyHandshakes
	case !ofOthers && s.of[source] >= mostHandshakesOfOne:
		return nil, errSourceShakes
	}
	if s.of == nil {
		s.of = make(map[netip.Addr]int)
	}
	s.all++
	s.of[source]++
	return func() { s.end(source) }, nil
}

func (s *shaking) end(source netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.of[source]--; s.of[source] == 0 {
		delete(s.of, source)
	}
}

// Handshakes are those of an App that are under way.
type handshakes struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	n      atomic.Int64 // those, and what becomes a session in a moment
}

func (h *handshakes) begin() { h.ctx, h.cancel = context.WithCancel(context.Background()) }
func (h *handshakes) add()   { h.n.Add(1) }
func (h *handshakes) done()  { h.n.Add(-1) }

// end ends the handshakes.
func (h *handshakes) end() {
	h.cancel()
	h.wg.Wait()
}

// live returns how many sessions there are, those that are about to be included.
func (a *App) live() int { return int(a.handshakes.n.Load()) + a.server.Sessions() }

// A refusal is what records of connections that were refused are told apart by.
type refusal struct {
	from   netip.Addr
	reason string
}
