package proxy

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"agiproxy/agi"
	"agiproxy/balancer"
	"agiproxy/internal/sim"
)

// A simServer is a FastAGI server that is sometimes there.
type simServer struct {
	sm       *simulation
	name     string
	addr     netip.AddrPort
	listener *sim.Listener
	backend  *balancer.Backend // of the process that serves

	weight, max int
	backup      bool
}

func newSimServer(sm *simulation, i int) *simServer {
	s := &simServer{sm: sm, name: fmt.Sprintf("ivr%d", i), addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 4573)}
	s.listen()
	return s
}

func (s *simServer) listen() {
	s.listener = s.sm.net.Listen(s.addr, func(c *sim.Conn) sim.Handler {
		rng := s.sm.net.Rand()
		x := &simScript{server: s, conn: c, fault: faults[rng.IntN(len(faults))], left: rng.IntN(6), header: agi.NewHeader(1 << 16)}
		if rng.IntN(50) == 0 {
			s.outage()
		}
		switch x.fault {
		case "close at once":
			c.Close()
		case "reset at once":
			c.Reset()
		case "cut":
			s.sm.net.After(time.Duration(rng.IntN(200))*time.Millisecond, c.Cut)
		case "close late":
			c.Pause()
			s.sm.net.After(time.Duration(rng.IntN(300))*time.Millisecond, c.Close)
		}
		return x
	})
}

// outage takes the server away for a while, refusing or silent.
func (s *simServer) outage() {
	if s.sm.net.Rand().IntN(2) == 0 {
		s.sm.net.Blackhole(s.addr)
	} else {
		s.listener.Close()
	}
	back := time.Duration(s.sm.net.Rand().IntN(2000)) * time.Millisecond
	if s.sm.net.Rand().IntN(2) == 0 { // the health check sees it
		s.sm.net.After(back/2, func() { s.backend.SetUp(false) })
		s.sm.net.After(back+100*time.Millisecond, func() { s.backend.SetUp(true) })
	}
	s.sm.net.After(back, s.listen)
}

// faults are what a script may do wrong; most do nothing wrong.
var faults = []string{
	"", "", "", "", "", "", "close at once", "reset at once", "close late", "read then close", "mute",
	"half then close", "half then reset", "reset in dialogue", "close in Asterisk's turn", "long line", "pipelined", "refused", "refused pipelined", "mute in dialogue", "cut", "half close",
}

// A simScript is one session as a server has it.
type simScript struct {
	server *simServer
	conn   *sim.Conn
	fault  string
	left   int // commands to send
	header *agi.Header
	call   *simCall
	lines  agi.Lines
	sent   int
	owed   []string // tags of the replies that have to come, in order
	number int      // of the call's scripts, counted from 1
	done   bool
}

func (x *simScript) Connected() {}
func (x *simScript) Drained()   {}
func (x *simScript) TimedOut()  {}

func (x *simScript) Closed(err error) {
	x.done = true
	x.conn.Close()
}

func (x *simScript) Received(p []byte) {
	if !x.header.Done() {
		n, err := x.header.Feed(p)
		if err != nil {
			x.server.sm.failf("backend got a bad header: %v", err)
		}
		p = p[n:]
		if !x.header.Done() {
			return
		}
		x.begin()
	}
	x.lines.Feed(p, func(line []byte) bool {
		x.reply(string(line))
		return !x.done
	})
}

// begin checks the header against the caller's and starts the script.
func (x *simScript) begin() {
	sm := x.server.sm
	id := string(x.header.Field("agi_uniqueid"))
	if x.call = sm.calls[id]; x.call == nil {
		sm.failf("backend got the header of nobody: %q", id)
	}
	got := x.header.Bytes()
	resumed := string(x.header.Field("agi_resumed")) == "yes"
	if resumed {
		got = bytes.Replace(got, []byte("agi_resumed: yes\n"), nil, 1)
		sm.resumed++
		if sm.opts.OnLoss != LossResume {
			sm.failf("%s is resumed against the policy", id)
		}
		if x.call.left && sm.net.Now()-x.call.leftAt > 2*time.Second {
			sm.failf("%s is resumed after a hangup", id)
		}
	}
	if attempt := x.header.Field("agi_attempt"); attempt != nil {
		got = bytes.Replace(got, fmt.Appendf(nil, "agi_attempt: %s\n", attempt), nil, 1)
	}
	if !bytes.Equal(got, x.call.header) {
		sm.failf("header has changed on its way:\n%q\n%q", got, x.call.header)
	}
	x.call.begun++
	x.number = x.call.begun
	if x.call.begun > 1 && sm.replay != ReplayUnanswered && !resumed {
		sm.failf("the script of %s has run twice", id)
	}
	switch x.fault {
	case "read then close":
		x.finish()
	case "mute":
	case "half then close":
		x.conn.Write([]byte("EXEC Ha"))
		x.finish()
	case "half then reset":
		x.conn.Write([]byte("EXEC Ha"))
		sm.net.After(time.Duration(sm.net.Rand().IntN(30))*time.Millisecond, x.conn.Reset)
	default:
		sm.net.After(time.Duration(sm.net.Rand().IntN(100))*time.Millisecond, x.next)
	}
}

func (x *simScript) finish() {
	x.done = true
	x.conn.Close()
}

// next sends the next command, or ends the script.
func (x *simScript) next() {
	if x.done {
		return
	}
	if x.sent >= x.left {
		if x.fault == "half close" {
			x.conn.CloseWrite()
			return
		}
		x.finish()
		return
	}
	last := x.sent == x.left-1
	switch {
	case last && x.fault == "long line":
		x.conn.Write([]byte("NOOP " + strings.Repeat("x", agi.MaxLine) + "\n"))
		return
	case last && x.fault == "mute in dialogue":
		return
	case x.fault == "refused":
		x.sendRefused()
		return
	case x.fault == "refused pipelined":
		for range 1 + x.server.sm.net.Rand().IntN(3) {
			x.send("NOOP")
			x.sendRefused()
		}
		x.awaitSome()
		return
	case x.fault == "pipelined":
		x.send("NOOP")
		x.send("VERBOSE")
		x.awaitSome()
		return
	}
	commands := []string{"NOOP", "EXEC Wait", "GET VARIABLE", "BOGUS", "STREAM FILE", "WAIT FOR DIGIT"}
	x.send(commands[x.server.sm.net.Rand().IntN(len(commands))])
	switch {
	case last && x.fault == "reset in dialogue":
		x.server.sm.net.After(time.Duration(x.server.sm.net.Rand().IntN(100))*time.Millisecond, x.conn.Reset)
	case last && x.fault == "close in Asterisk's turn":
		x.finish()
	}
}

// awaitSome gives up when no replies come: Asterisk may have read several commands
// at once, and keeps all but the first.
func (x *simScript) awaitSome() {
	sent := x.sent
	x.server.sm.net.After(2*time.Second, func() {
		if x.sent == sent && len(x.owed) > 0 && !x.done {
			x.finish()
		}
	})
}

// refusedLines don't reach Asterisk. Each is answered by its 510.
var refusedLines = []string{
	"EXEC System x", `"exec"	S"yst"em x`, `DATABASE D\ELTREE x`, "NOOP\x00", "NOOP" + strings.Repeat(` ""`, 127), "SPEECH CREATE x",
}

const refusedReply = "510 Invalid or unknown command"

func (x *simScript) sendRefused() {
	x.sent++
	x.call.refused++
	x.owed = append(x.owed, refusedReply)
	x.conn.Write([]byte(refusedLines[x.server.sm.net.Rand().IntN(len(refusedLines))] + "\n"))
}

func (x *simScript) send(command string) {
	x.sent++
	tag := fmt.Sprintf("%s-%s-%d/%d", x.server.name, x.header.Field("agi_uniqueid"), x.call.tags, x.number)
	x.call.tags++
	x.owed = append(x.owed, tag)
	x.conn.Write([]byte(command + " " + tag + "\n"))
}

// reply checks that a reply is the one to this script's own command.
func (x *simScript) reply(line string) {
	if !strings.Contains(line, "-1795373249.") && line != refusedReply {
		return // HANGUP, or a line of a reply that has its tag in another
	}
	if len(x.owed) == 0 || !strings.Contains(line, x.owed[0]) {
		x.server.sm.failf("%s got %q, but waits for %q", x.server.name, line, x.owed)
	}
	if x.owed = x.owed[1:]; len(x.owed) == 0 {
		x.server.sm.net.After(time.Duration(x.server.sm.net.Rand().IntN(100))*time.Millisecond, x.next)
	}
}
