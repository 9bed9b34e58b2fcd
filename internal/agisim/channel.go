package agisim

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"agiproxy/agi"
)

// A channel is Asterisk's side of one call: what run_agi in res_agi.c keeps.
type channel struct {
	call   Call
	conn   net.Conn
	start  time.Time
	prompt time.Duration
	ctx    context.Context // ends: Asterisk is killed

	lines   chan string // from the server; closed behind the last
	readErr error       // why they ended, nil for a clean close; valid when ended
	ended   bool        // lines is closed
	next    []string    // taken from lines and not run yet: at most one

	writeErr error // the first

	commands map[string]command
	vars     map[string]string
	database map[string]string
	digits   string // that the caller hasn't typed yet
	left     bool   // the caller has hung up
	dead     bool   // and the server has been told
	result   Result
}

// run is the session from the header to the close.
//
// Source: run_agi in res_agi.c.
func (ch *channel) run(ctx context.Context) {
	var reader sync.WaitGroup
	defer reader.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { ch.conn.Close() })()
	defer ch.conn.Close()

	ch.ctx = ctx
	ch.lines = make(chan string)
	ch.trace(Connected, ch.call.Address)
	reader.Go(ch.read)
	ch.sendHeader()
	ch.converse()
	if ctx.Err() == nil {
		ch.send("HANGUP") // the normal goodbye
	} else {
		ch.result.Err = context.Cause(ctx)
	}
	why := ""
	if ch.result.Err != nil {
		why = ch.result.Err.Error()
	}
	ch.trace(Closed, why)
}

// read hands on what the server sends. fgets into Asterisk's buffer makes one
// command of each line, of each piece of a line that is too long, and of what
// stands before the close.
func (ch *channel) read() {
	defer close(ch.lines)
	r := bufio.NewReaderSize(ch.conn, agi.MaxLine)
	silent := true
	for {
		line, err := r.ReadSlice('\n')
		if len(line) > 0 {
			silent = false
			select {
			case ch.lines <- strings.TrimSuffix(string(line), "\n"):
			case <-ch.ctx.Done():
				return
			}
		}
		switch {
		case err == nil, errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			if silent {
				ch.readErr = ch.reset()
			}
			return
		default:
			ch.readErr = err
			return
		}
	}
}

// reset looks whether a reset follows a close that came before any command. The
// server had not read the header then: it answers each further piece by a
// reset, one round trip later at most.
func (ch *channel) reset() error {
	select {
	case <-time.After(20 * time.Millisecond):
	case <-ch.ctx.Done():
	}
	if _, err := ch.conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// sendHeader writes each line by itself, as setup_env does.
func (ch *channel) sendHeader() {
	env := ch.call.Environment
	env.Host = cmp.Or(env.Host, ch.call.Address)
	for line := range strings.Lines(string(env.AppendTo(nil))) {
		ch.write(Header, strings.TrimSuffix(line, "\n"))
	}
}

func (ch *channel) send(line string) { ch.write(Sent, line) }

// write writes one line. The first error is kept for the end: what the server
// had sent before is read and run all the same.
func (ch *channel) write(kind Kind, line string) {
	ch.trace(kind, line)
	if _, err := io.WriteString(ch.conn, line+"\n"); err != nil && ch.writeErr == nil {
		ch.writeErr = err
	}
}

// converse obeys commands until the server closes, or says that it failed.
func (ch *channel) converse() {
	for {
		line, ok := ch.await()
		if !ok {
			ch.brokeOff()
			return
		}
		ch.trace(Received, line)
		if len(line) >= 7 && strings.EqualFold(line[:7], "failure") {
			ch.result.Status = Failure // before it is taken for a command
			return
		}
		if ch.result.Commands++; ch.result.Commands == 1 {
			ch.result.FirstCommand = time.Since(ch.start)
		}
		ch.obey(line)
	}
}

// brokeOff makes it an error if the server has reset the connection, or closed
// it before the header was sent. (A server may well close before it gets the
// last reply.)
func (ch *channel) brokeOff() {
	if !ch.ended || ch.result.Err != nil {
		return
	}
	err := ch.readErr
	if err == nil && ch.result.Commands == 0 {
		err = ch.writeErr
	}
	if err != nil {
		ch.result.Err = fmt.Errorf("the server broke off: %w", err)
	}
}

// await returns the next command; meanwhile the caller may leave, which the
// server is told before anything else.
func (ch *channel) await() (line string, ok bool) {
	for {
		if ch.left && !ch.dead {
			ch.dead = true
			ch.result.Status = HungUp // whatever it was; a later failure counts again
			ch.send("HANGUP")
		}
		if len(ch.next) > 0 {
			line, ch.next = ch.next[0], nil
			return line, true
		}
		if ch.ended {
			return "", false
		}
		select {
		case <-ch.whenLeft():
			ch.leave()
		case line, ok := <-ch.lines:
			ch.ended = !ok
			return line, ok
		case <-ch.ctx.Done():
			return "", false
		}
	}
}

// whenLeft is closed when the caller leaves, and nil when that has been seen.
func (ch *channel) whenLeft() <-chan struct{} {
	if ch.left {
		return nil
	}
	return ch.call.Hangup
}

func (ch *channel) leave() {
	ch.left = true
	ch.trace(Left, "")
}

// obey runs one command and answers it.
func (ch *channel) obey(line string) {
	command, args := parse(line)
	a := ch.execute(command, args)
	if a.failed && (ch.dead || !ch.left) {
		ch.result.Status = Failure // and not because of a hangup
	}
	ch.peek()
	if ch.ended && ch.result.Err == nil {
		ch.result.Err = fmt.Errorf("%w: %s", ErrMidCommand, command)
	}
	for _, reply := range a.lines {
		ch.send(reply)
	}
}

// peek looks for a command that has come early, or for the end, without waiting.
func (ch *channel) peek() {
	if ch.ended || len(ch.next) > 0 {
		return
	}
	select {
	case line, ok := <-ch.lines:
		ch.early(line, ok)
	default:
	}
}

func (ch *channel) early(line string, ok bool) {
	if !ok {
		ch.ended = true
		return
	}
	ch.next = append(ch.next, line)
}

// cause is why a wait ended.
type cause uint8

const (
	elapsed     cause = iota
	interrupted       // the server sent something, or closed
	gone              // the caller left
)

// wait lets d pass while a command runs. Anything from the server ends a wait
// that is interruptible.
func (ch *channel) wait(d time.Duration, interruptible bool) cause {
	if ch.left {
		return gone
	}
	if d <= 0 {
		return elapsed
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	lines := ch.lines
	if !interruptible {
		lines = nil
	} else if ch.peek(); ch.ended || len(ch.next) > 0 {
		return interrupted
	}
	select {
	case <-timer.C:
		return elapsed
	case line, ok := <-lines:
		ch.early(line, ok)
		return interrupted
	case <-ch.whenLeft():
		ch.leave()
		return gone
	case <-ch.ctx.Done():
		return gone
	}
}
