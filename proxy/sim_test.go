package proxy

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"agiproxy/agi"
	"agiproxy/balancer"
	"agiproxy/internal/sim"
)

// simHost is a simulated network as sessions see it.
type simHost struct{ *sim.Net }

func (h simHost) Connect(addr netip.AddrPort, hd Handler) Conn { return h.Net.Connect(addr, hd) }

// Do runs f at once: the loop is whoever runs the network.
func (simHost) Do(f func()) error { f(); return nil }

// orderlyHost is one that watches who gets a backend before whom.
type orderlyHost struct {
	simHost
	sm *simulation
}

func (h orderlyHost) Connect(addr netip.AddrPort, hd Handler) Conn {
	switch hd := hd.(type) {
	case *backSide:
		h.sm.checkOrder((*Session)(hd), (*Session)(hd).loan.Backend())
	case *hedge:
		h.sm.checkOrder(hd.session, hd.loan.Backend())
	}
	return h.simHost.Connect(addr, hd)
}

// simClock is the network's time as package balancer sees it.
type simClock struct{ *sim.Net }

func (c simClock) Now() time.Time                      { return time.Unix(0, 0).Add(c.Net.Now()) }
func (c simClock) AfterFunc(d time.Duration, f func()) { c.After(d, f) }

// A simulation is one network with one agiproxy in it, some backends that fail
// in all ways, and callers. Its invariants are checked as it goes.
type simulation struct {
	t        *testing.T
	seed     uint64
	net      *sim.Net
	server   *Server
	worker   *Worker
	listener *Listener
	pool     *balancer.Pool
	policy   balancer.Policy
	lends    balancer.Options
	replay   Replay
	opts     PoolOptions
	percent  int // of the backends may be ejected
	servers  []*simServer
	ejected  int // times
	resumed  int // scripts that went on with a call
	denied   int // lines that didn't reach Asterisk
	waited   int // sessions that were given a slot
	reloads  int // that come, with calls of the version before under way
	calls    map[string]*simCall
	records  map[string]int
	before   []*Worker // processes that have handed over
	moved    int       // sessions
	outcomes map[Outcome]int
}

var front = netip.MustParseAddrPort("127.0.0.1:4577")

func newSimulation(t *testing.T, seed uint64) *simulation {
	sm := &simulation{t: t, seed: seed, calls: map[string]*simCall{}, records: map[string]int{}, outcomes: map[Outcome]int{}}
	rng := sim.New(seed, sim.Options{}).Rand() // for the options alone
	sm.net = sim.New(seed+1, sim.Options{
		Delay:   time.Duration(1+rng.IntN(20)) * time.Millisecond,
		Segment: []int{1460, 40, 7}[rng.IntN(3)],
		Window:  []int{64 << 10, 200}[rng.IntN(2)],
	})
	sm.replay = Replay(rng.IntN(3))
	policies := []balancer.Policy{
		balancer.RoundRobin{}, balancer.LeastConnections{}, balancer.Hash{}, balancer.First{}, balancer.Random{Rand: rng.Uint64},
	}
	for i := range 1 + rng.IntN(4) {
		s := newSimServer(sm, i)
		sm.servers = append(sm.servers, s)
		s.weight, s.max, s.backup = 1+rng.IntN(3), rng.IntN(2)*(1+rng.IntN(20)), rng.IntN(5) == 0
	}
	sm.opts = PoolOptions{
		ConnectTimeout: 200 * time.Millisecond, DispatchTimeout: 5 * time.Second, Attempts: 1 + rng.IntN(4),
		Replay: sm.replay, OnLoss: []LossPolicy{LossFailure, LossClose, LossResume, LossResume}[rng.IntN(4)], FirstCommandTimeout: time.Second,
		ThinkTimeout: 20 * time.Second, HangupTimeout: 10 * time.Second, HedgeDelay: time.Duration(rng.IntN(3)*60) * time.Millisecond,
		HashField: "agi_uniqueid", Commands: CommandRules{Deny: []string{"EXEC System", "DATABASE DELTREE", "SPEECH"}},
	}
	if rng.IntN(4) == 0 {
		// Longer than the network takes to give a silent connection up.
		sm.opts.FirstCommandTimeout, sm.opts.DispatchTimeout = 90*time.Second, 5*time.Minute
	}
	o := balancer.Options{Clock: simClock{sm.net}, Panic: rng.IntN(2) * 50, SlowStart: time.Duration(rng.IntN(2)) * 5 * time.Second}
	if rng.IntN(2) == 0 {
		o.Queue = 1 + rng.IntN(10)
		sm.opts.QueueTimeout = time.Duration(1+rng.IntN(20)) * 500 * time.Millisecond
		sm.opts.Music = []string{"", "default"}[rng.IntN(2)]
	}
	if rng.IntN(2) == 0 {
		sm.opts.Fallback = simFallback
		sm.opts.FallbackCompletes = rng.IntN(2) == 0
	}
	if rng.IntN(3) > 0 {
		sm.percent = 1 + rng.IntN(100)
		o.Ejection = balancer.Ejection{Failures: 1 + rng.IntN(4), Time: time.Second, MaxTime: 5 * time.Second, MaxPercent: sm.percent}
		o.Ejected = func(b *balancer.Backend, _ time.Duration) {
			if slices.Contains(sm.pool.Backends(), b) { // else it is of a process that has handed over
				sm.checkEjections()
			}
		}
	}
	var most int
	sm.policy, sm.lends, most = policies[rng.IntN(len(policies))], o, []int{30, 200}[rng.IntN(2)]
	sm.serve(most)
	sm.reloads = rng.IntN(4)
	if rng.IntN(4) == 0 {
		sm.handOverLater(most)
	}
	sm.net.Listen(front, func(c *sim.Conn) sim.Handler {
		if h := sm.worker.Accept(sm.listener, &wholeLines{Conn: c, sm: sm}); h != nil {
			return h
		}
		return nil
	})
	return sm
}

// serve makes an agiproxy, as a process that has just been started.
func (sm *simulation) serve(most int) {
	sm.pool = balancer.NewPool(sm.policy, sm.lends, sm.backends())
	sm.server = NewServer(Options{Ended: sm.ended})
	route, err := NewRoute("ivr", Match{"script", "call*"})
	if err != nil {
		sm.t.Fatal(err)
	}
	sm.server.Swap(&Table{Pools: []*Pool{NewPool("ivr", sm.opts, sm.pool)}, Routes: []Route{route}})
	sm.worker = sm.server.NewWorker(orderlyHost{simHost{sm.net}, sm})
	sm.listener = NewListener(":4577", ListenerOptions{
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, MaxSessions: most, HeaderTimeout: time.Second, MaxHeaderBytes: 4096,
	})
}

// backends are those of a new process, which knows of them what the one before
// knew.
func (sm *simulation) backends() (all []*balancer.Backend) {
	for _, s := range sm.servers {
		s.backend = balancer.NewBackend(s.name, s.addr.String())
		s.backend.SetAddr(s.addr)
		s.backend.Configure(s.weight, s.max, s.backup)
		all = append(all, s.backend)
	}
	return all
}

// handOverLater has another process take over after a while, again and again as
// long as there are calls to come.
func (sm *simulation) handOverLater(most int) {
	sm.net.After(time.Duration(sm.net.Rand().IntN(1000))*time.Millisecond, func() {
		if len(sm.before) > 0 && sm.server.Sessions() == 0 {
			return
		}
		before, known := sm.worker, sm.pool.Backends()
		sm.before = append(sm.before, before)
		counted := before.server.TakeCounts()
		sm.serve(most)
		for i, b := range sm.pool.Backends() {
			b.Stand(known[i].Standing())
		}
		sm.server.GiveCounts(counted)
		sm.moved += handOver(sm.t, before, sm.worker, sm.listener)
		sm.handOverLater(most)
	})
}

// failf tells of a broken invariant, with what brings it back.
func (sm *simulation) failf(format string, args ...any) {
	sm.t.Helper()
	sm.t.Fatalf("seed %d, at %v: %s", sm.seed, sm.net.Now(), fmt.Sprintf(format, args...))
}

// simFallback is what Asterisk is told to do when nothing can serve.
var simFallback = []string{"SET VARIABLE FALLBACK 1", "BOGUS fallback", "STREAM FILE fallback 3", "GET VARIABLE fallback"}

// checkOrder checks that the backend that a session is about to connect to is not
// one that another has waited for longer.
func (sm *simulation) checkOrder(s *Session, b *balancer.Backend) {
	if sm.opts.Music != "" {
		return // between getting the slot and connecting the music is stopped
	}
	since := s.dispatching.queuedSince
	if since != 0 {
		sm.waited++
	}
	for other := range s.worker.sessions.all() { // processes don't know who waits in another
		if other == s || other.state != queued || other.dispatching.waiter == nil || slices.Contains(other.dispatching.tried, b) {
			continue
		}
		if since == 0 || other.dispatching.queuedSince < since {
			sm.failf("%s gets %s before one who waits longer", s.who, b.Name())
		}
	}
}

// checkEjections checks the bounds of ejection when a backend was ejected.
func (sm *simulation) checkEjections() {
	sm.ejected++
	ejected, usable := 0, 0
	for _, b := range sm.pool.Backends() {
		switch b.State() {
		case balancer.Ejected:
			ejected++
		case balancer.Up, balancer.Busy:
			usable++
		}
	}
	if usable == 0 || ejected > 1 && 100*ejected > sm.percent*len(sm.servers) {
		sm.failf("%d of %d backends are ejected, %d usable; want at most %d %%", ejected, len(sm.servers), usable, sm.percent)
	}
}

func (sm *simulation) ended(r Record) {
	sm.outcomes[r.Outcome]++
	sm.denied += r.Denied
	if r.Outcome == undecided {
		sm.failf("session %s ended without an outcome: %+v", r.UniqueID, r)
	}
	if r.UniqueID != "" {
		sm.records[r.UniqueID]++
		if call := sm.calls[r.UniqueID]; call != nil {
			call.record = &r
		}
	}
}

// run has n callers call over some time, and checks what is left afterwards.
func (sm *simulation) run(n int) {
	for i := range n {
		sm.net.After(time.Duration(sm.net.Rand().Int64N(int64(n)*int64(20*time.Millisecond))), func() { sm.call(i) })
	}
	for range sm.reloads {
		sm.net.After(time.Duration(sm.net.Rand().Int64N(int64(n)*int64(20*time.Millisecond))), sm.reload)
	}
	if !sm.net.Run(24 * time.Hour) {
		sm.failf("something goes on for ever; %d ends open, %d sessions", sm.net.Open(), sm.server.Sessions())
	}
	if open := sm.net.Open(); open != 0 {
		sm.failf("%d ends of connections are open at the end", open)
	}
	counted := 0
	for _, w := range append(sm.before, sm.worker) {
		if n := w.server.Sessions(); n != 0 {
			sm.failf("%d sessions are under way at the end", n)
		}
		for _, b := range w.server.Table().Pools[0].Backends().Backends() {
			if b.Sessions() != 0 {
				sm.failf("backend %s counts %d sessions at the end", b.Name(), b.Sessions())
			}
		}
		for _, p := range w.counts.pools {
			for _, n := range p.ended {
				counted += int(n)
			}
		}
	}
	if n := sm.listener.sessions.Load(); n != 0 {
		sm.failf("listener counts %d sessions at the end", n)
	}
	if counted != n {
		sm.failf("%d sessions were counted; want %d", counted, n)
	}
	if n := sm.pool.Waiting(); n != 0 {
		sm.failf("%d sessions wait at the end", n)
	}
	total := 0
	for _, n := range sm.outcomes {
		total += n
	}
	if total != n {
		sm.failf("%d callers, %d records: %v", n, total, sm.outcomes)
	}
	for id, n := range sm.records {
		if n != 1 {
			sm.failf("session %s has %d records", id, n)
		}
	}
	for id, c := range sm.calls {
		c.check(id)
	}
}

// reload has a new version of the pool take over.
func (sm *simulation) reload() {
	before := sm.pool
	sm.pool = balancer.NewPool(sm.policy, sm.lends, before.Backends())
	sm.pool.Inherit(before)
	sm.server.Swap(&Table{Pools: []*Pool{NewPool("ivr", sm.opts, sm.pool)}, Routes: sm.server.Table().Routes})
}

// wholeLines is the connection to Asterisk, and watches that nothing but whole
// lines goes there.
type wholeLines struct {
	*sim.Conn
	sm *simulation
}

func (w *wholeLines) Write(p []byte) {
	if len(p) == 0 || p[len(p)-1] != '\n' {
		w.sm.failf("half a line to Asterisk: %q", p)
	}
	for _, line := range bytes.SplitAfter(p, []byte("\n")) {
		if len(line) > agi.MaxLine {
			w.sm.failf("a line of %d bytes to Asterisk", len(line))
		}
	}
	w.Conn.Write(p)
}

// TestSimulation runs many small simulations, as many at a time as there are
// processors; a seed that fails does so again.
func TestSimulation(t *testing.T) {
	const sessions = 200
	runs := uint64(250)
	if n, err := strconv.ParseUint(os.Getenv("AGIPROXY_SIMULATIONS"), 10, 64); err == nil {
		runs = n // 5000 are a million sessions
	}
	if testing.Short() {
		runs = 25
	}
	var mu sync.Mutex
	outcomes := map[Outcome]int{}
	var resumed, waited, ejected, moved, denied int
	t.Run("seeds", func(t *testing.T) {
		shards := uint64(runtime.GOMAXPROCS(0))
		for shard := range shards {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				for seed := shard; seed < runs; seed += shards {
					sm := newSimulation(t, seed)
					sm.run(sessions)
					mu.Lock()
					for o, n := range sm.outcomes {
						outcomes[o] += n
					}
					resumed, waited, ejected, moved, denied = resumed+sm.resumed, waited+sm.waited, ejected+sm.ejected, moved+sm.moved, denied+sm.denied
					mu.Unlock()
				}
			})
		}
	})
	var all []string
	for o := Completed; o <= Shutdown; o++ {
		all = append(all, fmt.Sprintf("%v %d", o, outcomes[o]))
	}
	t.Logf("%d sessions: %s; %d resumed, %d waited, %d ejections, %d moved, %d lines refused", runs*sessions, strings.Join(all, ", "), resumed, waited, ejected, moved, denied)
	if resumed == 0 || moved == 0 || waited == 0 || ejected == 0 || denied == 0 {
		t.Error("the simulation doesn't reach all")
	}
	for _, o := range []Outcome{Completed, Hangup, Lost, NoBackend, NoRoute, BadHeader, Rejected, Timeout, Killed} {
		if outcomes[o] == 0 {
			t.Errorf("no session ended as %v: the simulation doesn't reach it", o)
		}
	}
}
