package proxy

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"agiproxy/balancer"
	"agiproxy/internal/seldom"

	"github.com/hashicorp/go-hclog"
)

// Options of a server.
type Options struct {
	Log   hclog.Logger     // nil: nothing is logged
	Ended func(Record)     // called once for each session, on its loop; may be nil
	Now   func() time.Time // that rates are measured by, on all loops; nil means time.Now
}

// A Server is what all workers share. It is safe for concurrent use.
type Server struct {
	opts     Options
	table    atomic.Pointer[Table]
	sessions atomic.Int64
	counted  atomic.Bool   // false while somebody else has the counts
	accepted atomic.Uint32 // the last session's id
	traces   atomic.Int32  // that are open
	refusals seldom.Records[refusedFrom]
	denials  seldom.Records[deniedTo] // lines of backends

	mu      sync.Mutex
	retired []Retired
	workers []*Worker
}

// Retired is a backend that no table has any more, while sessions are under way
// on it.
type Retired struct {
	Pool    string
	Backend *balancer.Backend
	Since   time.Time
}

// NewServer returns a server that knows no pool yet.
func NewServer(o Options) *Server {
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{opts: o}
	s.table.Store(&Table{})
	s.counted.Store(true)
	return s
}

// Swap publishes t for the sessions that are still to be routed, and returns the
// table before it. Those that have a pool already keep it.
func (s *Server) Swap(t *Table) *Table {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.table.Swap(t)
	s.forgetEmpty()
	for _, p := range before.Pools {
		for _, b := range p.backends.Backends() {
			if !t.has(b) {
				s.retired = append(s.retired, Retired{p.name, b, time.Now()})
			}
		}
	}
	return before
}

// Retired returns the backends without a table that still have sessions.
func (s *Server) Retired() []Retired {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetEmpty()
	return slices.Clone(s.retired)
}

// forgetEmpty drops what is retired no more; s.mu is held.
func (s *Server) forgetEmpty() {
	s.retired = slices.DeleteFunc(s.retired, func(r Retired) bool {
		return r.Backend.Sessions() == 0 || s.table.Load().has(r.Backend)
	})
}

// Table returns the table by which sessions are routed now.
func (s *Server) Table() *Table { return s.table.Load() }

// Sessions returns how many sessions are under way.
func (s *Server) Sessions() int { return int(s.sessions.Load()) }

// A Listener is a front address with its limits. Its methods are safe for
// concurrent use.
type Listener struct {
	name     string
	opts     atomic.Pointer[ListenerOptions]
	sessions atomic.Int64
	sources  sources
	origin   origin // of sessions of which no more is known
}

// ListenerOptions are a listener's limits.
type ListenerOptions struct {
	Allow          []netip.Prefix // where Asterisks may connect from
	MaxSessions    int            // at a time
	HeaderTimeout  time.Duration  // from accept to the header's end
	MaxHeaderBytes int

	MaxSessionsPerSource int            // at a time; 0 means no limit
	Rate                 Rate           // of each source
	Tokens               []Token        // one of which a session must know; none: nobody asks
	AcceptProxyProtocol  []netip.Prefix // whose connections begin with a PROXY header
}

// limitsSources reports whether it is counted who has how many.
func (o *ListenerOptions) limitsSources() bool {
	return o.MaxSessionsPerSource > 0 || o.Rate.PerSecond > 0
}

// NewListener returns a listener; its name is the address in the configuration.
func NewListener(name string, o ListenerOptions) *Listener {
	l := &Listener{name: name}
	l.origin.listener = l
	l.Configure(o)
	return l
}

// Configure sets the limits for the sessions to come.
func (l *Listener) Configure(o ListenerOptions) { l.opts.Store(&o) }

// A Worker has the sessions of one loop. Its methods belong to that loop.
type Worker struct {
	server   *Server
	host     Host
	sessions list
	frozen   list                  // sessions to which nothing happens, see Freeze
	traces   map[*Session][]*Trace // of those that are traced
	denied   map[*Session]uint32   // how many lines were refused, of those that had any
	counts   *counts
	spare    []*dispatching // none of a session's
	logged   []any          // what the last record was written from
}

// NewWorker returns a worker whose sessions stand on host.
func (s *Server) NewWorker(host Host) *Worker {
	w := &Worker{server: s, host: host, counts: newCounts()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.workers = append(s.workers, w)
	return w
}

// Welcome reports whether a connection from there may get as far as [Worker.Accept],
// for those who would go to some length before.
func (l *Listener) Welcome(from netip.Addr) bool {
	o := l.opts.Load()
	return contains(o.Allow, plain(from)) || contains(o.AcceptProxyProtocol, plain(from))
}

// A Reservation is what a connection takes of its source's limits before its session
// begins. It is given to [Worker.AcceptReserved], or back by Cancel, once.
type Reservation struct {
	listener *Listener
	source   *source // nil: the listener has no such limits, or a PROXY header will tell whose they are
}

// Reserve counts a connection for its source, for those who shake hands before
// [Worker.AcceptReserved]. An error says which limit forbids it, by a reason as
// metrics have it.
func (l *Listener) Reserve(from netip.Addr, now time.Time) (r Reservation, reason string, err error) {
	r.listener = l
	o := l.opts.Load()
	if !o.limitsSources() || contains(o.AcceptProxyProtocol, plain(from)) {
		return r, "", nil
	}
	x, why := l.sources.admit(from, o, now)
	if why != notRefused {
		return r, why.String(), why.ofSource()
	}
	r.source = x
	return r, "", nil
}

// Unreserved returns what connections come with that count for nobody yet.
func (l *Listener) Unreserved() Reservation { return Reservation{listener: l} }

// Cancel gives back a reservation that no session came of.
func (r Reservation) Cancel(now time.Time) {
	if r.source != nil {
		r.listener.sources.leave(r.source, now)
	}
}

// Announced reports whether connections from there come for others, whom they
// announce.
func (l *Listener) Announced(from netip.Addr) bool {
	return contains(l.opts.Load().AcceptProxyProtocol, plain(from))
}

// HeaderTimeout returns how long a connection may take to bring its header.
func (l *Listener) HeaderTimeout() time.Duration { return l.opts.Load().HeaderTimeout }

// Shed counts a connection for which there was no descriptor.
func (w *Worker) Shed(l *Listener) { w.Reject(l, "descriptors") }

// Reject counts a connection that was not made a session, by reason.
func (w *Worker) Reject(l *Listener, reason string) { w.counts.reject(l, reason) }

// Lose declares the sessions on b lost: why is [ErrDown] or [ErrDrained].
func (w *Worker) Lose(b *balancer.Backend, why error) {
	for s := range w.sessions.all() {
		switch d := s.dispatching; {
		case s.loan.Backend() == b:
			s.lose(why)
		case d != nil && d.hedge != nil && d.hedge.loan.Backend() == b:
			s.hedgeFailed(attemptLost)
		}
	}
}

// Stop ends all sessions with outcome shutdown. Each of them still needs a
// moment to tell its Asterisk.
func (w *Worker) Stop() {
	for s := range w.sessions.all() {
		s.stop()
	}
}

// Abort ends all sessions now.
func (w *Worker) Abort() {
	for s := range w.sessions.all() {
		s.abort(Shutdown, errShutdown)
	}
}
