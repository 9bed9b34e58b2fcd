package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"agiproxy/internal/app"
)

// A show looks at a demo's proxy again and again, and has a stage show it.
type show struct {
	app     *app.App
	servers []*ivr
	board   *board
	pace    tempo

	states map[string]string // of the servers as the proxy saw them last
	moved  int               // calls, when a server was last seen going down
}

// A stage is where a show is seen.
type stage interface {
	begin(sc *scene)
	draw(sc *scene) // at each look
	end()
}

// newStage is a live view on a terminal, and plain lines elsewhere.
func newStage(out io.Writer) stage {
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		return &screen{file: f, color: os.Getenv("NO_COLOR") == ""}
	}
	return &plain{out: out}
}

// run shows the demo until done is closed.
func (s *show) run(on stage, done <-chan struct{}) {
	s.states = map[string]string{}
	on.begin(s.look())
	defer on.end()
	ticker := time.NewTicker(s.pace.look)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			on.draw(s.look())
		case <-done:
			on.draw(s.look())
			return
		}
	}
}

// look makes a scene of what is now, and tells of servers that the proxy has
// come to see otherwise.
func (s *show) look() *scene {
	sc := &scene{
		elapsed: time.Since(s.board.start),
		listen:  reach(s.app.Addr(), ""),
		target:  reach(s.app.Addr(), ownHost()),
		metrics: s.app.AdminAddr(),
		callers: s.pace.callers,
	}
	status := s.app.Status()
	sc.sessions = status.Sessions
	for i, b := range status.Pools[0].Backends {
		sc.servers = append(sc.servers, serverView{
			name: b.Name, address: b.Address, alive: s.servers[i].alive(),
			state: b.State, sessions: b.Sessions, served: b.Served,
		})
		if before := s.states[b.Name]; before != "" && before != b.State {
			s.changed(b.Name, b.State)
		}
		s.states[b.Name] = b.State
	}
	sc.totals = s.board.totals()
	sc.events, sc.passed = s.board.story()
	return sc
}

func (s *show) changed(name, state string) {
	moved := s.board.totals().moved
	switch fresh := moved - s.moved; {
	case state == "down" && fresh > 0:
		s.moved = moved
		s.board.event("agiproxy sees that %s is down; %s had met it dead, and went on to another server", name, count(fresh, "call"))
	default:
		s.board.event("agiproxy sees that %s is %s", name, state)
	}
}

// A scene is all that is seen of a demo at one moment.
type scene struct {
	elapsed time.Duration
	listen  string // the listener's address
	target  string // where a real Asterisk finds it
	metrics string // address of the admin port
	callers int

	servers  []serverView
	sessions int // at the proxy, those of a real Asterisk too
	totals   totals
	events   []event // the last ones
	passed   int     // how many events there have been
}

// serverView is one server in a scene.
type serverView struct {
	name, address string
	alive         bool   // its process
	state         string // up, busy or down, as the proxy sees it
	sessions      int
	served        uint64
}

// clock is a time since the start.
func clock(d time.Duration) string {
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

// dialplan is what a real Asterisk needs.
func (sc *scene) dialplan() []string {
	return []string{
		"exten => 108,1,Answer()",
		" same => n,AGI(agi://" + sc.target + "/welcome)",
	}
}

// words says how a server is.
func (v *serverView) words() string {
	switch {
	case v.alive && v.state == "down":
		return "running, seen down"
	case v.alive:
		return v.state
	case v.state == "down":
		return "killed, seen down"
	}
	return "killed, seen " + v.state
}
