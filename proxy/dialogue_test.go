package proxy

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"agiproxy/agi"
	"agiproxy/balancer"
	"agiproxy/internal/sim"
)

// TestDialogues plays the calls in testdata/*.dialogue. A line names who does
// something, "asterisk" (for further callers "asterisk2" and so on) or a backend,
// and what:
//
//	connects             only (asterisk)
//	header [FIELD: V …]  connects and sends a header of script "ivr", or of the one named (asterisk)
//	outcome O [attempts N] [commands N] [denied N] [backend B]  checks the record (asterisk)
//	expects LINE         waits for exactly that line; agiproxy-* is the word of agiproxy's question
//	has LINE             has got that line by now; "has nothing" likewise
//	expects nothing      and no end, for half a second
//	expects|has no connection  nor has been connected to (backend)
//	expects header       waits for the whole header; "has header" has it by now (backend). After
//	                     "listens" and its own end it is the next one's. "expects FIELD: VALUE" looks into it
//	expects close|reset  waits for the other side's end
//	closes, resets, half-closes, refuses, is silent (doesn't answer connects)
//	is slow              answers connects when it "answers" or "fails ERROR"
//	listens              takes one connection after the other
//	is up|down|ejected   has that state (backend)
//	comes up, goes down  to the health checks
//	half TEXT            sends TEXT without a line end
//	reply and half a HANGUP  sends these together
//	bytes N              sends a line of N bytes; half-bytes N, so many without a line end
//	words N              sends a line of N words
//	at once LINE | …     sends these lines together; \0 is a NUL
//	anything else        is sent as a line
//
// "pool KEY VALUE …", "fallback COMMAND", "allow RULE" and "deny RULE" set options first, "wait D" lets time
// pass, "down NAME" declares a backend lost, "kill" has an operator end the first
// session, "waiting N" checks how many wait, "stop" and "abort" end agiproxy, and
// "outcome …" is the first asterisk's. What others give back to a session reaches
// it at once and, in a second run, later.
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.dialogue")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".dialogue"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, late := range []bool{false, true} {
				p := newPlayer(t)
				p.late = late
				p.run(string(text))
				p.finish()
			}
		})
	}
}

// run plays the lines of a dialogue.
func (p *player) run(dialogue string) {
	lines := bufio.NewScanner(strings.NewReader(dialogue))
	for p.line = 1; lines.Scan(); p.line++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		who, what, _ := strings.Cut(text, " ")
		p.step(who, strings.TrimSpace(what))
		if p.moves && p.worker != nil && p.worker.Passing() == 0 {
			p.handOver()
		}
	}
}

// stageHost is a player's network as sessions see it.
type stageHost struct {
	simHost
	p *player
}

func (h stageHost) Do(f func()) error {
	if h.p.late {
		h.After(0, f)
		return nil
	}
	return h.simHost.Do(f)
}

func (h stageHost) Connect(addr netip.AddrPort, hd Handler) Conn {
	for _, x := range h.p.parts {
		if x.addr == addr && x.slow {
			c := &slowConn{net: h.Net, addr: addr, handler: hd}
			x.slowConns = append(x.slowConns, c)
			return c
		}
	}
	return h.simHost.Connect(addr, hd)
}

// A slowConn is a connection that waits for its peer's answer.
type slowConn struct {
	Conn    // nil before that
	net     *sim.Net
	addr    netip.AddrPort
	handler Handler
	closed  bool
}

func (c *slowConn) Close() {
	c.closed = true
	if c.Conn != nil {
		c.Conn.Close()
	}
}

// answer has the connect go on if err is nil, and fail with it otherwise.
func (c *slowConn) answer(err error) {
	switch {
	case c.closed || c.Conn != nil:
	case err == nil:
		c.Conn = c.net.Connect(c.addr, c.handler)
	default:
		c.handler.Closed(err)
	}
}

// A player has the simulated network of one dialogue.
type player struct {
	t       *testing.T
	line    int
	late    bool // what is given to the loop runs later
	moves   bool // another process takes over after each line at which no session is passing
	net     *sim.Net
	opts    PoolOptions
	lends   balancer.Options
	max     int // sessions of each backend; 0 means no limit
	worker  *Worker
	server  *Server
	front   *Listener
	before  []*Worker // which have handed over
	parts   map[string]*part
	order   []string
	records map[string]*Record // by unique id
	record  *Record            // of the first asterisk
	marker  string             // the word that agiproxy last asked for
}

// anyMarker stands for the word of agiproxy's question, and for the same word
// in the answer.
const anyMarker = "agiproxy-*"

func newPlayer(t *testing.T) *player {
	return &player{
		t: t, net: sim.New(1, sim.Options{Delay: time.Millisecond}), parts: map[string]*part{}, records: map[string]*Record{},
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
	case "fallback":
		p.opts.Fallback = append(p.opts.Fallback, what)
	case "allow":
		p.opts.Commands.Allow = append(p.opts.Commands.Allow, what)
	case "deny":
		p.opts.Commands.Deny = append(p.opts.Commands.Deny, what)
	case "backends":
		p.start(strings.Fields(what))
	case "wait":
		d, err := time.ParseDuration(what)
		if err != nil {
			p.fatalf("%v", err)
		}
		p.pass(d)
	case "down":
		for _, w := range p.workers() {
			w.Lose(w.server.Table().Pools[0].Backends().Backends()[slices.Index(p.order, what)], ErrDown)
		}
	case "kill":
		for _, w := range p.workers() {
			if s := w.sessions.first; s != nil {
				s.kill() // as Server.Kill has it done
			}
		}
	case "stop":
		for _, w := range p.workers() {
			w.Stop()
		}
	case "abort":
		for _, w := range p.workers() {
			w.Abort()
		}
	case "waiting":
		if n := p.pool().Waiting(); strconv.Itoa(n) != what {
			p.fatalf("%d sessions wait; want %s", n, what)
		}
	case "outcome":
		p.parts["asterisk"].check(who + " " + what)
	default:
		part := p.parts[who]
		if part == nil {
			p.fatalf("nobody is called %q", who)
		}
		part.do(what)
	}
}

func (p *player) pool() *balancer.Pool { return p.server.Table().Pools[0].Backends() }

func (p *player) backend(name string) *balancer.Backend {
	return p.pool().Backends()[slices.Index(p.order, name)]
}

func (p *player) configure(words []string) {
	duration := func(s string) time.Duration {
		d, err := time.ParseDuration(s)
		if err != nil {
			p.fatalf("%v", err)
		}
		return d
	}
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			p.fatalf("%v", err)
		}
		return n
	}
	for i := 0; i+1 < len(words); i += 2 {
		switch v := words[i+1]; words[i] {
		case "replay":
			p.opts.Replay = map[string]Replay{"unread": ReplayUnread, "unanswered": ReplayUnanswered, "never": ReplayNever}[v]
		case "on_backend_loss":
			p.opts.OnLoss = map[string]LossPolicy{"failure": LossFailure, "close": LossClose, "resume": LossResume}[v]
		case "strict":
			p.opts.Commands.Strict = v == "true"
		case "max_line":
			p.opts.MaxLine = number(v)
		case "then":
			p.opts.FallbackCompletes = v == "completed"
		case "connect_timeout":
			p.opts.ConnectTimeout = duration(v)
		case "hedge_delay":
			p.opts.HedgeDelay = duration(v)
		case "queue_timeout":
			p.opts.QueueTimeout = duration(v)
		case "queue_limit":
			p.lends.Queue = number(v)
		case "music":
			p.opts.Music = v
		case "pool_sessions":
			p.lends.Sessions = number(v)
		case "max_sessions":
			p.max = number(v)
		case "ejection": // after so many failures, for good
			p.lends.Ejection = balancer.Ejection{Failures: number(v), Time: 100 * time.Hour, MaxPercent: 100}
		case "first_command_timeout":
			p.opts.FirstCommandTimeout = duration(v)
		case "dispatch_timeout":
			p.opts.DispatchTimeout = duration(v)
		case "think_timeout":
			p.opts.ThinkTimeout = duration(v)
		case "hangup_timeout":
			p.opts.HangupTimeout = duration(v)
		case "attempts":
			p.opts.Attempts = number(v)
		default:
			p.fatalf("no option %q", words[i])
		}
	}
}

// start builds agiproxy over backends of these names, tried in that order.
func (p *player) start(names []string) {
	p.order = names
	for i, name := range names {
		part := &part{p: p, name: name, addr: backendAddr(i), header: agi.NewHeader(1 << 16)}
		part.listen()
		p.parts[name] = part
	}
	p.serve()
	for _, name := range callers {
		p.parts[name] = &part{p: p, name: name}
	}
}

// backendAddr is where the backend with that number listens.
func backendAddr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 4573)
}

// serve makes an agiproxy, as a process that has just been started.
func (p *player) serve() {
	var backends []*balancer.Backend
	for i, name := range p.order {
		b := balancer.NewBackend(name, backendAddr(i).String())
		b.SetAddr(backendAddr(i))
		b.Configure(1, p.max, false)
		backends = append(backends, b)
	}
	p.server = NewServer(Options{Ended: p.ended})
	route, err := NewRoute("ivr", Match{"script", "ivr*"})
	if err != nil {
		p.fatalf("%v", err)
	}
	p.lends.Clock = simClock{p.net}
	pool := NewPool("ivr", p.opts, balancer.NewPool(inOrder{}, p.lends, backends))
	p.server.Swap(&Table{Pools: []*Pool{pool}, Routes: []Route{route}})
	p.listen(4096)
}

// workers are those of all processes that there have been.
func (p *player) workers() []*Worker { return append(slices.Clone(p.before), p.worker) }

// atOnce has what is given to the loop run at once until the function that it
// returns is called: for what waits for that.
func (p *player) atOnce() (end func()) {
	late := p.late
	p.late = false
	return func() { p.late = late }
}

// handOver has another process go on with what can move.
func (p *player) handOver() {
	defer p.atOnce()()
	before, known := p.worker, p.pool().Backends()
	p.before = append(p.before, before)
	counted := before.server.TakeCounts()
	p.serve()
	for i, b := range p.pool().Backends() {
		b.Stand(known[i].Standing())
	}
	p.server.GiveCounts(counted)
	handOver(p.t, before, p.worker, p.front)
}

// callers are who may call, with the unique ids 1.1, 1.2 …
var callers = []string{"asterisk", "asterisk2", "asterisk3", "asterisk4"}

// listen has a new worker take the calls.
func (p *player) listen(maxHeader int) {
	p.worker = p.server.NewWorker(stageHost{simHost{p.net}, p})
	p.front = NewListener(":4577", ListenerOptions{
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, MaxSessions: len(callers), HeaderTimeout: 5 * time.Second, MaxHeaderBytes: maxHeader,
	})
	p.net.Listen(front, func(c *sim.Conn) sim.Handler { return p.worker.Accept(p.front, c) })
}

func (p *player) ended(r Record) {
	if p.records[r.UniqueID] != nil {
		p.fatalf("a second record: %+v", r)
	}
	p.records[r.UniqueID] = &r
	if r.UniqueID == "" || r.UniqueID == "1.1" {
		p.record = &r
	}
}

// inOrder is the policy of the dialogues: the first that wasn't tried.
type inOrder struct{}

func (inOrder) Choose(candidates []*balancer.Backend, _ uint64) *balancer.Backend {
	return candidates[0]
}

// check compares the record of the call with what is expected.
func (x *part) check(what string) {
	record := func() *Record {
		if x.name == "asterisk" {
			return x.p.record
		}
		return x.p.records[x.uniqueID()]
	}
	x.p.until("the record", func() bool { return record() != nil })
	r := record()
	words := strings.Fields(what)
	for i := 0; i+1 < len(words); i += 2 {
		got := map[string]string{
			"outcome": r.Outcome.String(), "attempts": strconv.Itoa(r.Attempts), "commands": strconv.Itoa(r.Commands), "denied": strconv.Itoa(r.Denied), "backend": r.Backend,
		}[words[i]]
		if got != words[i+1] {
			x.p.fatalf("%s: %s is %s; want %s (error: %v)", x.name, words[i], got, words[i+1], r.Err)
		}
	}
}

func (x *part) uniqueID() string { return fmt.Sprintf("1.%d", 1+slices.Index(callers, x.name)) }

// finish checks that nothing is left.
func (p *player) finish() {
	for _, part := range p.parts {
		if part.conn != nil {
			part.conn.Close()
		}
	}
	p.net.Run(time.Hour)
	for _, w := range p.workers() {
		if p.net.Open() != 0 || w.server.Sessions() != 0 {
			p.fatalf("%d ends and %d sessions are left", p.net.Open(), w.server.Sessions())
		}
		if n := len(w.denied); n != 0 {
			p.fatalf("the refused lines of %d sessions are kept at the end", n)
		}
		pool := w.server.Table().Pools[0].Backends()
		for _, b := range pool.Backends() {
			if b.Sessions() != 0 {
				p.fatalf("%s counts %d sessions at the end", b.Name(), b.Sessions())
			}
		}
		if n := pool.Waiting(); n != 0 {
			p.fatalf("%d sessions wait at the end", n)
		}
	}
	p.checkAttempts()
	if !p.moves { // what has moved leaves nothing behind to be used again
		p.checkDispatches()
	}
}

// checkAttempts checks that each attempt was counted by one result.
func (p *player) checkAttempts() {
	attempts, results := 0, uint64(0)
	for _, r := range p.records {
		attempts += r.Attempts
	}
	for _, w := range p.workers() {
		for _, b := range w.counts.pool("ivr").backends {
			for _, n := range b.attempts {
				results += n
			}
		}
	}
	if uint64(attempts) != results {
		p.fatalf("%d attempts have %d results", attempts, results)
	}
}

// checkDispatches checks that what the sessions have used for their dispatches is
// back, empty.
func (p *player) checkDispatches() {
	if n := len(p.worker.spare); n == 0 || n > len(p.records) {
		p.fatalf("%d dispatches of %d sessions were given back", n, len(p.records))
	}
	for _, d := range p.worker.spare {
		if d.header.Reset(0); !reflect.DeepEqual(*d, dispatching{header: d.header}) {
			p.fatalf("a dispatch was given back with more than its header: %+v", d)
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
	again     bool // it takes another connection when one has ended
	slow      bool // it answers connects late
	slowConns []*slowConn
	conn      *sim.Conn
	connected bool
	header    *agi.Header
	lines     agi.Lines
	got       []string
	ended     bool
	left      bool // it has closed
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
		switch {
		case x.conn == nil:
		case x.again && (x.ended || x.left):
			x.conn.Close()
			*x = part{p: x.p, name: x.name, addr: x.addr, listener: x.listener, again: true, header: agi.NewHeader(1 << 16)}
		default:
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
	case what == "listens":
		x.again = true
		x.listen()
	case what == "is slow":
		x.slow = true
	case what == "answers", verb == "fails":
		x.slow = verb == "fails"
		for _, c := range x.slowConns {
			c.answer(map[string]error{
				"refused": syscall.ECONNREFUSED, "local": syscall.EMFILE, "unreachable": syscall.EHOSTUNREACH, "oddly": syscall.EPROTO,
			}[rest])
		}
	case what == "comes up", what == "goes down":
		x.p.backend(x.name).SetUp(what == "comes up")
	case verb == "is":
		if got := x.p.backend(x.name).State().String(); got != rest {
			x.p.fatalf("%s is %s; want %s", x.name, got, rest)
		}
	case verb == "outcome":
		x.check(what)
	case what == "connects", verb == "header":
		x.connect(what, rest)
	case verb == "expects":
		x.expect(rest)
	case what == "has no connection":
		if x.conn != nil {
			x.p.fatalf("%s is connected to", x.name)
		}
	case what == "has header":
		if !x.header.Done() || x.left {
			x.p.fatalf("%s has no header", x.name)
		}
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
	env := agi.Environment{Script: "ivr", UniqueID: x.uniqueID()}
	if script, ok := strings.CutPrefix(fields, "script: "); ok {
		env.Script = script
	}
	x.conn.Write(env.AppendTo(nil))
}

func (x *part) send(verb, rest, what string) {
	x.left = x.left || what == "closes" || what == "resets"
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
	case what == "reply and half a HANGUP":
		x.conn.Write([]byte("200 result=0\nHANG"))
	case verb == "words":
		n, _ := strconv.Atoi(rest)
		x.conn.Write([]byte("NOOP" + strings.Repeat(` ""`, n-1) + "\n"))
	case strings.HasPrefix(what, "at once "):
		lines := strings.ReplaceAll(strings.TrimPrefix(what, "at once "), " | ", "\n") + "\n"
		x.conn.Write([]byte(strings.ReplaceAll(lines, `\0`, "\x00")))
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
		x.p.until("the header for "+x.name, func() bool { return x.header.Done() && !x.left })
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
