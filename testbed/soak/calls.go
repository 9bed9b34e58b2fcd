//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"agiproxy/testbed/bench/stats"
)

// A kind is what a caller, or his server, does.
type kind uint8

const (
	short   kind = iota // all is answered at once
	long                // commands take their time
	slow                // the header comes in pieces
	hangup              // the caller leaves during a command
	reset               // Asterisk's host goes
	die                 // the server leaves in its own turn
	cut                 // it leaves while Asterisk runs a command
	half                // it leaves within a line
	early               // it leaves before its first command
	endless             // it sends a line without an end
	flood               // it sends commands without waiting, to an Asterisk that stops to read
	noAGI               // what comes is no header
	cutHead             // the header has no end
	kinds
)

var kindNames = [kinds]string{
	"short", "long", "slow header", "hangup", "reset", "server leaves", "server leaves in a command", "server leaves in a line",
	"server leaves early", "line without an end", "flood", "no AGI", "cut header",
}

// weights is how often kinds come.
var weights = [kinds]int{short: 500, long: 100, slow: 50, hangup: 120, reset: 80, die: 20, cut: 30, half: 30, early: 20, endless: 5, flood: 3, noAGI: 20, cutHead: 22}

func someKind() kind {
	sum := 0
	for _, w := range weights {
		sum += w
	}
	n := rand.IntN(sum)
	for k, w := range weights {
		if n -= w; n < 0 {
			return kind(k)
		}
	}
	return short
}

// An ending is how a call ended, as its Asterisk saw it.
type ending uint8

const (
	served  ending = iota // the script ran to its end
	closed                // the server ended it before, in its own turn
	failed                // agiproxy said failure, and why
	left                  // Asterisk left
	refused               // there was no header
	wrong                 // something else, which is a fault
	endings
)

var endingNames = [endings]string{"served", "ended by the server", "told failure", "left", "refused", "wrong"}

// calls counts what became of calls. It is safe for concurrent use.
type calls struct {
	longest time.Duration // that a command of a long call takes
	made    atomic.Int64
	active  atomic.Int64
	ended   [kinds][endings]atomic.Int64
	resumed atomic.Int64

	mu         sync.Mutex
	waited     stats.Histogram // for the first command, since somebody last looked
	altogether stats.Histogram
	cut        int            // calls that clear has cleared
	cutOff     map[string]int // calls that ended as if the server had wanted it, with how many commands
	killed     map[string]int // calls whose server was killed when it had read so many replies
}

// suspect notes a call that ended as if its server had wanted it, after n commands.
func (c *calls) suspect(id string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cutOff[id] = n
}

// kill notes a call whose server was killed when it had read so many replies.
func (c *calls) kill(id string, replies int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.killed[id] = replies
}

// clear finds a killed server for each call that was cut off: one that had read all
// replies, so that its kernel closed the connection in order and nobody can tell it
// from one that had no more to say.
func (c *calls) clear(f *faults) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, n := range c.cutOff {
		if replies, ok := c.killed[id]; !ok || replies != n {
			f.add("call %s has ended without a word of failure after %d commands; the replies that a killed server had read of it are %d", id, n, replies)
		}
	}
	c.cut += len(c.cutOff)
	clear(c.cutOff)
	clear(c.killed)
}

// commandsOfALongCall is how many commands a long call has whose time goes by.
const commandsOfALongCall = 10

func newCalls(longest time.Duration) *calls {
	return &calls{longest: min(time.Minute, longest) / commandsOfALongCall, cutOff: make(map[string]int), killed: make(map[string]int)}
}

func (c *calls) first(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waited.Record(d)
	c.altogether.Record(d)
}

// look returns what the slowest hundredth of the calls has waited since it was last
// called.
func (c *calls) look() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.waited.Reset()
	return c.waited.Quantile(0.99)
}

func (c *calls) sum(e ending) (n int64) {
	for k := range c.ended {
		n += c.ended[k][e].Load()
	}
	return n
}

// come has new calls come until ctx ends, and waits for the last one.
func (c *calls) come(ctx context.Context, address string, rate int, f *faults) {
	var work sync.WaitGroup
	defer work.Wait()
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		x := &call{calls: c, kind: someKind(), id: fmt.Sprintf("c%d", c.made.Add(1))}
		work.Go(func() {
			c.active.Add(1)
			defer c.active.Add(-1)
			e, err := x.make(address)
			c.ended[x.kind][e].Add(1)
			if err != nil {
				f.add("call %s (%s): %v", x.id, kindNames[x.kind], err)
			}
		})
	}
}

// answer is Asterisk's reply to command n of a call's script.
func answer(id string, n int) string { return fmt.Sprintf("200 result=1 (%s-%d)", id, n) }

const (
	hangupReply = "200 result=-1" // to a command during which the caller leaves
	deadReply   = "511 Command Not Permitted on a dead channel or intercept routine"
)

// script returns agi_network_script, and the commands that it asks the server for.
func (x *call) script() (script string, commands []string) {
	n := 3
	if x.kind == long {
		n = commandsOfALongCall
	}
	var do []string
	for i := range n {
		commands = append(commands, fmt.Sprintf("GET VARIABLE %s-%d", x.id, i+1))
		do = append(do, "do="+strings.ReplaceAll(commands[i], " ", "+"))
	}
	script = [2]string{"ivr", "plain"}[rand.IntN(2)] + "/soak?" + strings.Join(do, "&")
	mode := map[kind]string{die: "die", cut: "mid-command", half: "half-line", early: "read-close", endless: "long-line", flood: "flood"}[x.kind]
	if mode != "" {
		script += fmt.Sprintf("&fault=%s&after=%d&reset=%t&delay=20ms", mode, 1+rand.IntN(3), rand.IntN(2) == 0)
	}
	return script, commands
}
