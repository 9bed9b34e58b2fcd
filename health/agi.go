package health

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"agiproxy/agi"
)

// DefaultScript is the script that probes ask for unless they are told another.
const DefaultScript = "agiproxy-probe"

// AGIOptions is what an AGI probe needs to know.
type AGIOptions struct {
	Address string // host:port of the backend
	Script  string // agi_network_script; empty means DefaultScript

	// Expect is what a healthy backend does with the header: "command" sends a
	// command, "close" ends the session without one, "any" does either. Empty
	// means any.
	Expect string

	// Preamble is sent before the header, in the same write.
	Preamble []byte

	// Dial makes the connection; nil means that of a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

const (
	// sendTimeout bounds the writing of the header. The buffer of a new socket
	// takes it at once; only a connection that is no socket could make it wait.
	sendTimeout = time.Second

	// drainLimit is how much a backend may say after the hangup and be listened
	// to, in bytes.
	drainLimit = 64 << 10
)

// farewell is what Asterisk sends when the caller leaves during a command.
const farewell = "200 result=-1\nHANGUP\n"

// AGI returns a probe that is a whole FastAGI session: it sends the header of a
// call, waits for the first command, says that the caller has left, and stays
// until the backend closes. To the backend it looks like a caller who hangs up
// at once, on a channel "Probe/agiproxy".
//
// The header follows the connect at once, in one write, since an open and silent
// connection stalls some FastAGI servers. A close counts as an answer only if
// the backend has read the header. AGI panics if o.Expect is none of its values.
func AGI(o AGIOptions) Probe {
	switch o.Expect = cmp.Or(o.Expect, "any"); o.Expect {
	case "command", "close", "any":
	default:
		panic(fmt.Sprintf("health: AGI probe expects %q", o.Expect))
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	environment := agi.Environment{
		Host:    o.Address,
		Script:  cmp.Or(o.Script, DefaultScript),
		Channel: "Probe/agiproxy",
		Type:    "Probe",
	}
	header := environment.AppendTo(bytes.Clone(o.Preamble))
	return func(ctx context.Context, report func(Stage)) error {
		conn, err := o.Dial(ctx, "tcp", o.Address)
		if err != nil {
			return networkError(ctx, err, Timeout)
		}
		defer conn.Close()

		// Before anybody listens to ctx: a backend that was connected to gets its
		// header, even if the probe has to end now.
		conn.SetWriteDeadline(time.Now().Add(sendTimeout))
		if _, err := conn.Write(header); err != nil {
			return networkError(ctx, err, Timeout)
		}
		conn.SetWriteDeadline(time.Time{})
		defer interruptOn(ctx, conn)()
		report(Waiting)
		return (&session{conn, bufio.NewReaderSize(conn, agi.MaxLine), o.Expect}).play(ctx, report)
	}
}

// interruptOn ends reads and writes on conn when ctx ends. The function that it
// returns stops that, and awaits it if it is just happening.
func interruptOn(ctx context.Context, conn net.Conn) (stop func()) {
	done := make(chan struct{})
	forget := context.AfterFunc(ctx, func() {
		defer close(done)
		conn.SetDeadline(time.Unix(1, 0)) // long past
	})
	return func() {
		if !forget() {
			<-done
		}
	}
}

// A session is a probe whose header has been sent.
type session struct {
	conn   net.Conn
	r      *bufio.Reader
	expect string
}

// play awaits the first command and ends the session as a caller who hangs up.
func (s *session) play(ctx context.Context, report func(Stage)) error {
	line, err := s.r.ReadSlice('\n')
	switch {
	case err == nil:
		report(Answered)
		return s.answered(line)
	case errors.Is(err, bufio.ErrBufferFull):
		return &Error{Reason: Unexpected, Err: fmt.Errorf("a line of more than %d bytes", agi.MaxLine)}
	case errors.Is(err, io.EOF):
		report(Answered)
		return s.closed(ctx, line)
	}
	return networkError(ctx, err, Silent)
}

// answered is told the backend's first line, and returns when the backend has
// closed or the probe's time is over: a backend that is slow to close is well.
func (s *session) answered(line []byte) error {
	verdict := s.judge(line)
	// From here on a failing connection proves nothing: scripts that don't care
	// for the reply have gone already.
	io.WriteString(s.conn, farewell)
	if c, ok := s.conn.(interface{ CloseWrite() error }); ok {
		c.CloseWrite() // as Asterisk does with AGIEXITONHANGUP
	}
	for n := 0; n < drainLimit && verdict == nil; n += len(line) {
		var err error
		if line, err = s.r.ReadSlice('\n'); err != nil {
			return nil
		}
		if agi.IsFailure(line) {
			verdict = s.judge(line)
		}
	}
	return verdict
}

// judge returns what is wrong with line as an answer to the header.
func (s *session) judge(line []byte) error {
	if status, ok := proxyStatus(line); ok {
		return &Error{Reason: Unexpected, Err: fmt.Errorf("it says %.40q: it can't serve", status)}
	}
	switch {
	case agi.IsFailure(line):
		return &Error{Reason: Unexpected, Err: errors.New(`it says "failure": it can't serve`)}
	case !looksLikeCommand(line):
		return &Error{Reason: Unexpected, Err: fmt.Errorf("not a command: %.40q", bytes.TrimSpace(line))}
	case s.expect == "close":
		return &Error{Reason: Unexpected, Err: fmt.Errorf("the command %v; want a close", agi.ParseCommand(line))}
	}
	return nil
}

// proxyStatus returns why another agiproxy, with backends of its own, can't serve: that
// is what it begins with then.
func proxyStatus(line []byte) (status []byte, ok bool) {
	words := bytes.Fields(line)
	if agi.ParseCommand(line).String() != "SET VARIABLE" || len(words) < 4 || string(words[2]) != agi.ProxyStatus {
		return nil, false
	}
	return words[3], true
}

var errUnread = errors.New("closed without reading the header")

// closed is told that the backend has closed, with cut being the line that it
// had begun.
func (s *session) closed(ctx context.Context, cut []byte) error {
	if len(cut) > 0 {
		return &Error{Reason: Closed, Err: errors.New("closed in the middle of a line")}
	}
	if err := headerTaken(ctx, s.conn); err != nil {
		return &Error{Reason: Closed, Err: err}
	}
	if s.expect == "command" {
		return &Error{Reason: Unexpected, Err: errors.New("closed without a command")}
	}
	return nil
}

// looksLikeCommand reports whether line begins with a word of letters alone, as
// all commands do. It need not be one of Asterisk's own, since modules add to
// them; but no web, mail or SSH server, nor one that sends the header back,
// answers like that.
func looksLikeCommand(line []byte) bool {
	word := bytes.TrimRight(line, "\r\n")
	if i := bytes.IndexAny(word, " \t"); i >= 0 {
		word = word[:i]
	}
	for _, c := range word {
		if c|0x20 < 'a' || 'z' < c|0x20 {
			return false
		}
	}
	return len(word) > 0
}
