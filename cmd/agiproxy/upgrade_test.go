package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"agiproxy/agi"
	"agiproxy/internal/agisim"
)

// A program is the real binary, in processes that take each other's place.
type program struct {
	t       *testing.T
	path    string // of the binary
	config  string
	log     string
	address string // of the listener
	admin   string
	first   *exec.Cmd
	pids    []int // all that there have been
}

// compile builds the binary.
func compile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agiproxy")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// freeAddress returns an address where nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// startProgram starts it in front of the backends.
func startProgram(t *testing.T, pool string, backends ...*agisim.Server) *program {
	t.Helper()
	dir := t.TempDir()
	p := &program{
		t: t, path: compile(t), config: filepath.Join(dir, "agiproxy.yaml"), log: filepath.Join(dir, "log"),
		address: freeAddress(t), admin: freeAddress(t),
	}
	var list []string
	for i, b := range backends {
		list = append(list, fmt.Sprintf("{name: ivr%d, address: %q}", i+1, b.Addr()))
	}
	p.write(fmt.Sprintf("listeners: [{address: %q, max_sessions: 20000}]\nloops: 2\nadmin: {address: %q}\npools:\n  ivr: {%shealth: {probe: none}, backends: [%s]}\n",
		p.address, p.admin, pool, strings.Join(list, ", ")))
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.first = exec.Command(p.path, "serve", "--config", p.config)
	p.first.Stdout, p.first.Stderr = log, log
	if err := p.first.Start(); err != nil {
		t.Fatal(err)
	}
	p.pids = []int{p.first.Process.Pid}
	go p.first.Wait()
	t.Cleanup(p.end)
	within(t, 10*time.Second, "the program listens", func() bool { return strings.Contains(p.said(), " listening") })
	return p
}

func (p *program) write(config string) {
	p.t.Helper()
	if err := os.WriteFile(p.config, []byte(config), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// said returns the log.
func (p *program) said() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

// end ends it and all that it has started; its log is told where the test fails.
func (p *program) end() {
	for _, pid := range p.started() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if p.t.Failed() {
		lines := strings.Split(p.said(), "\n")
		for _, line := range lines {
			if !strings.Contains(line, "session ended: outcome=completed") {
				p.t.Log(line)
			}
		}
	}
}

var startedPattern = regexp.MustCompile(`started: .*pid=(\d+)`)

// started returns the numbers of all processes that have got as far as that.
func (p *program) started() (pids []int) {
	for _, m := range startedPattern.FindAllStringSubmatch(p.said(), -1) {
		pid, _ := strconv.Atoi(m[1])
		pids = append(pids, pid)
	}
	return pids
}

// pid is the process that serves.
func (p *program) pid() int { return p.pids[len(p.pids)-1] }

// upgrade has another process take over, and waits until it has.
func (p *program) upgrade() {
	p.t.Helper()
	n := strings.Count(p.said(), " took over:")
	if err := syscall.Kill(p.pid(), syscall.SIGUSR2); err != nil {
		p.t.Fatal(err)
	}
	within(p.t, 30*time.Second, "another process has taken over", func() bool { return strings.Count(p.said(), " took over:") > n })
	pids := p.started()
	p.pids = append(p.pids, pids[len(pids)-1])
}

// tryUpgrade has one fail, and waits until that is said.
func (p *program) tryUpgrade(why string) {
	p.t.Helper()
	n := strings.Count(p.said(), "not handed over")
	if err := syscall.Kill(p.pid(), syscall.SIGUSR2); err != nil {
		p.t.Fatal(err)
	}
	within(p.t, 30*time.Second, "the upgrade has failed", func() bool { return strings.Count(p.said(), "not handed over") > n })
	if said := p.said(); !strings.Contains(said[strings.LastIndex(said, "not handed over"):], why) {
		p.t.Errorf("the upgrade failed, but not because of %q", why)
	}
}

// command runs a command on its admin port.
func (p *program) command(args ...string) (code int, said string) {
	var out strings.Builder
	code = run(append(args, "--admin", p.admin), &out, &out)
	return code, out.String()
}

// alive reports whether a process is.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// metric returns the sum of a metric's series.
func (p *program) metric(name string) (sum float64) {
	p.t.Helper()
	resp, err := http.Get("http://" + p.admin + "/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		p.t.Fatalf("/metrics: %d, %v", resp.StatusCode, err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+"{"); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' ')+1:]), 64)
			if err != nil {
				p.t.Fatal(err)
			}
			sum += n
		}
	}
	return sum
}

// A traffic is calls that go on, each of whose bytes is checked on both sides.
type traffic struct {
	t       *testing.T
	address string
	pause   time.Duration // of a held call's backend between two commands, on average
	over    chan struct{} // closed when held calls end
	held    sync.WaitGroup
	calls   atomic.Int64 // that have begun
	rounds  atomic.Int64 // commands of held calls that were answered
	faults  atomic.Int64

	mu      sync.Mutex
	slowest time.Duration // of a command's round trip
	trips   []time.Duration
}

func (x *traffic) fault(format string, args ...any) {
	if x.faults.Add(1) < 20 {
		x.t.Errorf(format, args...)
	}
}

// serve is the backend's side: a held call's commands come one after the other
// until it is over, another's are three.
func (x *traffic) serve(s *agisim.Session) {
	h, err := s.Header()
	if err != nil {
		x.fault("a backend reads %v", err)
		return
	}
	id, held := string(h.Field("agi_uniqueid")), string(h.Script()) == "held"
	for n := 0; ; n++ {
		if n == 3 && !held || held && x.ended() {
			return
		}
		word := fmt.Sprintf("%s-%d", id, n)
		began := time.Now()
		reply, err := s.Command("GET VARIABLE " + word)
		if err != nil || reply.Text != "("+word+")" {
			x.fault("call %s: command %d is answered by %+v, %v", id, n, reply, err)
			return
		}
		x.took(time.Since(began))
		if held {
			x.rounds.Add(1)
			select {
			case <-x.over:
			case <-time.After(x.pause/2 + rand.N(x.pause)):
			}
		}
	}
}

func (x *traffic) ended() bool {
	select {
	case <-x.over:
		return true
	default:
		return false
	}
}

func (x *traffic) took(d time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.slowest = max(x.slowest, d)
	x.trips = append(x.trips, d)
}

// call is Asterisk's side, which wants each command exactly once and in order.
func (x *traffic) call(script string) {
	id := fmt.Sprint(x.calls.Add(1))
	c, err := net.DialTimeout("tcp", x.address, 20*time.Second)
	if err != nil {
		x.fault("call %s: %v", id, err)
		return
	}
	defer c.Close()
	env := agi.Environment{Script: script, UniqueID: id}
	if _, err := c.Write(env.AppendTo(nil)); err != nil {
		x.fault("call %s: %v", id, err)
		return
	}
	r := bufio.NewReader(c)
	for n := 0; ; n++ {
		line, err := r.ReadString('\n')
		if err == io.EOF && line == "" && n > 0 {
			if script == "short" && n != 3 {
				x.fault("call %s ended after %d commands", id, n)
			}
			_, _ = io.WriteString(c, "HANGUP\n")
			return
		}
		if want := fmt.Sprintf("GET VARIABLE %s-%d\n", id, n); err != nil || line != want {
			x.fault("call %s is told %q, %v; want %q", id, line, err, want)
			return
		}
		// In two pieces now and then, which a hand-over may come between.
		reply := fmt.Sprintf("200 result=1 (%s-%d)\n", id, n)
		cut := n * 7 % len(reply)
		_, err1 := io.WriteString(c, reply[:cut])
		_, err2 := io.WriteString(c, reply[cut:])
		if err := errors.Join(err1, err2); err != nil {
			x.fault("call %s: %v", id, err)
			return
		}
	}
}

// hold begins n calls that stay.
func (x *traffic) hold(n int) {
	for range n {
		x.held.Go(func() { x.call("held") })
	}
}

// callOften begins so many short calls a second until ctx ends.
func (x *traffic) callOften(ctx context.Context, rate int) {
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			x.held.Go(func() { x.call("short") })
		}
	}
}

// size is how large a test is; AGIPROXY_UPGRADES=2000,200,10 makes it the long one.
func size(t *testing.T) (held, rate, upgrades int) {
	held, rate, upgrades = 60, 30, 4
	if s := os.Getenv("AGIPROXY_UPGRADES"); s != "" {
		if _, err := fmt.Sscanf(s, "%d,%d,%d", &held, &rate, &upgrades); err != nil {
			t.Fatalf("AGIPROXY_UPGRADES=%q; want held calls, new calls a second, upgrades", s)
		}
	}
	return held, rate, upgrades
}

// TestUpgradesDropNothing has several processes take each other's place with calls
// under way and new ones coming all the time.
func TestUpgradesDropNothing(t *testing.T) {
	held, rate, upgrades := size(t)
	x := &traffic{t: t, pause: max(20*time.Millisecond, time.Duration(held)*time.Second/2000), over: make(chan struct{})} // 2000 commands a second
	var backends []*agisim.Server
	for range 2 {
		backends = append(backends, backend(t, x.serve))
	}
	p := startProgram(t, "", backends...)
	x.address = p.address
	x.hold(held)
	within(t, 60*time.Second, "the held calls run", func() bool { return x.rounds.Load() > int64(held) })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var callers sync.WaitGroup
	callers.Go(func() { x.callOften(ctx, rate) })
	for range upgrades {
		before := x.rounds.Load()
		p.upgrade()
		within(t, 30*time.Second, "calls go on", func() bool { return x.rounds.Load() > before+int64(2*held) })
	}
	cancel()
	callers.Wait()
	close(x.over)
	x.held.Wait()
	within(t, 30*time.Second, "only the last process is left", func() bool {
		return !slices.ContainsFunc(p.pids[:len(p.pids)-1], alive) && alive(p.pid())
	})
	within(t, 30*time.Second, "all calls are counted", func() bool { return p.metric("agiproxy_sessions_total") >= float64(x.calls.Load()) })
	if got, want := p.metric("agiproxy_sessions_total"), float64(x.calls.Load()); got != want {
		t.Errorf("%v sessions were counted; want the %v calls", got, want)
	}
	if got := strings.Count(p.said(), "outcome=completed"); got != int(x.calls.Load()) {
		t.Errorf("%d sessions have completed; want %d", got, x.calls.Load())
	}
	if n := x.faults.Load(); n > 0 {
		t.Errorf("%d faults", n)
	}
	x.mu.Lock() // a backend may not have noted its last reply yet
	defer x.mu.Unlock()
	slices.Sort(x.trips)
	t.Logf("%d held calls, %d calls altogether, %d upgrades, %d commands; round trip p50 %v, p99 %v, max %v", held, x.calls.Load(), upgrades,
		len(x.trips), x.trips[len(x.trips)/2], x.trips[len(x.trips)*99/100], x.slowest)
	for _, line := range regexp.MustCompile(`(handed|took) over: .*`).FindAllString(p.said(), -1) {
		t.Log(line)
	}
}

// TestFailedUpgradesChangeNothing has new processes that fail at each step, with
// calls under way; then one that works.
func TestFailedUpgradesChangeNothing(t *testing.T) {
	x := &traffic{t: t, pause: 20 * time.Millisecond, over: make(chan struct{})}
	p := startProgram(t, "", backend(t, x.serve))
	x.address = p.address
	x.hold(20)
	goOn := func() {
		t.Helper()
		before, calls := x.rounds.Load(), x.calls.Load()
		x.call("short")
		within(t, 20*time.Second, "calls go on", func() bool { return x.rounds.Load() > before+40 })
		if p.metric("agiproxy_sessions_active") != 20 || x.calls.Load() != calls+1 {
			t.Errorf("%v sessions are under way; want 20", p.metric("agiproxy_sessions_active"))
		}
	}
	within(t, 20*time.Second, "the held calls run", func() bool { return x.rounds.Load() > 20 })

	config, err := os.ReadFile(p.config)
	if err != nil {
		t.Fatal(err)
	}
	p.write("nonsense")
	p.tryUpgrade("refused: ")
	goOn()
	p.write(strings.Replace(string(config), p.address, "192.0.2.1:1", 1))
	p.tryUpgrade("refused: listen ")
	goOn()
	p.write(string(config))

	real, err := os.ReadFile(p.path)
	if err != nil {
		t.Fatal(err)
	}
	replace := func(text string, mode os.FileMode) {
		t.Helper()
		if err := os.Remove(p.path); err != nil {
			t.Fatal(err)
		}
		if text != "" {
			if err := os.WriteFile(p.path, []byte(text), mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	replace("", 0)
	p.tryUpgrade("no such file")
	goOn()
	if err := os.WriteFile(p.path, []byte("#!/bin/sh\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	p.tryUpgrade("the other process is gone")
	goOn()
	replace("#!/bin/sh\nexec sleep 600\n", 0o700)
	p.tryUpgrade("i/o timeout")
	goOn()
	replace(string(real), 0o700)
	p.upgrade()
	goOn()
	close(x.over)
	x.held.Wait()
	within(t, 20*time.Second, "the first process ends", func() bool { return !alive(p.pids[0]) })
	within(t, 20*time.Second, "all calls are counted", func() bool { return p.metric("agiproxy_sessions_total") == float64(x.calls.Load()) })
}

// TestUpgradeCommand asks for an upgrade, and is answered by the process that ends
// because of that.
func TestUpgradeCommand(t *testing.T) {
	x := &traffic{t: t, pause: 20 * time.Millisecond, over: make(chan struct{})}
	p := startProgram(t, "", backend(t, x.serve))
	x.address = p.address
	x.hold(20)
	within(t, 20*time.Second, "the held calls run", func() bool { return x.rounds.Load() > 20 })
	config, err := os.ReadFile(p.config)
	if err != nil {
		t.Fatal(err)
	}
	p.write("nonsense")
	const refused = "agiproxy: upgrade: new process: await ready: refused: "
	if code, said := p.command("upgrade"); code != 1 || !strings.HasPrefix(said, refused) {
		t.Errorf("upgrade to nonsense: %d, %s; want 1, and %s", code, said, refused)
	}
	p.write(string(config))
	for range 5 {
		code, said := p.command("upgrade")
		within(t, 20*time.Second, "the new process's log", func() bool { return len(p.started()) > len(p.pids) })
		p.pids = p.started()
		want := fmt.Sprintf("agiproxy %s serves, process %d: 20 sessions moved, which stood still for ", buildInfo().version, p.pid())
		if code != 0 || !strings.HasPrefix(said, want) || strings.Count(said, "\n") != 1 {
			t.Fatalf("upgrade: %d, %s; want 0, and %s", code, said, want)
		}
		within(t, 20*time.Second, "the process before ends", func() bool { return !alive(p.pids[len(p.pids)-2]) })
	}
	code, said := p.command("upgrade", "--output", "json")
	if code != 0 || !strings.HasPrefix(said, `{"pid":`) {
		t.Errorf("upgrade --output json: %d, %s", code, said)
	}
	before := x.rounds.Load()
	within(t, 20*time.Second, "calls go on", func() bool { return x.rounds.Load() > before+40 })
	close(x.over)
	x.held.Wait()
}
