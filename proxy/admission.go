package proxy

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/netip"
	"slices"

	"agiproxy/internal/proxyheader"
)

var (
	errNotAllowed      = errors.New("source is not allowed")
	errTooManySessions = errors.New("listener has as many sessions as it may")
	errSourceFull      = errors.New("source has as many sessions as it may")
	errRate            = errors.New("source begins more sessions than it may")
	errToken           = errors.New("no valid token")
)

// A refusal is why a connection did not become a session that is routed.
type refusal uint8

const (
	notRefused refusal = iota
	refusedAllow
	refusedListener // it has as many sessions as it may
	refusedSource   // so has the source
	refusedRate
	refusedToken
	refusedProxyHeader
	refusedMalformed
	refusedTooLarge
	refusedLate
	refusedCut
)

// String returns the reason as metrics and logs have it.
func (r refusal) String() string {
	return [...]string{
		"", "not_allowed", "max_sessions", "source_max_sessions", "rate", "token", "proxy_protocol",
		"malformed", "too_large", "late", "cut",
	}[r]
}

// ofSource says which of its source's limits a connection is refused by.
func (r refusal) ofSource() error {
	if r == refusedRate {
		return errRate
	}
	return errSourceFull
}

// An origin is where a session comes from. Those of which no more is to be known
// than their connection tells share their listener's.
type origin struct {
	listener *Listener

	client, destination netip.AddrPort // that a PROXY header has announced; zero: the connection's own
	source              *source        // that the session counts for; nil: for none

	awaited   bool   // the PROXY header must still come
	announced []byte // what has come of it
}

// client returns who the session is with, as far as is known by now.
func (s *Session) client() netip.AddrPort {
	if c := s.from.client; c.IsValid() {
		return c
	}
	return s.front.RemoteAddr()
}

// destination returns the address that the client has connected to.
func (s *Session) destination() netip.AddrPort {
	if d := s.from.destination; d.IsValid() {
		return d
	}
	return s.front.LocalAddr()
}

func contains(networks []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Accept begins a session on a connection from Asterisk and returns the
// connection's handler; nil means that it isn't welcome and must be closed.
func (w *Worker) Accept(l *Listener, front Conn) Handler {
	return w.AcceptReserved(l.Unreserved(), front)
}

// AcceptReserved is Accept for a connection that counts for its source already.
func (w *Worker) AcceptReserved(r Reservation, front Conn) Handler {
	l := r.listener
	o := l.opts.Load()
	s := &Session{worker: w, from: &l.origin, front: front, start: w.host.Now(), id: w.server.accepted.Add(1)}
	w.server.sessions.Add(1)
	w.sessions.add(s)
	if len(o.AcceptProxyProtocol) > 0 && contains(o.AcceptProxyProtocol, plain(front.RemoteAddr().Addr())) {
		s.from = &origin{listener: l, awaited: true}
		r.Cancel(w.server.opts.Now()) // who comes is still to be announced
		r.source = nil
	}
	if r.source != nil {
		s.countFor(r.source)
	}
	if !s.from.awaited && !s.allowed(o) {
		return nil
	}
	if l.sessions.Add(1) > int64(o.MaxSessions) {
		l.sessions.Add(-1)
		s.turnAway(refusedListener, errTooManySessions)
		return (*frontSide)(s)
	}
	s.admitted = true
	if !s.from.awaited && r.source == nil && !s.admitSource(o) {
		return (*frontSide)(s)
	}
	s.dispatching = w.dispatching(o.MaxHeaderBytes)
	front.SetTimer(s.start + o.HeaderTimeout)
	return (*frontSide)(s)
}

func (s *Session) isAllowed(o *ListenerOptions) bool {
	return contains(o.Allow, plain(s.client().Addr()))
}

// allowed reports whether the client may connect, and else ends the session
// without a byte.
func (s *Session) allowed(o *ListenerOptions) bool {
	if s.isAllowed(o) {
		return true
	}
	s.refused(refusedAllow)
	s.conclude(Rejected, errNotAllowed)
	s.end()
	return false
}

// admitSource counts the session for its source, if there are limits to that, and
// turns it away when they are reached.
func (s *Session) admitSource(o *ListenerOptions) bool {
	if !o.limitsSources() {
		return true
	}
	x, why := s.from.listener.sources.admit(s.client().Addr(), o, s.worker.server.opts.Now())
	if why != notRefused {
		s.turnAway(why, why.ofSource())
		return false
	}
	s.countFor(x)
	return true
}

// refused counts a refusal.
func (s *Session) refused(why refusal) {
	s.refusal = why
	s.worker.counts.reject(s.from.listener, why.String())
}

// turnAway refuses a session that is none too many of anybody's while it lingers.
func (s *Session) turnAway(why refusal, err error) {
	s.refused(why)
	s.unadmit()
	s.undispatch()
	s.refuse(Rejected, err)
}

// unadmit gives back what the session has counted for.
func (s *Session) unadmit() {
	if s.admitted {
		s.admitted = false
		s.from.listener.sessions.Add(-1)
	}
	if x := s.from.source; x != nil {
		s.from.source = nil
		s.from.listener.sources.leave(x, s.worker.server.opts.Now())
	}
}

// readmit counts a session that another process has admitted.
func (s *Session) readmit() {
	l := s.from.listener
	o := l.opts.Load()
	l.sessions.Add(1)
	if !o.limitsSources() {
		return
	}
	s.countFor(l.sources.adopt(s.client().Addr(), o, s.worker.server.opts.Now()))
}

// countFor notes which source the session counts for.
func (s *Session) countFor(x *source) {
	if l := s.from.listener; s.from == &l.origin {
		s.from = &origin{listener: l}
	}
	s.from.source = x
}

// readAnnouncement takes the next bytes of the PROXY header and returns what
// follows it, none as long as the session isn't admitted.
func (s *Session) readAnnouncement(p []byte) (rest []byte) {
	from, o := s.from, s.from.listener.opts.Load()
	from.announced = append(from.announced, p...)
	h, n, err := proxyheader.Parse(from.announced)
	if err != nil {
		s.turnAway(refusedProxyHeader, err)
		return nil
	}
	if n == 0 {
		return nil
	}
	rest = from.announced[n:]
	from.awaited, from.announced = false, nil
	from.client, from.destination = h.Source, h.Destination
	if !s.isAllowed(o) { // a close without a byte would be SUCCESS for an Asterisk behind the proxy
		s.turnAway(refusedAllow, errNotAllowed)
		return nil
	}
	if !s.admitSource(o) {
		return nil
	}
	return rest
}

// A Token is a secret that sessions must know one of. Of the secret itself nothing
// is kept.
type Token struct{ sum [sha256.Size]byte }

// NewToken returns the token of that secret.
func NewToken(secret []byte) Token { return Token{sha256.Sum256(secret)} }

// tokenName is the parameter of the URL's query that has the secret.
const tokenName = "token"

// knowsToken takes the secret out of the header, and reports whether it is one of
// the listener's. How long that takes doesn't depend on what is right of it, nor on
// which of them it is.
func (s *Session) knowsToken(tokens []Token) bool {
	secret := s.dispatching.header.CutQuery(tokenName)
	sum := sha256.Sum256(secret)
	clear(secret)
	known := 0
	for i := range tokens {
		known |= subtle.ConstantTimeCompare(sum[:], tokens[i].sum[:])
	}
	return known == 1
}

// refusedFrom is what one refusal is told apart by from others, in the log.
type refusedFrom struct {
	source netip.Addr
	why    refusal
}

// quiet reports whether the session's end is told of, and how many others like it
// were not: of those from one source that were refused for one reason, one a second
// is.
func (s *Session) quiet() (suppressed uint64, quiet bool) {
	if s.refusal == notRefused || s.pool != nil {
		return 0, false
	}
	now := s.worker.server.opts.Now()
	suppressed, told := s.worker.server.refusals.Tell(refusedFrom{SourceOf(s.client().Addr()), s.refusal}, now)
	return suppressed, !told
}
