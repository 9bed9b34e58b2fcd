package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"agiproxy/agi"
	"agiproxy/balancer"
)

// A Moved is all that there is to a session but its connections, so that another
// process can go on with it. It holds no moments but lengths of time, and names
// for what the other process has to find again.
//
// A session can move in the states in which it says nothing of its own: while it
// waits for a slot or for the first command, in the dialogue, and when one side
// is done. In the others it is about to get into one of these, or to end; what
// takes longer, as a command that a lost backend has left, is brought to its end
// where it is.
type Moved struct {
	ID       uint32
	State    uint8
	Outcome  uint8
	Reason   string // why it ends as it does
	Listener string
	Pool     string       // "" for one that was not routed
	Backend  MovedBackend // that it is lent; none has no name
	Last     string       // the name of the last attempt's backend
	HasBack  bool         // there is a connection to the backend
	Owes     bool         // the backend owes the next move
	Doubtful bool         // see [balancer.Loan]

	Dialogue agi.Progress
	Partial  []byte
	Dispatch *MovedDispatch // nil once no attempt can need it
	Music    bool           // agiproxy plays music on hold
	Rest     []string       // lines that agiproxy has still to say

	Age          time.Duration
	TurnFor      time.Duration // 0: there was no turn yet
	DispatchTook time.Duration
	Bytes        uint64
	Who          string
	Attempts     uint16
	Denied       uint32 // lines that were refused
	Command      string // the backend's last

	Client, Destination netip.AddrPort // that a PROXY header has announced
	Refusal             uint8

	Unproved, Gone, Admitted, Resumed, Sent bool
}

// MovedDispatch is what a session keeps for another attempt.
type MovedDispatch struct {
	Header []byte
	Early  []byte
	Tried  []MovedBackend
	Key    uint64
	Left   time.Duration // until the dispatch has taken too long, less than 0 where it has but for the time that it waits; 0 means no limit

	Queued    time.Duration // since it began to wait; 0: it doesn't
	QueueLeft time.Duration // of the time that it may wait; 0: it has not waited
}

// A MovedBackend is a backend as another process can find it.
type MovedBackend struct{ Name, Address string }

func described(b *balancer.Backend) MovedBackend {
	if b == nil {
		return MovedBackend{}
	}
	return MovedBackend{b.Name(), b.Address()}
}

// movable reports whether the session can move.
func (s *Session) movable() bool {
	if stays(s.front) || s.back != nil && stays(s.back) {
		return false
	}
	return s.state == queued && s.loan.Backend() == nil || s.state == awaiting || s.state == relaying || s.state == closing
}

// stays reports whether c is a connection that can't be given to another process.
func stays(c Conn) bool {
	_, ok := c.(interface{ Stays() })
	return ok
}

// Passing returns how many sessions are about to get into a state in which they
// can move, or to end, if nothing unusual happens.
func (w *Worker) Passing() (n int) {
	for s := range w.sessions.all() {
		if stays(s.front) || s.back != nil && stays(s.back) {
			continue // whatever it does
		}
		switch s.state {
		case reading, connecting:
			n++
		case queued:
			if !s.movable() { // it has a slot, and stops the music
				n++
			}
		case settling:
			if s.dialogue.Turn() == agi.BackendsTurn { // else a command runs, maybe for hours
				n++
			}
		case answering:
			if s.outcome != NoBackend || len(s.pool.opts.Fallback) == 0 { // else prompts may play
				n++
			}
		}
	}
	return n
}

// Freeze takes the sessions that can move out of all that happens, and returns
// them: the caller has to keep their connections from telling them anything, until
// [Worker.Thaw] or [Worker.Release] has been called.
func (w *Worker) Freeze() []*Session {
	var all []*Session
	for s := range w.sessions.all() {
		if !s.movable() {
			continue
		}
		if s.state == queued {
			s.leaveLine()
		}
		w.sessions.remove(s)
		w.frozen.add(s)
		all = append(all, s)
	}
	return all
}

// Thaw has the sessions that Freeze has taken out, or that Restore has brought, go
// on. It is called when their connections can be written to again, and before they
// tell of anything.
func (w *Worker) Thaw() {
	var waiting []*Session
	for s := range w.frozen.all() {
		w.frozen.remove(s)
		w.sessions.add(s)
		if s.state == queued {
			waiting = append(waiting, s)
		}
	}
	slices.SortFunc(waiting, func(a, b *Session) int {
		return cmp.Compare(a.dispatching.queuedSince, b.dispatching.queuedSince)
	})
	for _, s := range waiting {
		s.standInLine(true)
	}
}

// Release forgets the sessions that Freeze has taken out: others go on with them,
// and count them. Their connections are for the caller to close.
func (w *Worker) Release() {
	for s := range w.frozen.all() {
		w.frozen.remove(s)
		s.state = ended
		if s.traced {
			s.endTraces()
		}
		if s.loan.Backend() != nil {
			s.loan.Done()
		}
		s.unadmit()
		delete(w.denied, s)
		w.server.sessions.Add(-1)
	}
}

// Conns returns the session's connections; back is nil if there is none.
func (s *Session) Conns() (front, back Conn) { return s.front, s.back }

// PoolOptions returns the name and the options of the session's pool, and false
// if it was not routed to one.
func (s *Session) PoolOptions() (name string, o PoolOptions, ok bool) {
	if s.pool == nil {
		return "", PoolOptions{}, false
	}
	return s.pool.name, s.pool.opts, true
}

// Move describes a session that Freeze has returned.
func (s *Session) Move() *Moved {
	now := s.now()
	m := &Moved{
		ID: s.id, State: uint8(s.state), Outcome: uint8(s.outcome), Listener: s.from.listener.name,
		Backend: described(s.loan.Backend()), HasBack: s.back != nil, Owes: !s.loan.Waiting(), Doubtful: s.loan.Doubtful(),
		Dialogue: s.dialogue.Progress(), Partial: s.partial,
		Age: now - s.start, DispatchTook: s.dispatchTook, Bytes: s.bytes, Who: s.who, Attempts: s.attempts, Denied: s.worker.denied[s], Command: s.last.String(),
		Unproved: s.unproved, Gone: s.gone, Admitted: s.admitted, Resumed: s.resumed, Sent: s.sent,
		Client: s.from.client, Destination: s.from.destination, Refusal: uint8(s.refusal),
	}
	if s.turnSince != 0 {
		m.TurnFor = max(now-s.turnSince, 1)
	}
	if s.reason != nil {
		m.Reason = s.reason.Error()
	}
	if s.pool != nil {
		m.Pool = s.pool.name
	}
	if s.counts != nil {
		m.Last = s.counts.name
	}
	if s.state == queued && s.speech != nil {
		m.Music, m.Rest = s.speech.music, s.speech.rest
	}
	if d := s.dispatching; d != nil {
		m.Dispatch = s.moveDispatch(d, now)
	}
	return m
}

func (s *Session) moveDispatch(d *dispatching, now time.Duration) *MovedDispatch {
	left := func(at time.Duration) time.Duration {
		if at == 0 {
			return 0
		}
		return cmp.Or(at-now, 1)
	}
	m := &MovedDispatch{Header: d.header.Bytes(), Early: d.early, Key: d.key, Left: left(d.until), QueueLeft: left(d.queuedUntil)}
	if s.state == queued {
		m.Queued = max(now-d.queuedSince, 1)
	}
	for _, b := range d.tried {
		m.Tried = append(m.Tried, described(b))
	}
	return m
}

// Restore begins a session that another process has described, frozen: Thaw has
// it go on. It returns the handlers of its connections, which the caller gives
// them before. A pool or a backend that the configuration doesn't have any more
// is the session's own, as after a reload; then o is what the pool was. An error
// says that m can't be; then nothing is left of it.
func (w *Worker) Restore(m *Moved, l *Listener, o PoolOptions, front, back Conn) (toFront, toBack Handler, err error) {
	s := &Session{
		id: m.ID, worker: w, from: &l.origin, front: front, state: state(m.State), outcome: Outcome(m.Outcome), partial: m.Partial,
		start: w.host.Now() - m.Age, dispatchTook: m.DispatchTook, bytes: m.Bytes, who: m.Who, attempts: m.Attempts, last: agi.CommandNamed(m.Command),
		unproved: m.Unproved, gone: m.Gone, admitted: m.Admitted, resumed: m.Resumed, sent: m.Sent, refusal: refusal(m.Refusal),
	}
	if m.Client.IsValid() {
		s.from = &origin{listener: l, client: m.Client, destination: m.Destination}
	}
	if m.HasBack {
		s.back = back
	}
	if s.dialogue, err = m.Dialogue.Dialogue(); err != nil {
		return nil, nil, err
	}
	if err := m.check(s); err != nil {
		return nil, nil, err
	}
	if m.TurnFor != 0 {
		s.turnSince = w.host.Now() - m.TurnFor
	}
	if m.Reason != "" {
		s.reason = errors.New(m.Reason)
	}
	if m.Pool != "" {
		s.pool = w.server.poolFor(m.Pool, o)
	}
	if m.Last != "" {
		s.counts = w.counts.pool(m.Pool).backend(m.Last)
	}
	if m.Dispatch != nil {
		if err := s.restoreDispatch(m.Dispatch); err != nil {
			return nil, nil, err
		}
	}
	if m.Music {
		s.speech = &speech{music: true, rest: m.Rest, then: func(*Session) {}}
	}
	if m.Backend.Name != "" {
		s.loan = w.server.backendFor(s.pool, m.Backend).Adopt(!m.Owes, m.Doubtful)
	}
	if s.admitted {
		s.readmit()
	}
	if m.Denied > 0 {
		w.deny(s, m.Denied)
	}
	w.server.sessions.Add(1)
	w.frozen.add(s)
	return (*frontSide)(s), (*backSide)(s), nil
}

// check reports what no session can be.
func (m *Moved) check(s *Session) error {
	lent := m.Backend.Name != "" && m.Last != "" && m.HasBack
	ok := false
	switch s.state {
	case queued:
		ok = m.Dispatch != nil && m.Pool != "" && m.Backend.Name == ""
	case awaiting:
		ok = m.Dispatch != nil && m.Pool != "" && lent
	case relaying:
		ok = m.Pool != "" && lent
	case closing:
		ok = m.Backend.Name == "" || m.Pool != "" && m.Last != ""
	}
	if !ok || m.Outcome >= uint8(NumOutcomes) || m.Refusal > uint8(refusedCut) {
		return fmt.Errorf("no session can be in state %d with outcome %d, pool %q, backend %q", m.State, m.Outcome, m.Pool, m.Backend.Name)
	}
	return nil
}

func (s *Session) restoreDispatch(m *MovedDispatch) error {
	now := s.now()
	at := func(left time.Duration) time.Duration {
		if left == 0 {
			return 0
		}
		return cmp.Or(now+left, 1)
	}
	d := s.worker.dispatching(len(m.Header))
	if _, err := d.header.Feed(m.Header); err != nil || !d.header.Done() {
		return errors.Join(errors.New("no session has such a header"), err)
	}
	d.early, d.key, d.until, d.queuedUntil = m.Early, m.Key, at(m.Left), at(m.QueueLeft)
	if m.Queued != 0 {
		d.queuedSince = now - m.Queued
	}
	for _, x := range m.Tried {
		if b := find(s.pool, x); b != nil {
			d.try(b)
		}
	}
	s.dispatching = d
	return nil
}

// find returns the pool's backend that is that server, nil if there is none.
func find(p *Pool, x MovedBackend) *balancer.Backend {
	if p == nil {
		return nil
	}
	for _, b := range p.backends.Backends() {
		if described(b) == x {
			return b
		}
	}
	return nil
}

// poolFor returns the pool of that name, or one that is there no more.
func (s *Server) poolFor(name string, o PoolOptions) *Pool {
	if p := s.Table().pool(name); p != nil {
		return p
	}
	return NewPool(name, o, balancer.NewPool(balancer.RoundRobin{}, balancer.Options{}, nil))
}

// backendFor returns the pool's backend that is that server, or one that is
// there no more.
func (s *Server) backendFor(p *Pool, x MovedBackend) *balancer.Backend {
	if b := find(p, x); b != nil {
		return b
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.retired {
		if r.Pool == p.name && described(r.Backend) == x {
			return r.Backend
		}
	}
	b := balancer.NewBackend(x.Name, x.Address)
	p.backends.Inherit(balancer.NewPool(balancer.RoundRobin{}, balancer.Options{}, []*balancer.Backend{b})) // which owns it, as after a reload
	s.retired = append(s.retired, Retired{p.name, b, time.Now()})
	return b
}
