package agisim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"time"

	"agiproxy/agi"
)

// maxConnect is how long Asterisk tries one address (MAX_AGI_CONNECT in
// res_agi.c).
const maxConnect = 2 * time.Second

// An Asterisk makes FastAGI calls as Asterisk does. The zero value is ready,
// plays no prompt for longer than an instant, and may make any number of calls
// at the same time.
type Asterisk struct {
	// Dial opens the connection; nil means TCP without TCP_NODELAY, as Asterisk
	// leaves it.
	Dial        func(ctx context.Context, network, address string) (net.Conn, error)
	DialTimeout time.Duration // 0 means 2s, as Asterisk has it
	Prompt      time.Duration // that every sound plays, whatever its name
}

// A Call is one AGI() of a dialplan, and the caller who is in it.
type Call struct {
	Address     string            // HOST:PORT that is called
	Environment agi.Environment   // of the header; Host is Address if empty
	Variables   map[string]string // that the channel has before; nothing changes them
	Digits      string            // that the caller types, one by one, when asked
	Hangup      <-chan struct{}   // the caller leaves when it is closed; nil: never
	Trace       func(Event)       // told of every line, in order, from one goroutine at a time; nil: nobody
}

// A Status is what the dialplan finds in the variable AGISTATUS.
type Status string

// What res_agi.c makes of a FastAGI session. Success says little: a server that
// closes at once has succeeded, too.
const (
	Success Status = "SUCCESS"
	Failure Status = "FAILURE" // not connected, a command failed, or the server said so
	HungUp  Status = "HANGUP"  // the caller left
)

// A Result is how a call ended.
type Result struct {
	Status       Status
	Variables    map[string]string // the channel's, at the end
	Commands     int               // that the server sent
	FirstCommand time.Duration     // from the start to it; 0 if none came
	Duration     time.Duration

	// Err is what Asterisk doesn't tell its dialplan: why there was no
	// connection, that the server reset it, or that it closed while a command
	// was running ([ErrMidCommand]). nil: the server closed in its own turn, or
	// sent the line failure.
	Err error
}

// ErrMidCommand says that a server closed before it was given a reply.
var ErrMidCommand = errors.New("the server closed while a command was running")

// ProxyStatus returns the variable AGIPROXYSTATUS at the end, where agiproxy
// says why it failed: NOBACKEND, BACKENDLOST, NOROUTE and so on; or "".
func (r Result) ProxyStatus() string { return r.Variables[agi.ProxyStatus] }

// Served reports whether the script ran to its end, for all that can be seen
// from here: AGISTATUS is SUCCESS, the server closed in its own turn, and
// AGIPROXYSTATUS is not set or OK.
func (r Result) Served() bool {
	s := r.ProxyStatus()
	return r.Status == Success && r.Err == nil && (s == "" || s == "OK")
}

// Run makes the call and returns when the server has closed, which no time
// limit hastens: Asterisk has none either. When ctx ends, the connection is
// closed without a word, as when Asterisk is killed.
func (a *Asterisk) Run(ctx context.Context, call Call) Result {
	start := time.Now()
	ch := &channel{
		call:     call,
		start:    start,
		prompt:   a.Prompt,
		commands: commandTable(),
		vars:     maps.Clone(call.Variables),
		digits:   call.Digits,
		result:   Result{Status: Success},
	}
	if ch.vars == nil {
		ch.vars = map[string]string{}
	}
	conn, err := a.dial(ctx, call.Address)
	if err != nil {
		ch.result.Status, ch.result.Err = Failure, err
		ch.trace(Closed, err.Error())
	} else {
		ch.conn = conn
		ch.run(ctx)
	}
	ch.result.Variables = ch.vars
	ch.result.Duration = time.Since(start)
	return ch.result
}

func (a *Asterisk) dial(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, cmp.Or(a.DialTimeout, maxConnect),
		fmt.Errorf("dial tcp %s: no answer within %v", address, cmp.Or(a.DialTimeout, maxConnect)))
	defer cancel()
	dial := a.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetNoDelay(false) // Asterisk sets no socket option: what it writes meets Nagle
	}
	return conn, nil
}
