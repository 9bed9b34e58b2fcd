//go:build linux

package load

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"
)

// An ending is who ends a session, and how.
type ending uint8

const (
	serverCloses ending = iota // after its last reply
	callerHangs                // answers its last command with HANGUP; the server closes then
	callerCloses               // doesn't answer its last command
)

// A session is one call: a caller's connection and a server's.
type session struct {
	number         uint32
	slot           uint32
	caller, server int32 // descriptors; noFD before and after
	live           bool
	served         bool // some server has its environment
	done           bool // the server has closed in order, or knows that the caller is gone
	held           bool // does nothing but be there
	ending         ending

	commands  uint32 // until it ends; 0: until it is told to
	asked     uint32 // commands that the server has sent
	answered  uint32 // of these the caller has
	confirmed uint32 // of whose the server has the reply

	began   int64 // when the caller began to connect
	due     int64 // when the command under way was to be sent
	backlog uint32
}

// open begins a session. It ends by itself after that many commands, 0: when it
// is told to.
func (g *Generator) open(commands uint32, how ending) *session {
	slot := g.free[len(g.free)-1]
	g.free = g.free[:len(g.free)-1]
	s := &g.sessions[slot]
	*s = session{
		number: (s.number>>slotBits+1)<<slotBits | slot, slot: slot, caller: noFD, server: noFD,
		live: true, commands: commands, ending: how, began: g.clock(),
	}
	g.live++
	fd, established, errno := connect(&g.run.target)
	if errno != 0 {
		g.fail(s, "connect", errno.Error())
		return s
	}
	s.caller = fd
	g.conns[fd] = conn{role: caller, slot: int32(slot), connecting: !established}
	events := uint32(unix.EPOLLIN | unix.EPOLLRDHUP | edge)
	if established {
		g.introduce(s)
	} else {
		events |= unix.EPOLLOUT
	}
	if s.caller != noFD {
		if errno := watch(g.epoll, fd, events); errno != 0 {
			panic(fmt.Sprintf("epoll_ctl: %v", errno))
		}
	}
	return s
}

// connected is told that a caller's connection was made, or was not; it reports
// whether it was.
func (g *Generator) connected(fd int32, c *conn) bool {
	s := &g.sessions[c.slot]
	if errno := socketError(fd); errno != 0 {
		g.fail(s, "connect", errno.Error())
		return false
	}
	c.connecting = false
	g.introduce(s)
	return s.live
}

// introduce sends the caller's environment.
func (g *Generator) introduce(s *session) {
	env := g.environment.fill(s.number)
	if g.run.plan.Split {
		if !g.send(s, s.caller, env[:firstCut]) {
			return
		}
		env = env[firstCut:]
	}
	g.send(s, s.caller, env)
}

// send writes p, which is small enough for any socket's buffer.
func (g *Generator) send(s *session, fd int32, p []byte) bool {
	n, errno := write(fd, p)
	if errno != 0 {
		g.fail(s, "write", errno.Error())
		return false
	}
	if n < len(p) {
		g.fail(s, "write", "short write")
		return false
	}
	return true
}

// ask sends the server's next command, which was to be sent at that time.
func (g *Generator) ask(s *session, due int64) {
	s.asked++
	s.due = due
	g.send(s, s.server, g.command.fill(s.number, s.asked))
}

// fromProxy is told what has come to a caller.
func (g *Generator) fromProxy(fd int32, p []byte, errno unix.Errno) {
	c := &g.conns[fd]
	s := &g.sessions[c.slot]
	switch {
	case errno != 0:
		g.fail(s, "caller read", errno.Error())
	case len(p) == 0 && (!s.done || len(c.partial) > 0):
		g.fail(s, "closed early", fmt.Sprintf("%d of %d commands asked, %d answered", s.asked, s.commands, s.answered))
	case len(p) == 0:
		if g.run.plan.Goodbye {
			// As Asterisk does at every end. Nobody may be there to read it.
			write(fd, g.goodbye[len(leftReply):])
		}
		g.drop(fd)
		s.caller = noFD
		g.finish(s)
	case s.answered == s.asked:
		g.fail(s, "unasked", fmt.Sprintf("caller got %q", clip(p)))
	default:
		complete, wrong := c.expect(p, g.command.fill(s.number, s.asked))
		switch {
		case wrong:
			g.fail(s, "wrong command", fmt.Sprintf("caller of %08x, command %d, got %q", s.number, s.asked, clip(p)))
		case complete:
			g.answer(s)
		}
	}
}

// answer answers the command that the caller has, or leaves.
func (g *Generator) answer(s *session) {
	s.answered++
	if s.answered == 1 {
		g.run.established(g.now - s.began)
	}
	last := s.answered == s.commands
	switch {
	case last && s.ending == callerCloses:
		g.drop(s.caller)
		s.caller = noFD
	case last && s.ending == callerHangs:
		g.send(s, s.caller, g.goodbye)
	default:
		g.send(s, s.caller, g.reply.fill(s.number, s.asked))
	}
}

// atServer is told what has come to a server.
func (g *Generator) atServer(fd int32, p []byte, errno unix.Errno) {
	c := &g.conns[fd]
	if c.slot < 0 {
		g.environmentCame(fd, c, p, errno)
		return
	}
	s := &g.sessions[c.slot]
	last := s.asked == s.commands
	switch {
	case errno != 0 && s.ending == callerCloses && s.caller == noFD:
		g.serverEnds(s) // a caller that is gone may be told by a reset
	case errno != 0:
		g.fail(s, "server read", errno.Error())
	case len(p) == 0 && s.ending == callerCloses && s.caller == noFD:
		g.serverEnds(s)
	case len(p) == 0:
		g.fail(s, "server closed early", fmt.Sprintf("%d of %d commands asked, %d confirmed", s.asked, s.commands, s.confirmed))
	case s.confirmed == s.asked || last && s.ending == callerCloses:
		g.fail(s, "unasked", fmt.Sprintf("server got %q", clip(p)))
	default:
		want := g.goodbye
		if !last || s.ending == serverCloses {
			want = g.reply.fill(s.number, s.asked)
		}
		complete, wrong := c.expect(p, want)
		switch {
		case wrong:
			g.fail(s, "wrong reply", fmt.Sprintf("server of %08x, command %d, got %q", s.number, s.asked, clip(p)))
		case complete:
			s.confirmed++
			g.run.answered(g.now - s.due)
			if last {
				g.serverEnds(s)
			} else {
				g.run.mode.confirmed(s)
			}
		}
	}
}

// environmentCame reads an environment, which tells the server whose session it
// has. Probes come here too: they ask for another script, or only connect.
func (g *Generator) environmentCame(fd int32, c *conn, p []byte, errno unix.Errno) {
	all := p
	if len(c.partial) > 0 {
		c.partial = append(c.partial, p...)
		all = c.partial
	}
	probe := len(all) == 0 || bytes.Contains(all, []byte("agiproxy-probe"))
	ended := errno != 0 || len(p) == 0
	switch {
	case ended && !probe && g.run != nil:
		g.run.fault("environment", fmt.Sprintf("cut after %d bytes", len(all)))
		fallthrough
	case ended, probe && bytes.HasSuffix(all, []byte("\n\n")):
		g.drop(fd)
		return
	case probe || len(all) < len(g.environment.text):
		if len(c.partial) == 0 {
			c.partial = append(c.partial, p...)
		}
		return
	}
	number, _ := g.environment.number(all)
	s := &g.sessions[number%maxSlots]
	if g.run == nil || !s.live || s.served || s.number != number || !g.environment.is(all, number) {
		if g.run != nil {
			g.run.fault("environment", fmt.Sprintf("no such session: %q", clip(all)))
		}
		g.drop(fd)
		return
	}
	c.partial = nil
	c.slot = int32(s.slot)
	s.server, s.served = fd, true
	g.ask(s, g.now)
}

// serverEnds closes a session's server in order.
func (g *Generator) serverEnds(s *session) {
	s.done = true
	g.drop(s.server)
	s.server = noFD
	g.finish(s)
}

// finish ends a session whose both sides are closed.
func (g *Generator) finish(s *session) {
	if s.live && s.caller == noFD && s.server == noFD && s.done {
		g.run.completed()
		g.release(s)
	}
}

func (g *Generator) release(s *session) {
	s.live = false
	g.live--
	g.free = append(g.free, s.slot)
	g.run.mode.ended(s)
}

// fail counts an error and ends the session.
func (g *Generator) fail(s *session, kind, detail string) {
	if !s.live {
		return
	}
	g.run.fault(kind, detail)
	for _, fd := range []int32{s.caller, s.server} {
		if fd != noFD {
			g.drop(fd)
		}
	}
	s.caller, s.server = noFD, noFD
	g.release(s)
}

// clip returns what of p is worth to be shown.
func clip(p []byte) []byte { return p[:min(len(p), 120)] }
