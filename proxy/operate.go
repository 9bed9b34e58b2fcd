package proxy

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"time"

	"agiproxy/agi"
	"agiproxy/balancer"
)

// ErrNoSession says that no session under way has that id.
var ErrNoSession = errors.New("no such session")

// Info is what a session under way is doing.
type Info struct {
	ID       uint32
	State    string // the words of the table at the top of session.go
	Listener string
	Client   netip.AddrPort
	Pool     string // "" before the header is routed
	Backend  string // "" as long as there is none
	Script   string
	Channel  string
	UniqueID string
	Caller   string        // the number
	Age      time.Duration // since accept
	Turn     agi.Turn      // whose move it is
	TurnFor  time.Duration // since when
	Command  string        // the backend's last, by its name; "" before the first
	Commands int
	Attempts int
	Resumed  bool
	Bytes    uint64 // passed on, both ways together
}

// A Filter chooses sessions; an empty field takes all.
type Filter struct {
	ID       uint32
	Pool     string
	Backend  string
	Script   string
	UniqueID string
	Caller   string
	Limit    int // the most that are listed, the latest first; 0 means no limit
}

// List returns the sessions under way that the filter takes, the latest first.
// Like all that looks at sessions it asks their loops, in turns short enough not
// to keep a call waiting; so what it returns is of no single moment.
func (s *Server) List(f Filter) []Info {
	var all []Info
	for _, w := range s.allWorkers() {
		n := 0
		w.visit(func(x *Session) bool {
			if x.matches(&f) {
				all = append(all, x.info())
				n++
			}
			return f.Limit == 0 || n < f.Limit
		})
	}
	slices.SortFunc(all, func(a, b Info) int { return cmp.Or(cmp.Compare(a.Age, b.Age), cmp.Compare(b.ID, a.ID)) })
	if f.Limit > 0 && len(all) > f.Limit {
		all = all[:f.Limit]
	}
	return all
}

// Oldest returns, for each backend with sessions under way, the age of the oldest
// of them.
func (s *Server) Oldest() map[*balancer.Backend]time.Duration {
	oldest := make(map[*balancer.Backend]time.Duration)
	for _, w := range s.allWorkers() {
		w.visit(func(x *Session) bool {
			if b := x.loan.Backend(); b != nil {
				oldest[b] = max(oldest[b], x.now()-x.start)
			}
			return true
		})
	}
	return oldest
}

// Kill ends a session with outcome killed: the dialplan sees FAILURE, and
// AGIPROXYSTATUS=KILLED, as soon as Asterisk's command has ended. Killed again
// meanwhile the session ends at once, and leaves Asterisk alone with its command
// and FAILURE after that. The error is [ErrNoSession].
func (s *Server) Kill(id uint32) error { return s.on(id, (*Session).kill) }

// on has f run for the session of that id, on its loop.
func (s *Server) on(id uint32, f func(*Session)) error {
	found := false
	for _, w := range s.allWorkers() {
		w.visit(func(x *Session) bool {
			if x.id == id && x.state != ended {
				found = true
				f(x)
			}
			return !found
		})
		if found {
			return nil
		}
	}
	return ErrNoSession
}

// allWorkers returns the workers so far.
func (s *Server) allWorkers() []*Worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.workers)
}

// mostVisited is how many sessions a loop looks at in one turn for the sake of
// visit: each costs about a tenth of a microsecond, a miss of the cache.
const mostVisited = 512

// visit has f see each session on the worker's loop until f returns false. It
// waits for that, and must not be called on a loop. Sessions that begin
// meanwhile are not seen.
func (w *Worker) visit(f func(*Session) bool) {
	var p *place
	for more := true; more; {
		done := make(chan struct{})
		step := func() {
			defer close(done)
			if p == nil {
				p = w.sessions.begin()
			}
			for range mostVisited {
				s := p.next
				if more = s != nil; !more {
					break
				}
				p.next = s.next
				if more = f(s); !more {
					break
				}
			}
			if !more {
				w.sessions.forget(p)
			}
		}
		if w.host.Do(step) != nil {
			return // the loop has ended, and its sessions with it
		}
		<-done
	}
}

// matches reports whether the filter takes the session.
func (s *Session) matches(f *Filter) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	if f.ID != 0 && f.ID != s.id || !is(f.Pool, s.poolName()) || !is(f.Backend, s.backendName()) {
		return false
	}
	if f.Script == "" && f.UniqueID == "" && f.Caller == "" {
		return true
	}
	script, _, uniqueID, caller := s.identity()
	return is(f.Script, script) && is(f.UniqueID, uniqueID) && is(f.Caller, caller)
}

func (s *Session) poolName() string {
	if s.pool == nil {
		return ""
	}
	return s.pool.name
}

func (s *Session) backendName() string {
	if s.loan.Backend() == nil {
		return ""
	}
	return s.loan.Backend().Name()
}

func (s *Session) info() Info {
	now := s.now()
	i := Info{
		ID: s.id, State: s.state.String(), Listener: s.from.listener.name, Client: s.client(),
		Pool: s.poolName(), Backend: s.backendName(), Age: now - s.start, Turn: s.dialogue.Turn(),
		Commands: s.dialogue.Commands(), Attempts: int(s.attempts), Resumed: s.resumed, Bytes: s.bytes,
	}
	i.Script, i.Channel, i.UniqueID, i.Caller = s.identity()
	if i.Commands > 0 {
		i.Command = s.last.String()
	}
	i.TurnFor = i.Age
	if s.turnSince != 0 {
		i.TurnFor = now - s.turnSince
	}
	if s.state == reading || s.state == settling {
		i.Turn = agi.AsterisksTurn // it owes its header, or what a lost backend's commands come to
	}
	return i
}
