//go:build linux

package load

import (
	"math/rand/v2"
	"time"
)

// A mode decides when sessions and commands begin.
type mode interface {
	// ready opens sessions that are to be there beforehand, some at each call,
	// and reports whether all of them are.
	ready() bool
	// due begins what is to begin by now, and returns when it is to be called
	// next at the latest.
	due() (next int64)
	// confirmed is told that the server has the reply to a command that was
	// not its last.
	confirmed(s *session)
	// ended is told that a session is over.
	ended(s *session)
	// stop begins nothing more, and has endless sessions end.
	stop()
}

// forever is when nothing is due.
const forever = int64(1) << 62

// short is short sessions in a closed loop: the next begins when one ends.
type short struct {
	g        *Generator
	sessions int
	commands uint32
	stopped  bool
}

func (m *short) ready() bool { return true }

func (m *short) due() int64 {
	for m.g.live < m.sessions && !m.stopped {
		m.g.open(m.commands, serverCloses)
	}
	return forever
}

func (m *short) confirmed(s *session) { m.g.ask(s, m.g.now) }
func (m *short) ended(*session)       {} // due opens the next
func (m *short) stop()                { m.stopped = true }

// opening is how many sessions of a crowd may be opened at one time.
const opening = 100

// A crowd is long sessions that are there before anything is measured, some of
// which do nothing from then on.
type crowd struct {
	g       *Generator
	active  []*session
	want    int // active ones
	beside  int // held ones
	opened  int
	there   int // whose first command was answered
	stopped bool
}

func (m *crowd) ready() bool {
	for m.opened < m.beside+m.want && m.opened-m.there < opening {
		m.opened++
		if s := m.g.open(0, serverCloses); s.live {
			s.held = m.opened <= m.beside
		}
	}
	return m.there == m.beside+m.want
}

// joined is told of a confirmed command, and reports whether it was the first.
func (m *crowd) joined(s *session) bool {
	if s.confirmed > 1 {
		return false
	}
	m.there++
	if !s.held {
		m.active = append(m.active, s)
	}
	return true
}

func (m *crowd) due() int64           { return forever }
func (m *crowd) confirmed(s *session) { m.joined(s) }
func (m *crowd) ended(*session)       {}

func (m *crowd) stop() {
	m.stopped = true
	for i := range m.g.sessions {
		if s := &m.g.sessions[i]; s.live && s.server != noFD && s.confirmed == s.asked {
			m.g.serverEnds(s)
		}
	}
}

// saturated is a crowd whose servers send the next command at once.
type saturated struct {
	crowd
	running bool
}

func (m *saturated) due() int64 {
	if !m.running {
		m.running = true
		for _, s := range m.active {
			m.g.ask(s, m.g.clock())
		}
	}
	return forever
}

func (m *saturated) confirmed(s *session) {
	switch {
	case m.joined(s):
	case m.stopped:
		m.g.serverEnds(s)
	default:
		m.g.ask(s, m.g.now)
	}
}

// paced is a crowd whose servers send commands at a fixed rate, in turn.
type paced struct {
	crowd
	interval float64 // between commands, nanoseconds
	start    int64
	sent     int
}

// due sends each command at its time. If its session still waits for a reply
// then, it is sent later, but its time stands: a slow proxy can't hide by
// slowing its load. A command that is late because this loop is counts from
// when it was sent, which is no fault of the proxy's.
func (m *paced) due() int64 {
	if m.start == 0 {
		m.start = m.g.clock()
	}
	for !m.stopped {
		at := m.start + int64(float64(m.sent)*m.interval)
		if at > m.g.now {
			return at
		}
		s := m.active[m.sent%len(m.active)]
		m.sent++
		switch {
		case !s.live:
		case s.confirmed == s.asked:
			m.g.ask(s, m.g.clock())
		default:
			s.backlog++
		}
	}
	return forever
}

func (m *paced) confirmed(s *session) {
	switch {
	case m.joined(s):
	case m.stopped:
		m.g.serverEnds(s)
	case s.backlog > 0:
		s.backlog--
		// Its turn came one round of all sessions after the one before.
		m.g.ask(s, min(m.g.now, s.due+int64(m.interval*float64(len(m.active)))))
	}
}

// churn is sessions of all lengths that arrive at a fixed rate; some callers
// leave early.
type churn struct {
	g        *Generator
	random   *rand.Rand
	interval float64 // between arrivals, nanoseconds
	limit    int     // sessions at one time
	from, to uint32  // commands of a session
	hangups  float64 // share of sessions whose caller ends them
	think    time.Duration
	start    int64
	arrived  int
	thinking []thought // in the order of their times; from head on
	head     int
	stopped  bool
}

// A thought is a server that will send its next command.
type thought struct {
	at     int64
	slot   uint32
	number uint32
}

func (m *churn) ready() bool { return true }

func (m *churn) due() int64 {
	now := m.g.clock()
	for ; m.head < len(m.thinking) && m.thinking[m.head].at <= now; m.head++ {
		t := m.thinking[m.head]
		if s := &m.g.sessions[t.slot]; s.live && s.number == t.number {
			m.g.ask(s, m.g.clock())
		}
	}
	if m.head > len(m.thinking)/2 {
		m.thinking, m.head = m.thinking[:copy(m.thinking, m.thinking[m.head:])], 0
	}
	next := forever
	if m.head < len(m.thinking) {
		next = m.thinking[m.head].at
	}
	if m.stopped {
		return next
	}
	if m.start == 0 {
		m.start = now
	}
	for {
		at := m.start + int64(float64(m.arrived)*m.interval)
		if at > m.g.now {
			return min(next, at)
		}
		m.arrived++
		if m.g.live < m.limit {
			m.g.open(m.from+m.random.Uint32N(m.to-m.from+1), m.ending())
		} else {
			m.g.run.fault("overload", "arrivals find all sessions taken: the proxy is too slow for the rate")
		}
	}
}

func (m *churn) ending() ending {
	switch r := m.random.Float64(); {
	case r < m.hangups/2:
		return callerHangs
	case r < m.hangups:
		return callerCloses
	}
	return serverCloses
}

func (m *churn) confirmed(s *session) {
	m.thinking = append(m.thinking, thought{at: m.g.now + int64(m.think), slot: s.slot, number: s.number})
}

func (m *churn) ended(*session) {}
func (m *churn) stop()          { m.stopped = true }
