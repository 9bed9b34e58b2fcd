package balancer

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// State is what a backend can be asked to do.
type State uint8

const (
	Up      State = iota // takes new sessions
	Busy                 // alive, but all its hands are full: the last resort
	Down                 // health checks have given up on it, or its name has no address
	Ejected              // taken out for a while, since sessions have failed through it
	Drained              // takes no new sessions; those under way go on
)

// NumStates is how many states there are.
const NumStates = 5

// String returns the state in lower case.
func (s State) String() string {
	return [NumStates]string{"up", "busy", "down", "ejected", "drained"}[s]
}

// CanServe reports whether a backend in that state gets sessions, if only as the
// last resort.
func (s State) CanServe() bool { return s == Up || s == Busy }

// progressWindow is how long a server may leave all its sessions without a move
// and still count as being at work. A script's turn is seldom longer: it reads
// a database or calls a web service.
const progressWindow = 10 * time.Second

// A Backend is one server of a pool. It outlives the pool that it was made for
// when a reload keeps it, and with it its sessions and its verdict. All methods
// are safe for concurrent use; none blocks.
type Backend struct {
	// A pick looks at this much of each of a thousand backends, so it is kept
	// small: two of them share a cache line.
	flags    atomic.Uint32 // and the number of recent failures
	weight   atomic.Int32  // that counts now, in parts of 1/rampSteps, see ramp
	max      atomic.Int32  // sessions; 0 means no limit
	sessions atomic.Int32  // loans under way
	current  atomic.Int64  // smooth weighted round-robin, see RoundRobin

	*particulars
}

// particulars are what a pick doesn't look at.
type particulars struct {
	name    string
	address string
	addr    atomic.Pointer[netip.AddrPort]
	hash    uint64               // of the name, see Hash
	owner   atomic.Pointer[Pool] // that picks from it now; nil before the first

	ejection ejection
	ramp     ramp

	since   atomic.Int64 // UnixNano of the last time that State had changed
	total   atomic.Uint64
	waiting atomic.Int64  // sessions in which the server owes nothing
	moves   atomic.Uint64 // moves that servers' turns ended with
	seen    atomic.Uint64 // moves, when Progressing last looked
	seenAt  atomic.Int64  // UnixNano of the last time that seen had changed
}

// A backend's flags. The first two make its rank, see [Pool.Pick]; with one of
// the others it can't serve.
const (
	isBackup  = 1 << iota // serves only when no other backend can
	isBusy                // a health check is waiting in its line
	isDown                // the health checks have given up on it
	isNowhere             // its name has no address yet
	isDrained
	isEjected
	recentFailure // one of them; the bits from here on count them, see [Loan.Failed]

	anyFlag  = recentFailure - 1
	unusable = isDown | isNowhere | isDrained | isEjected
)

// set sets a flag, or clears it, and sees to what follows from that.
func (b *Backend) set(flag uint32, on bool) {
	before := b.mark(flag, on)
	if !on {
		b.cleared(flag, before)
	}
	b.offer() // also where only the rank has changed: a pick meanwhile may have missed b in both
}

// cleared has the backend start slowly if clearing the flag brought it back.
func (b *Backend) cleared(flag, before uint32) {
	if before&unusable == flag && flag != isNowhere {
		b.cameBack() // with its first address it comes, and not back
	}
}

// mark sets a flag, or clears it, and returns the flags before.
func (b *Backend) mark(flag uint32, on bool) (before uint32) {
	after := flag
	if on {
		before = b.flags.Or(flag)
		after |= before
	} else {
		before = b.flags.And(^flag)
		after = before &^ flag
	}
	if stateOf(before) != stateOf(after) {
		b.since.Store(time.Now().UnixNano())
	}
	return before
}

// NewBackend returns a backend that is up, of weight 1, without a limit and
// without a network address: nothing is sent to it before SetAddr. The address
// is the one written in the configuration.
func NewBackend(name, address string) *Backend {
	b := &Backend{particulars: &particulars{name: name, address: address, hash: Key([]byte(name))}}
	b.ramp.step = rampSteps
	b.setWeight(1)
	b.flags.Store(isNowhere)
	b.since.Store(time.Now().UnixNano())
	return b
}

// Name returns the backend's name, unique in its pool.
func (b *Backend) Name() string { return b.name }

// Address returns the address as it was configured.
func (b *Backend) Address() string { return b.address }

// Addr returns where to connect to; the zero AddrPort as long as the name has
// no address.
func (b *Backend) Addr() netip.AddrPort {
	if p := b.addr.Load(); p != nil {
		return *p
	}
	return netip.AddrPort{}
}

// SetAddr sets where to connect to from now on.
func (b *Backend) SetAddr(a netip.AddrPort) {
	b.addr.Store(&a)
	b.set(isNowhere, false)
}

// Configure sets what an operator may change while sessions are under way.
// weight is at least 1; max is the most sessions at a time, 0 for no limit; a
// backup serves only when no other backend can.
func (b *Backend) Configure(weight, max int, backup bool) {
	b.setWeight(weight)
	b.max.Store(int32(max))
	b.set(isBackup, backup)
}

// SetUp gives the verdict of the health checks.
func (b *Backend) SetUp(up bool) { b.set(isDown, !up) }

// Healthy returns the last verdict given by SetUp; true before the first.
func (b *Backend) Healthy() bool { return b.flags.Load()&isDown == 0 }

// SetBusy says whether a health check is waiting in the server's line.
func (b *Backend) SetBusy(busy bool) { b.set(isBusy, busy) }

// Drain stops new sessions, or allows them again.
func (b *Backend) Drain(drained bool) { b.set(isDrained, drained) }

// Resolved reports whether the backend has a network address.
func (b *Backend) Resolved() bool { return b.flags.Load()&isNowhere == 0 }

// State returns what the backend can be asked to do. Being full is no state,
// since it changes with each session.
func (b *Backend) State() State { return stateOf(b.flags.Load()) }

// Since returns when the backend came into the state that it is in.
func (b *Backend) Since() time.Time { return time.Unix(0, b.since.Load()) }

func stateOf(f uint32) State {
	switch {
	case f&isDrained != 0:
		return Drained
	case f&(isDown|isNowhere) != 0:
		return Down
	case f&isEjected != 0:
		return Ejected
	case f&isBusy != 0:
		return Busy
	}
	return Up
}

// Sessions returns how many sessions are under way, attempts included.
func (b *Backend) Sessions() int { return int(b.sessions.Load()) }

// Total returns how many times the backend has been picked.
func (b *Backend) Total() uint64 { return b.total.Load() }

// MaxSessions returns how many sessions the backend may have at a time, 0 for
// any number.
func (b *Backend) MaxSessions() int { return int(b.max.Load()) }

// Backup reports whether the backend serves only when no other can.
func (b *Backend) Backup() bool { return b.flags.Load()&isBackup != 0 }

// Full reports whether the backend has as many sessions as it may.
func (b *Backend) Full() bool {
	max := b.max.Load()
	return max > 0 && b.sessions.Load() >= max
}

// Progressing reports whether the sessions under way explain why the server
// lets a newcomer wait: in one of them at least the server owes nothing, or has
// done something of late. It remembers when it last saw something new, so it is
// meant for one caller who asks again and again: the backend's health check.
func (b *Backend) Progressing() bool {
	if b.sessions.Load() == 0 {
		return false
	}
	now := time.Now().UnixNano()
	if moves := b.moves.Load(); b.seen.Swap(moves) != moves {
		b.seenAt.Store(now)
	}
	return b.waiting.Load() > 0 || now-b.seenAt.Load() < int64(progressWindow)
}

// borrow counts one more session, unless the backend is full.
func (b *Backend) borrow() bool {
	for {
		n, max := b.sessions.Load(), b.max.Load()
		if max > 0 && n >= max {
			return false
		}
		if b.sessions.CompareAndSwap(n, n+1) {
			b.total.Add(1)
			return true
		}
	}
}

// A Loan is one session's claim on a backend, from being picked to Done. The
// zero Loan is none. It belongs to one session and is not safe for concurrent
// use.
type Loan struct {
	backend  *Backend
	waiting  bool // the server owes nothing
	doubtful bool
}

// Backend returns the backend that was picked, nil for the zero Loan.
func (l *Loan) Backend() *Backend { return l.backend }

// Doubtful reports whether the backend was picked although it counts as down or
// ejected, see [Options].Panic.
func (l *Loan) Doubtful() bool { return l.doubtful }

// ServersTurn says whether the server owes the session's next move. A loan
// begins with the server's turn.
func (l *Loan) ServersTurn(owes bool) {
	if l.waiting == !owes {
		return
	}
	l.waiting = !owes
	if owes {
		l.backend.waiting.Add(-1)
		return
	}
	l.backend.moves.Add(1)
	l.backend.waiting.Add(1)
}

// Served says that the backend did what it is there for: evidence that it works.
func (l *Loan) Served() { l.backend.served() }

// Failed says that the attempt, or the session, failed through the backend. So
// many failures in a row eject it, see [Ejection]. Each counts as a number of
// sessions more for some seconds, so that a backend which takes sessions only to
// drop them isn't taken for the one with the most room. Failed doesn't give the
// backend back.
func (l *Loan) Failed() { l.backend.failed() }

// Done gives the backend back and makes l the zero Loan. The first who waits for
// the place gets it before Done returns. It panics for the zero Loan: a loan is
// given back once.
func (l *Loan) Done() {
	b := l.backend
	if b == nil {
		panic("balancer: Done of no loan")
	}
	if l.waiting {
		b.waiting.Add(-1)
	}
	if b.sessions.Add(-1) < 0 {
		panic("balancer: more loans given back than lent")
	}
	*l = Loan{}
	b.offer()
}
