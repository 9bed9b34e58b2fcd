//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"agiproxy/agi"
)

// A call is one session, as its Asterisk sees it.
type call struct {
	calls *calls
	kind  kind
	id    string
	began time.Time // when the header was sent

	conn     *net.TCPConn
	in       *bufio.Reader
	commands []string // that the server was asked to send between BEGUN and SERVED
	at       int      // how many commands of the script have come, of the server that runs it now
	server   string   // that runs it
	leaving  int      // the command during which Asterisk, or the caller, leaves
}

// callPatience is how long nothing may happen to a call: more than any time that the
// configuration has.
const callPatience = 2 * time.Minute

// make makes the call. Its error says what Asterisk should not have been told.
func (x *call) make(address string) (ending, error) {
	conn, err := net.DialTimeout("tcp", address, 20*time.Second)
	if err != nil {
		return wrong, err
	}
	defer conn.Close()
	x.conn, x.in = conn.(*net.TCPConn), bufio.NewReader(conn)
	conn.SetDeadline(time.Now().Add(callPatience))
	x.leaving = rand.IntN(4)
	e := agi.Environment{UniqueID: x.id}
	e.Script, x.commands = x.script()
	head := e.AppendTo(nil)
	switch x.kind {
	case noAGI:
		return x.refused("GET / HTTP/1.1\r\nHost: agi\r\n\r\n")
	case cutHead:
		_, err := conn.Write(head[:len(head)/2])
		return refused, err
	case slow:
		for len(head) > 100 {
			if _, err := conn.Write(head[:100]); err != nil {
				return wrong, err
			}
			head = head[100:]
			time.Sleep(100 * time.Millisecond)
		}
	}
	x.began = time.Now()
	if _, err := conn.Write(head); err != nil {
		return wrong, err
	}
	if x.kind == flood {
		return x.flood()
	}
	return x.dialogue()
}

// refused sends what is no header, and wants to be told so.
func (x *call) refused(text string) (ending, error) {
	if _, err := io.WriteString(x.conn, text); err != nil {
		return wrong, err
	}
	if said, err := io.ReadAll(x.in); err != nil || string(said) != "failure\n" {
		return wrong, fmt.Errorf("no header is answered by %q, %v; want failure", said, err)
	}
	return refused, nil
}

// dialogue plays Asterisk to the session's end.
func (x *call) dialogue() (ending, error) {
	for {
		x.conn.SetDeadline(time.Now().Add(callPatience))
		line, err := x.in.ReadString('\n')
		if err == io.EOF && line == "" {
			return x.ended()
		}
		if err != nil {
			return wrong, fmt.Errorf("after %d commands: %q, %w", x.at, line, err)
		}
		line = strings.TrimSuffix(line, "\n")
		if status, ok := strings.CutPrefix(line, "SET VARIABLE AGIPROXYSTATUS "); ok {
			return x.failed(status)
		}
		if word, ok := strings.CutPrefix(line, "GET FULL VARIABLE agiproxy-"); ok { // what came of the command before?
			err = x.reply("200 result=1 (agiproxy-" + word + ")")
		} else if line == "SET MUSIC ON" || line == "SET MUSIC OFF" || strings.HasPrefix(line, "SET MUSIC ON ") { // it waits in the queue
			err = x.reply("200 result=0")
		} else if err = x.expect(line); err == nil {
			n := x.at
			x.at++
			if n == x.leaving && (x.kind == hangup || x.kind == reset) {
				return x.leave()
			}
			if x.kind == long {
				time.Sleep(x.calls.longest/2 + rand.N(x.calls.longest/2))
			}
			err = x.reply(answer(x.id, n))
		}
		if err != nil {
			return wrong, err
		}
	}
}

// expect compares a command with the one that is due.
func (x *call) expect(line string) error {
	if server, ok := strings.CutPrefix(line, "SET VARIABLE BEGUN "); ok {
		switch {
		case x.server == "":
			x.calls.first(time.Since(x.began))
		case x.at == 0:
			return fmt.Errorf("is begun by %s and %s", x.server, server)
		default:
			x.calls.resumed.Add(1)
		}
		x.server, x.at = server, 0
		return nil
	}
	want := "nothing more"
	switch n := x.at - 1; {
	case n < 0:
		want = "SET VARIABLE BEGUN"
	case n < len(x.commands):
		want = x.commands[n]
	case n == len(x.commands):
		want = "SET VARIABLE SERVED " + x.server
	}
	if line != want {
		return fmt.Errorf("is told %q by %q after %d commands; want %q", line, x.server, x.at, want)
	}
	return nil
}

func (x *call) reply(line string) error {
	_, err := io.WriteString(x.conn, line+"\n")
	return err
}

// ended is told that agiproxy has closed. Without a word of failure Asterisk takes
// that as a script that has run to its end.
func (x *call) ended() (ending, error) {
	switch {
	case x.at == len(x.commands)+2:
		_ = x.reply("HANGUP") // Asterisk's goodbye
		return served, nil
	case x.kind == die && x.at > 0:
		return closed, nil
	case x.at > 0: // the server was killed in its own turn, which looks like that
		x.calls.suspect(x.id, x.at)
		return closed, nil
	}
	return wrong, errors.New("has ended without a command")
}

// failed has agiproxy say that it couldn't be helped.
func (x *call) failed(status string) (ending, error) {
	switch status {
	case "BACKENDLOST", "NOBACKEND", "QUEUETIMEOUT", "QUEUEFULL":
	default:
		return wrong, fmt.Errorf("fails by %s", status)
	}
	if err := x.reply("200 result=1"); err != nil {
		return wrong, err
	}
	if said, err := io.ReadAll(x.in); err != nil || string(said) != "failure\n" {
		return wrong, fmt.Errorf("is told %q, %v after %s; want failure", said, err, status)
	}
	return failed, nil
}

// leave ends a call before its script has ended.
func (x *call) leave() (ending, error) {
	if x.kind == reset {
		return left, x.conn.SetLinger(0) // what makes the close a reset
	}
	time.Sleep(rand.N(50 * time.Millisecond))
	if err := x.reply(hangupReply + "\nHANGUP"); err != nil {
		return wrong, err
	}
	_, err := io.Copy(io.Discard, x.in) // Asterisk obeys some commands even now
	return left, err
}

// floodLines is how much of a flood Asterisk takes before it stops to read.
const floodLines = 2000

// flood takes a part of a server's commands without end, falls asleep and goes.
func (x *call) flood() (ending, error) {
	for n := range floodLines {
		line, err := x.in.ReadString('\n')
		if status, ok := strings.CutPrefix(strings.TrimSpace(line), "SET VARIABLE AGIPROXYSTATUS "); ok {
			return x.failed(status)
		}
		if word, ok := strings.CutPrefix(strings.TrimSpace(line), "GET FULL VARIABLE agiproxy-"); ok {
			if err := x.reply("200 result=1 (agiproxy-" + word + ")"); err != nil {
				return wrong, err
			}
			continue
		}
		if err != nil || line != "NOOP flood\n" {
			return wrong, fmt.Errorf("is told %q, %w; want a flood", line, errors.Join(err))
		}
		if n%100 == 0 {
			if err := x.reply("200 result=0"); err != nil {
				return wrong, err
			}
		}
	}
	time.Sleep(time.Second)
	return left, x.conn.SetLinger(0)
}
