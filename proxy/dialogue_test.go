package proxy

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"agiproxy/agi"
	"agiproxy/balancer"
	"agiproxy/internal/sim"
)

// TestDialogues plays the calls in testdata/*.dialogue. A line names who does
// something, "asterisk" or a backend, and what:
//
//	connects             only (asterisk)
//	header [FIELD: V …]  connects and sends a header of script "ivr", or of the one named (asterisk)
//	expects LINE         waits for exactly that line; agiproxy-* is the word of agiproxy's question
//	has LINE             has got that line by now; "has nothing" likewise
//	expects nothing      and no end, for half a second
//	expects no connection  nor has been connected to (backend)
//	expects header       waits for the whole header; "expects FIELD: VALUE" looks into it (backend)
//	expects close|reset  waits for the other side's end
//	closes, resets, half-closes, refuses, is silent (doesn't answer connects)
//	half TEXT            sends TEXT without a line end
//	bytes N              sends a line of N bytes; half-bytes N, so many without a line end
//	anything else        is sent as a line
//
// "pool KEY VALUE …" sets options first, "wait D" lets time pass, "down NAME"
// declares a backend lost, "kill" has an operator end the session, "stop" and
// "abort" end agiproxy, and "outcome O [attempts N] [commands N] [backend B]"
// checks the record.
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.dialogue")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".dialogue"), func(t *testing.T) {
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			play(t, f)
		})
	}
}

func play(t *testing.T, f *os.File) {
	p := newPlayer(t)
	lines := bufio.NewScanner(f)
	for p.line = 1; lines.Scan(); p.line++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		who, what, _ := strings.Cut(text, " ")
		p.step(who, strings.TrimSpace(what))
	}
	p.finish()
}

// A player has the simulated network of one dialogue.
type player struct {
	t      *testing.T
	line   int
	net    *sim.Net
	opts   PoolOptions
	worker *Worker
	server *Server
	parts  map[string]*part
	order  []string
	record *Record
	marker string // the word that agiproxy last asked for
}

// anyMarker stands for the word of agiproxy's question, and for the same word
// in the answer.
const anyMarker = "agiproxy-*"

func newPlayer(t *testing.T) *player {
	return &player{
		t: t, net: sim.New(1, sim.Options{Delay: time.Millisecond}), parts: map[string]*part{},
		opts: PoolOptions{ConnectTimeout: time.Second, DispatchTimeout: 20 * time.Second, Attempts: 3, HangupTimeout: time.Minute},
	}
}

func (p *player) fatalf(format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("line %d: %s", p.line, fmt.Sprintf(format, args...))
}

func (p *player) step(who, what string) {
	switch who {
	case "pool":
		p.configure(strings.Fields(what))
	case "backends":
		p.start(strings.Fields(what))
	case "wait":
		d, err := time.ParseDuration(what)
		if err != nil {
			p.fatalf("%v", err)
		}
		p.pass(d)
	case "down":
		p.worker.Lose(p.server.Table().Pools[0].Backends().Backends()[slices.Index(p.order, what)])
	case "kill":
		if err := p.server.Kill(1); err != nil {
			p.fatalf("Kill() = %v", err)
		}
	case "stop":
		p.worker.Stop()
	case "abort":
		p.worker.Abort()
	case "outcome":
		p.check(what)
	default:
		part := p.parts[who]
		if part == nil {
			p.fatalf("nobody is called %q", who)
		}
		part.do(what)
	}
}

func (p *player) configure(words []string) {
	duration := func(s string) time.Duration {
		d, err := time.ParseDuration(s)
		if err != nil {
			p.fatalf("%v", err)
		}
		return d
	}
	for i := 0; i+1 < len(words); i += 2 {
		switch v := words[i+1]; words[i] {
		case "replay":
			p.opts.Replay = map[string]Replay{"unread": ReplayUnread, "unanswered": ReplayUnanswered, "never": ReplayNever}[v]
		case "on_backend_loss":
			p.opts.OnLoss = map[string]LossPolicy{"failure": LossFailure, "close": LossClose}[v]
		case "first_command_timeout":
			p.opts.FirstCommandTimeout = duration(v)
		case "dispatch_timeout":
			p.opts.DispatchTimeout = duration(v)
		case "think_timeout":
			p.opts.ThinkTimeout = duration(v)
		case "hangup_timeout":
			p.opts.HangupTimeout = duration(v)
		case "attempts":
			p.opts.Attempts, _ = strconv.Atoi(v)
		default:
			p.fatalf("no option %q", words[i])
		}
	}
}

// start builds agiproxy over backends of these names, tried in that order.
func (p *player) start(names []string) {
	p.order = names
	var backends []*balancer.Backend
	for i, name := range names {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 4573)
		part := &part{p: p, name: name, addr: addr, header: agi.NewHeader(1 << 16)}
		part.listen()
		p.parts[name] = part
		b := balancer.NewBackend(name, addr.String())
		b.SetAddr(addr)
		backends = append(backends, b)
	}
	p.server = NewServer(Options{Ended: func(r Record) {
		if p.record != nil {
			p.fatalf("a second record: %+v", r)
		}
		p.record = &r
	}})
	route, err := NewRoute("ivr", Match{"script", "ivr*"})
	if err != nil {
		p.fatalf("%v", err)
	}
	pool := NewPool("ivr", p.opts, balancer.NewPool(inOrder{}, balancer.Options{}, backends))
	p.server.Swap(&Table{Pools: []*Pool{pool}, Routes: []Route{route}})
	p.worker = p.server.NewWorker(simHost{p.net})
	l := NewListener(":4577", ListenerOptions{
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, MaxSessions: 1, HeaderTimeout: 5 * time.Second, MaxHeaderBytes: 4096,
	})
	p.net.Listen(front, func(c *sim.Conn) sim.Handler { return p.worker.Accept(l, c) })
	p.parts["asterisk"] = &part{p: p, name: "asterisk"}
}

// inOrder is the policy of the dialogues: the first that wasn't tried.
type inOrder struct{}

func (inOrder) Choose(candidates []*balancer.Backend, _ uint64) *balancer.Backend {
	return candidates[0]
}

func (p *player) check(what string) {
	words := strings.Fields("outcome " + what)
	p.until("the record", func() bool { return p.record != nil })
	r := p.record
	for i := 0; i+1 < len(words); i += 2 {
		got := map[string]string{
			"outcome": r.Outcome.String(), "attempts": strconv.Itoa(r.Attempts), "commands": strconv.Itoa(r.Commands), "backend": r.Backend,
		}[words[i]]
		if got != words[i+1] {
			p.fatalf("%s is %s; want %s (error: %v)", words[i], got, words[i+1], r.Err)
		}
	}
}

// finish checks that nothing is left.
func (p *player) finish() {
	for _, part := range p.parts {
		if part.conn != nil {
			part.conn.Close()
		}
	}
	p.net.Run(time.Hour)
	if p.net.Open() != 0 || p.server.Sessions() != 0 {
		p.fatalf("%d ends and %d sessions are left", p.net.Open(), p.server.Sessions())
	}
	for _, b := range p.server.Table().Pools[0].Backends().Backends() {
		if b.Sessions() != 0 {
			p.fatalf("%s counts %d sessions at the end", b.Name(), b.Sessions())
		}
	}
}

// until lets time pass until ok, for at most a minute.
func (p *player) until(what string, ok func() bool) {
	for end := p.net.Now() + time.Minute; !ok(); {
		if p.net.Now() >= end {
			p.fatalf("%s has not come", what)
		}
		p.pass(time.Millisecond)
	}
}

// pass lets time pass, even where nothing happens.
func (p *player) pass(d time.Duration) {
	p.net.After(d, func() {})
	p.net.Run(d)
}

// A part is Asterisk or a backend.
type part struct {
	p         *player
	name      string
	addr      netip.AddrPort
	listener  *sim.Listener
	conn      *sim.Conn
	connected bool
	header    *agi.Header
	lines     agi.Lines
	got       []string
	ended     bool
	reset     error
}

func (x *part) Connected() { x.connected = true }
func (x *part) Drained()   {}
func (x *part) TimedOut()  {}
func (x *part) Closed(err error) {
	x.ended = true
	x.reset = err
}
func (x *part) Received(b []byte) {
	if x.header != nil && !x.header.Done() {
		n, err := x.header.Feed(b)
		if err != nil {
			x.p.fatalf("%s: %v", x.name, err)
		}
		b = b[n:]
	}
	x.lines.Feed(b, func(line []byte) bool {
		x.got = append(x.got, string(line))
		return true
	})
}

func (x *part) listen() {
	x.listener = x.p.net.Listen(x.addr, func(c *sim.Conn) sim.Handler {
		if x.conn != nil {
			x.p.fatalf("%s is connected to twice", x.name)
		}
		x.conn = c
		return x
	})
}

func (x *part) do(what string) {
	verb, rest, _ := strings.Cut(what, " ")
	switch {
	case what == "refuses":
		x.listener.Close()
	case what == "is silent":
		x.p.net.Blackhole(x.addr)
	case what == "connects", verb == "header":
		x.connect(what, rest)
	case verb == "expects":
		x.expect(rest)
	case what == "has nothing":
		if len(x.got) > 0 {
			x.p.fatalf("%s has got %q; want nothing", x.name, x.got)
		}
	case verb == "has":
		if len(x.got) == 0 || x.got[0] != rest {
			x.p.fatalf("%s has got %q; want %q", x.name, x.got, rest)
		}
		x.got = x.got[1:]
	default:
		x.p.until("the connection to "+x.name, func() bool { return x.conn != nil })
		x.send(verb, rest, what)
	}
}

func (x *part) connect(what, fields string) {
	x.conn = x.p.net.Connect(front, x)
	if what == "connects" {
		x.p.until("the connection", func() bool { return x.connected || x.ended })
		return
	}
	env := agi.Environment{Script: "ivr", UniqueID: "1.1"}
	if script, ok := strings.CutPrefix(fields, "script: "); ok {
		env.Script = script
	}
	x.conn.Write(env.AppendTo(nil))
}

func (x *part) send(verb, rest, what string) {
	switch {
	case what == "closes":
		x.conn.Close()
	case what == "resets":
		x.conn.Reset()
	case what == "half-closes":
		x.conn.CloseWrite()
	case what == "reads nothing":
		x.conn.Pause()
	case what == "vanishes":
		x.conn.Cut()
	case verb == "half":
		x.conn.Write([]byte(rest))
	case verb == "bytes":
		n, _ := strconv.Atoi(rest)
		x.conn.Write([]byte("NOOP " + strings.Repeat("x", n-6) + "\n"))
	case verb == "half-bytes":
		n, _ := strconv.Atoi(rest)
		x.conn.Write([]byte(strings.Repeat("x", n)))
	default:
		x.conn.Write([]byte(strings.ReplaceAll(what, anyMarker, x.p.marker) + "\n"))
	}
}

func (x *part) expect(what string) {
	switch what {
	case "header":
		x.p.until("the header for "+x.name, func() bool { return x.header.Done() })
	case "nothing":
		x.p.pass(500 * time.Millisecond)
		if len(x.got) > 0 || x.ended {
			x.p.fatalf("%s got %q, ended %v; want nothing", x.name, x.got, x.ended)
		}
	case "no connection":
		x.p.pass(500 * time.Millisecond)
		if x.conn != nil {
			x.p.fatalf("%s is connected to", x.name)
		}
	case "close", "reset":
		x.p.until("the end for "+x.name, func() bool { return x.ended })
		if len(x.got) > 0 {
			x.p.fatalf("%s got %q before the end", x.name, x.got)
		}
		if (x.reset != nil) != (what == "reset") {
			x.p.fatalf("%s saw the end %v; want %s", x.name, x.reset, what)
		}
	default:
		if field, value, ok := strings.Cut(what, ": "); ok && strings.HasPrefix(field, "agi_") {
			if got := string(x.header.Field(field)); got != value {
				x.p.fatalf("%s has %s %q; want %q", x.name, field, got, value)
			}
			return
		}
		x.p.until(fmt.Sprintf("%q for %s", what, x.name), func() bool { return len(x.got) > 0 || x.ended })
		if len(x.got) == 0 {
			x.p.fatalf("%s saw the end (%v); want %q", x.name, x.reset, what)
		}
		got := x.got[0]
		x.got = x.got[1:]
		if before, _, ok := strings.Cut(what, anyMarker); ok && strings.HasPrefix(got, before+"agiproxy-") {
			x.p.marker = strings.TrimPrefix(got, before)
			return
		}
		if got != what {
			x.p.fatalf("%s got %q; want %q", x.name, got, what)
		}
	}
}
