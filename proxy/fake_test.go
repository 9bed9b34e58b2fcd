package proxy

import (
	"net/netip"
	"time"

	"agiproxy/agi"
	"agiproxy/balancer"
)

// A fakeConn takes what a session does and does nothing, without allocating.
type fakeConn struct {
	remote   netip.AddrPort
	handler  Handler
	written  int    // bytes
	last     []byte // of the last write, as much as fits
	timer    time.Duration
	unacked  int
	writeEnd bool
	closed   bool
	lost     error // what Unacked tells
}

func (c *fakeConn) Write(p []byte) {
	c.written += len(p)
	c.last = append(c.last[:0], p[:min(len(p), cap(c.last))]...)
}
func (c *fakeConn) Buffered() int              { return 0 }
func (c *fakeConn) CloseWrite()                { c.writeEnd = true }
func (c *fakeConn) Pause()                     {}
func (c *fakeConn) Resume()                    {}
func (c *fakeConn) QuickAck()                  {}
func (c *fakeConn) Unacked() (int, error)      { return c.unacked, c.lost }
func (c *fakeConn) SetTimer(at time.Duration)  { c.timer = at }
func (c *fakeConn) RemoteAddr() netip.AddrPort { return c.remote }
func (c *fakeConn) LocalAddr() netip.AddrPort  { return listenerAddr }
func (c *fakeConn) Close()                     { c.closed = true }

// reset makes c as good as new, keeping its buffer.
func (c *fakeConn) reset(remote netip.AddrPort, h Handler) {
	*c = fakeConn{remote: remote, handler: h, last: c.last[:0]}
	if c.last == nil {
		c.last = make([]byte, 0, 64)
	}
}

// A fakeHost has one connection to give, and a clock that a test sets.
type fakeHost struct {
	now  time.Duration
	back fakeConn
}

func (h *fakeHost) Now() time.Duration { return h.now }
func (h *fakeHost) Do(f func()) error  { f(); return nil }
func (h *fakeHost) Connect(addr netip.AddrPort, hd Handler) Conn {
	h.back.reset(addr, hd)
	return &h.back
}

// A stage is a worker over fakes, with one backend.
type stage struct {
	host     fakeHost
	server   *Server
	worker   *Worker
	listener *Listener
	front    *fakeConn // of the last session that was accepted
	handler  Handler   // of front
	reuse    bool      // sessions share one front, so that nothing is allocated for them here
}

var listenerAddr = netip.MustParseAddrPort("127.0.0.1:4577")

var asteriskAddr = netip.MustParseAddrPort("127.0.0.1:40000")

func newStage(o Options, lo ListenerOptions) *stage {
	s := &stage{server: NewServer(o), listener: NewListener(":4577", lo), front: new(fakeConn)}
	b := balancer.NewBackend("ivr1", "10.0.0.1:4573")
	b.SetAddr(netip.MustParseAddrPort("10.0.0.1:4573"))
	pool := NewPool("ivr", PoolOptions{ConnectTimeout: time.Second, DispatchTimeout: 20 * time.Second, Attempts: 3, HangupTimeout: time.Minute},
		balancer.NewPool(balancer.RoundRobin{}, balancer.Options{}, []*balancer.Backend{b}))
	s.server.Swap(&Table{Pools: []*Pool{pool}, Routes: []Route{{Pool: "ivr"}}})
	s.worker = s.server.NewWorker(&s.host)
	return s
}

// limits are those of a listener that lets everybody in.
func limits() ListenerOptions {
	return ListenerOptions{
		Allow:       []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")},
		MaxSessions: 1000, HeaderTimeout: 5 * time.Second, MaxHeaderBytes: 64 << 10,
	}
}

// accept brings a connection to the listener.
func (s *stage) accept(from netip.AddrPort) {
	if !s.reuse {
		s.front = new(fakeConn)
	}
	s.front.reset(from, nil)
	s.handler = s.worker.Accept(s.listener, s.front)
}

// establish brings a connection, its header, the backend's connection and its
// first command: the relay begins.
func (s *stage) establish(header []byte) {
	s.accept(asteriskAddr)
	s.handler.Received(header)
	s.host.back.handler.Connected()
	s.exchange(noop, okReply)
}

// exchange brings a command and its reply.
func (s *stage) exchange(command, reply []byte) {
	s.host.back.handler.Received(command)
	s.host.now += time.Millisecond
	s.handler.Received(reply)
	s.host.now += time.Millisecond
}

// finish brings the backend's end, and Asterisk's goodbye.
func (s *stage) finish() {
	s.host.back.handler.Closed(nil)
	s.handler.Received(goodbye)
	s.handler.Closed(nil)
}

var (
	noop    = []byte("NOOP one two three\n")
	okReply = []byte("200 result=0\n")
	goodbye = []byte("HANGUP\n")
)

// plainHeader is a header of Asterisk's length.
var plainHeader = (&agi.Environment{
	Script: "ivr/menu", UniqueID: "1795373249.17", CallerID: "1234567890", CallerName: "A Caller", Context: "from-internal", Extension: "108",
}).AppendTo(nil)
