package proxy

import (
	"fmt"
	"strings"
	"time"

	"agiproxy/agi"
	"agiproxy/internal/sim"
)

// A simCall is a caller with his Asterisk.
type simCall struct {
	sm     *simulation
	conn   *sim.Conn
	header []byte
	mood   string
	lines  agi.Lines
	rest   int // bytes of a line under way
	begun  int // scripts that have read the header
	tags   int
	record *Record

	busy      bool // a command runs
	waiting   []string
	leaving   bool
	failure   bool
	status    string // AGIPROXYSTATUS
	left      bool   // HANGUP was sent
	sawEnd    bool
	connected bool
}

// moods are what callers do; most stay to the end.
var moods = []string{
	"", "", "", "", "", "", "", "leaves", "leaves", "closes", "hangs up and closes", "bad header", "cut header",
	"slow header", "large header", "elsewhere", "silent", "vanishes",
}

// call has one caller call.
func (sm *simulation) call(i int) {
	rng := sm.net.Rand()
	id := fmt.Sprintf("1795373249.%d", i)
	env := agi.Environment{Script: "call.agi?x=1", UniqueID: id, CallerName: strings.Repeat("n", rng.IntN(200))}
	c := &simCall{sm: sm, mood: moods[rng.IntN(len(moods))]}
	if c.mood == "elsewhere" {
		env.Script = "other"
	}
	c.header = env.AppendTo(nil)
	sm.calls[id] = c
	c.conn = sm.net.Connect(front, c)
}

func (c *simCall) Connected() {
	c.connected = true
	rng := c.sm.net.Rand()
	soon := func(f func()) { c.sm.net.After(time.Duration(rng.IntN(1500))*time.Millisecond, f) }
	switch c.mood {
	case "silent":
		return
	case "bad header":
		c.conn.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		return
	case "cut header":
		c.conn.Write(c.header[:1+rng.IntN(len(c.header)-1)])
		soon(c.conn.Close)
		return
	case "slow header":
		half := 1 + rng.IntN(len(c.header)-1)
		c.conn.Write(c.header[:half])
		soon(func() { c.conn.Write(c.header[half:]) })
		return
	case "large header":
		c.conn.Write([]byte("agi_network: yes\n" + strings.Repeat("agi_arg_1: x\n", 1000)))
		return
	case "leaves":
		soon(c.leave)
	case "closes":
		soon(c.conn.Close)
	case "vanishes":
		soon(c.conn.Cut)
	case "hangs up and closes":
		soon(func() {
			c.leave()
			c.leave()
			c.conn.Close()
		})
	}
	c.conn.Write(c.header)
}

// leave says HANGUP; a command that runs is answered first.
func (c *simCall) leave() {
	c.leaving = true
	if !c.busy {
		c.left = true
		c.conn.Write([]byte("HANGUP\n"))
	}
}

func (c *simCall) Drained()  {}
func (c *simCall) TimedOut() {}

func (c *simCall) Received(p []byte) {
	c.lines.Feed(p, func(line []byte) bool {
		c.take(string(line))
		return true
	})
	if p[len(p)-1] == '\n' {
		c.rest = 0
	} else {
		c.rest = 1
	}
}

func (c *simCall) take(line string) {
	if c.failure {
		c.sm.failf("a line after failure: %q", line)
	}
	if strings.HasPrefix(strings.ToLower(line), "failure") {
		c.failure = true
		return
	}
	c.waiting = append(c.waiting, line)
	c.run()
}

// run does the next command, one at a time.
func (c *simCall) run() {
	if c.busy || len(c.waiting) == 0 {
		return
	}
	c.busy = true
	line := c.waiting[0]
	c.waiting = c.waiting[1:]
	took := time.Duration(c.sm.net.Rand().IntN(300)) * time.Millisecond
	if strings.HasPrefix(line, "EXEC Wait") {
		took *= 10
	}
	c.sm.net.After(took, func() {
		c.busy = false
		c.answer(line)
		if c.leaving && !c.left {
			c.leave()
		}
		c.run()
	})
}

func (c *simCall) answer(line string) {
	tag := line[strings.LastIndexByte(line, ' ')+1:]
	switch {
	case strings.HasPrefix(line, "SET VARIABLE AGIPROXYSTATUS "):
		c.status = tag
		c.conn.Write([]byte("200 result=1\n"))
	case strings.HasPrefix(line, "GET VARIABLE"):
		c.conn.Write([]byte("200 result=1 (200 result=1\nHANGUP\n" + tag + ")\n"))
	case strings.HasPrefix(line, "BOGUS"):
		c.conn.Write([]byte("520-Invalid command syntax.  Proper usage follows:\nusage 200 result=0\n520 End " + tag + "\n"))
	default:
		c.conn.Write([]byte("200 result=1 (" + tag + ")\n"))
	}
}

// Closed is the end of the session for Asterisk, which says HANGUP and closes.
func (c *simCall) Closed(err error) {
	c.sawEnd = err == nil
	if c.rest != 0 && err == nil {
		c.sm.failf("half a line before the end of %s", c.mood)
	}
	if err == nil {
		c.conn.Write([]byte("HANGUP\n"))
	}
	c.conn.Close()
}

// check compares what the caller saw with what agiproxy says of it.
func (c *simCall) check(id string) {
	r := c.record
	if r == nil {
		return // no whole header came through
	}
	stayed := c.mood == "" || c.mood == "slow header"
	switch r.Outcome {
	case Completed:
		if c.failure {
			c.sm.failf("%s completed, but Asterisk was told failure", id)
		}
		if c.begun != 1 && c.sm.replay != ReplayUnanswered {
			c.sm.failf("%s completed with %d scripts begun", id, c.begun)
		}
	case NoBackend:
		if stayed && (!c.failure || c.status != "NOBACKEND") {
			c.sm.failf("%s had no backend; Asterisk was told failure=%v, status %q", id, c.failure, c.status)
		}
	case Lost:
		if closePolicy := c.sm.server.Table().Pools[0].opts.OnLoss == LossClose; stayed && !closePolicy && (!c.failure || c.status != "BACKENDLOST") {
			c.sm.failf("%s was lost (%v); Asterisk was told failure=%v, status %q", id, r.Err, c.failure, c.status)
		}
	case Hangup:
		if stayed {
			c.sm.failf("%s ended as hangup, but the caller stayed: %v", id, r.Err)
		}
	}
}
