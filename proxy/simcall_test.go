package proxy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"agiproxy/agi"
	"agiproxy/internal/sim"
)

// A simCall is a caller with his Asterisk.
type simCall struct {
	sm      *simulation
	conn    *sim.Conn
	id      string
	header  []byte
	mood    string
	lines   agi.Lines
	rest    int // bytes of a line under way
	begun   int // scripts that have read the header
	tags    int
	refused int // lines of its scripts
	record  *Record

	busy      bool     // a command runs
	running   string   // which
	waiting   []string // lines that Asterisk has read and not come to
	unread    []string // those that its kernel has
	late      bool     // it has something else to do before it looks for more
	fellBack  int      // commands of the fallback so far
	music     bool     // on hold
	leftAt    time.Duration
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
	"slow header", "large header", "elsewhere", "silent", "vanishes", "killed", "killed twice",
}

// call has one caller call.
func (sm *simulation) call(i int) {
	rng := sm.net.Rand()
	id := fmt.Sprintf("1795373249.%d", i)
	env := agi.Environment{Script: "call.agi?x=1", UniqueID: id, CallerName: strings.Repeat("n", rng.IntN(200))}
	c := &simCall{sm: sm, id: id, mood: moods[rng.IntN(len(moods))]}
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
	case "killed":
		soon(c.kill)
	case "killed twice":
		soon(c.kill)
		soon(c.kill)
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
		c.left, c.leftAt = true, c.sm.net.Now()
		c.conn.Write([]byte("HANGUP\n"))
	}
}

// kill has an operator end the session, if it is still there.
func (c *simCall) kill() {
	for _, i := range c.sm.server.List(Filter{UniqueID: c.id}) {
		if err := c.sm.server.Kill(i.ID); err != nil {
			c.sm.failf("%s is listed as %+v, but can't be killed: %v", c.id, i, err)
		}
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
	c.checkLine(line)
	c.unread = append(c.unread, line)
	if c.busy {
		c.interrupt()
	}
	c.run()
}

// checkLine checks a command against those before it.
func (c *simCall) checkLine(line string) {
	switch {
	case slices.Contains(refusedLines, line):
		c.sm.failf("%q has reached Asterisk", line)
	case slices.Contains(simFallback, line):
		if c.fellBack >= len(simFallback) || simFallback[c.fellBack] != line || c.busy {
			c.sm.failf("%q as number %d of the fallback, while %q runs: %v", line, c.fellBack, c.running, c.busy)
		}
		c.fellBack++
	case strings.HasPrefix(line, "SET MUSIC"):
		c.music = strings.HasPrefix(line, "SET MUSIC ON")
	case strings.Contains(line, "-1795373249."): // a backend's
		if c.music {
			c.sm.failf("%q while music on hold plays", line)
		}
		for _, before := range slices.Concat(c.waiting, c.unread, []string{c.running}) {
			if strings.Contains(before, "-1795373249.") && scriptOf(before) != scriptOf(line) {
				c.sm.failf("%q while %q of another backend is not answered", line, before)
			}
		}
	}
}

// scriptOf returns which script of the call sent a line, counted from 1.
func scriptOf(line string) (n int) {
	fmt.Sscanf(line[strings.LastIndexByte(line, '/')+1:], "%d", &n)
	return n
}

// interrupt ends the command that runs, if it is one that another one ends.
func (c *simCall) interrupt() {
	switch {
	case strings.HasPrefix(c.running, "STREAM FILE"): // gets no reply
	case strings.HasPrefix(c.running, "WAIT FOR DIGIT"):
		c.answer(c.running)
	default:
		return
	}
	c.busy, c.running = false, ""
}

// run does the next command, one at a time, as run_agi does: it waits for something
// to read, and then takes a line that it has read already, if there is one. Those
// that it has read with another wait until something more arrives.
func (c *simCall) run() {
	if c.busy || c.late || len(c.unread) == 0 {
		return
	}
	if len(c.waiting) == 0 {
		c.waiting, c.unread = c.unread, nil
	}
	line := c.waiting[0]
	c.busy, c.running = true, line
	c.waiting = c.waiting[1:]
	took := time.Duration(c.sm.net.Rand().IntN(300)) * time.Millisecond
	if strings.HasPrefix(line, "EXEC Wait") || strings.HasPrefix(line, "STREAM FILE") || strings.HasPrefix(line, "WAIT FOR DIGIT") {
		took *= 10
	}
	c.sm.net.After(took, func() {
		if c.running != line {
			return // it was interrupted
		}
		c.busy, c.running = false, ""
		c.answer(line)
		if c.leaving && !c.left {
			c.leave()
		}
		c.lookLater()
	})
}

// lookLater has Asterisk go on, now or a little later.
func (c *simCall) lookLater() {
	var d time.Duration
	if rng := c.sm.net.Rand(); rng.IntN(3) == 0 {
		d = time.Duration(rng.IntN(250)) * time.Millisecond
	}
	c.late = true
	c.sm.net.After(d, func() {
		c.late = false
		c.run()
	})
}

func (c *simCall) answer(line string) {
	tag := line[strings.LastIndexByte(line, ' ')+1:]
	switch {
	case strings.HasPrefix(line, "agiproxy has refused"):
		c.conn.Write([]byte(refusedReply + "\n"))
	case strings.HasPrefix(line, "SET VARIABLE AGIPROXYSTATUS "):
		c.status = tag
		c.conn.Write([]byte("200 result=1\n"))
	case c.leaving && strings.HasPrefix(line, "STREAM FILE"):
		c.conn.Write([]byte("200 result=-1 (" + tag + ")\n"))
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
	if r.Denied > c.refused || c.begun == 1 && r.Outcome == Completed && r.Denied != c.refused {
		c.sm.failf("%s has %d refused lines; its scripts have sent %d", id, r.Denied, c.refused)
	}
	stayed := c.mood == "" || c.mood == "slow header"
	if stayed && c.music {
		c.sm.failf("%s ended as %v with the music on", id, r.Outcome)
	}
	switch r.Outcome {
	case Completed:
		if c.failure {
			c.sm.failf("%s completed, but Asterisk was told failure", id)
		}
		if c.begun != 1 && c.sm.replay != ReplayUnanswered && c.sm.opts.OnLoss != LossResume {
			c.sm.failf("%s completed with %d scripts begun", id, c.begun)
		}
	case NoBackend:
		told := c.status == "NOBACKEND" || c.sm.opts.QueueTimeout > 0 && (c.status == "QUEUETIMEOUT" || c.status == "QUEUEFULL")
		if stayed && (c.failure == c.sm.opts.FallbackCompletes || !told || c.fellBack != len(c.sm.opts.Fallback)) {
			c.sm.failf("%s had no backend; Asterisk was told failure=%v, status %q, %d commands of the fallback", id, c.failure, c.status, c.fellBack)
		}
	case Lost:
		if stayed && errors.Is(r.Err, errUnsettled) {
			c.sm.failf("%s was lost for want of an answer (%v); Asterisk answers what it finds", id, r.Err)
		}
		if closePolicy := c.sm.server.Table().Pools[0].opts.OnLoss == LossClose; stayed && !closePolicy && (!c.failure || c.status != "BACKENDLOST") {
			c.sm.failf("%s was lost (%v); Asterisk was told failure=%v, status %q", id, r.Err, c.failure, c.status)
		}
	case Killed:
		if c.mood != "killed" && c.mood != "killed twice" {
			c.sm.failf("%s ended as killed, and nobody has killed it", id)
		}
		if c.mood == "killed" && (!c.failure || c.status != "KILLED") {
			c.sm.failf("%s was killed; Asterisk was told failure=%v, status %q", id, c.failure, c.status)
		}
	case Hangup:
		if stayed {
			c.sm.failf("%s ended as hangup, but the caller stayed: %v", id, r.Err)
		}
	}
}
