package proxy

import (
	"cmp"
	"slices"
	"time"

	"agiproxy/agi"
	"agiproxy/balancer"
	"agiproxy/internal/proxyheader"
)

// A Replay says after which failures the header may be sent to another backend.
// A backend that could not be connected to is always followed by another.
type Replay uint8

const (
	// ReplayUnread replays what the backend's TCP proves to be unread: its
	// script can't have begun.
	ReplayUnread Replay = iota
	// ReplayUnanswered also replays after a close, a reset or a silence before
	// the first command. It is for scripts that always send one.
	ReplayUnanswered
	// ReplayNever sends the header to one backend only.
	ReplayNever
)

// A LossPolicy says what Asterisk gets when a backend is lost in mid-session.
type LossPolicy uint8

const (
	LossFailure LossPolicy = iota // AGISTATUS=FAILURE, and the reason in AGIPROXYSTATUS
	LossClose                     // an end of the session, as from a plain proxy
	LossResume                    // another backend, whose script begins anew; LossFailure where there is none
)

// PoolOptions are a pool's limits and policies. A time of 0 means no limit.
type PoolOptions struct {
	ConnectTimeout      time.Duration
	HedgeDelay          time.Duration // until another backend is connected to beside one that is slow
	FirstCommandTimeout time.Duration // from the header's being sent
	DispatchTimeout     time.Duration // for all attempts of a session together
	Attempts            int           // at most, per session; at least 1
	Replay              Replay
	OnLoss              LossPolicy
	ThinkTimeout        time.Duration // for the backend's turns
	HangupTimeout       time.Duration // for the backend's turns after a hangup

	SendProxyHeader proxyheader.Version // what a connection to a backend begins with

	HashField string // the header field whose value is the balancing policy's key; "" for policies that need none

	QueueTimeout time.Duration // how long a session waits for a slot; 0 means not at all
	Music        string        // the class of music on hold that plays meanwhile; "" means none

	MaxLine  int // bytes of a backend's line, its line feed included, that Asterisk takes for one; 0 means [agi.MaxLine]
	Commands CommandRules

	// Dial makes connections to the pool's backends, by way of the host of the
	// session's; nil: plain ones, by the host itself. No other process is told.
	Dial func(h Host, b *balancer.Backend, hd Handler) Conn

	Fallback          []string // AGI commands for Asterisk when nothing can serve
	FallbackCompletes bool     // after them the session ends as a script does that did its work
}

// A Pool is the backends that serve the same scripts, as sessions see them.
type Pool struct {
	name     string
	opts     PoolOptions
	firewall *firewall // nil: there are no rules
	backends *balancer.Pool
}

// NewPool returns a pool. What its sessions count goes on with what an earlier
// pool of that name has counted.
func NewPool(name string, o PoolOptions, backends *balancer.Pool) *Pool {
	o.Attempts = max(o.Attempts, 1)
	o.MaxLine = cmp.Or(o.MaxLine, agi.MaxLine)
	return &Pool{name: name, opts: o, firewall: newFirewall(o.Commands), backends: backends}
}

// connect begins a connection to one of the pool's backends.
func (p *Pool) connect(h Host, b *balancer.Backend, hd Handler) Conn {
	if p.opts.Dial != nil {
		return p.opts.Dial(h, b, hd)
	}
	return h.Connect(b.Addr(), hd)
}

// Name returns the pool's name.
func (p *Pool) Name() string { return p.name }

// Backends returns what the pool picks from.
func (p *Pool) Backends() *balancer.Pool { return p.backends }

// A Table is one version of the configuration as sessions see it. It isn't
// changed after it was given to [Server.Swap].
type Table struct {
	Pools  []*Pool
	Routes []Route
}

// pool returns the pool of that name, nil if there is none.
func (t *Table) pool(name string) *Pool {
	for _, p := range t.Pools {
		if p.name == name {
			return p
		}
	}
	return nil
}

// has reports whether b is in one of the table's pools.
func (t *Table) has(b *balancer.Backend) bool {
	return slices.ContainsFunc(t.Pools, func(p *Pool) bool { return slices.Contains(p.backends.Backends(), b) })
}
