package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"agiproxy/testbed/fastagi/fault"
)

// A perlServer is the application of the Perl testbed, in a process of its own.
type perlServer struct {
	*process
	suite  *suite
	kind   string // fork or prefork
	name   string
	addr   string
	env    []string
	before string // the logs of the processes that were killed
}

func (b *perlServer) entry() (name, addr string) { return b.name, b.addr }

// perl starts a Perl backend. It runs as nobody, in the lab's chroot.
func (s *suite) perl(t *testing.T, kind, name string, env ...string) *perlServer {
	t.Helper()
	b := &perlServer{suite: s, kind: kind, name: name, addr: freeAddr(), env: env}
	b.start(t)
	return b
}

// perls starts one Perl backend for each name.
func (s *suite) perls(t *testing.T, kind string, names []string, env ...string) []*perlServer {
	t.Helper()
	servers := make([]*perlServer, len(names))
	for i, name := range names {
		servers[i] = s.perl(t, kind, name, env...)
	}
	return servers
}

// start starts the server anew, on the same port.
func (b *perlServer) start(t *testing.T) {
	t.Helper()
	if err := b.tryStart(t); err != nil {
		t.Fatal(err)
	}
}

// tryStart is start for a goroutine that is not the test's.
func (b *perlServer) tryStart(t *testing.T) error {
	if b.process != nil {
		b.before += b.log() + "\n"
	}
	_, port, _ := net.SplitHostPort(b.addr)
	cmd := b.suite.inLab("/usr/bin/perl", "/lab/"+b.suite.instance+"/agi-bin/fastagi-"+b.kind+".pl", port)
	cmd.Env = append(append(cmd.Env, "FASTAGI_NAME="+b.name), b.env...)
	p, err := b.suite.start(b.name, cmd)
	if err != nil {
		return err
	}
	b.process = p
	t.Cleanup(p.kill)
	for end := time.Now().Add(10 * time.Second); !strings.Contains(b.log(), "Setting uid"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%s listens: not within 10s; its log:\n%s", b.name, b.log())
		}
	}
	return nil
}

// steps returns what the server has logged about calls: for each unique id the
// words begins, plays, ends, in their order. Probes are left out.
func (b *perlServer) steps() map[string][]string { return callSteps(b.before + b.log()) }

func callSteps(log string) map[string][]string {
	steps := make(map[string][]string)
	probes := make(map[string]bool)
	for ln := range strings.Lines(log) {
		words := strings.Fields(ln)
		if len(words) < 3 || words[0] != "call" {
			continue
		}
		id := words[1]
		if strings.Contains(ln, "agiproxy-probe") {
			probes[id] = true
		}
		steps[id] = append(steps[id], strings.TrimSuffix(words[2], ":"))
	}
	for id := range probes {
		delete(steps, id)
	}
	return steps
}

// playing returns the calls that are in Asterisk's turn: it plays to them.
func (b *perlServer) playing() map[string]bool {
	ids := make(map[string]bool)
	for id, steps := range callSteps(b.log()) {
		if steps[len(steps)-1] == "plays" {
			ids[id] = true
		}
	}
	return ids
}

// eventuallyPlaying waits until n calls are in Asterisk's turn, all servers together,
// and Asterisk has begun to play.
func eventuallyPlaying(t *testing.T, n int, servers ...*perlServer) {
	t.Helper()
	playing := 0
	defer func() {
		if t.Failed() {
			t.Logf("%d calls were playing", playing)
		}
	}()
	eventually(t, 20*time.Second, fmt.Sprintf("%d calls play", n), func() bool {
		playing = 0
		for _, b := range servers {
			playing += len(b.playing())
		}
		return playing >= n
	})
	time.Sleep(200 * time.Millisecond)
}

// mustNotRepeat fails the test for a call whose script began twice, on one server
// or on several.
func mustNotRepeat(t *testing.T, servers ...*perlServer) {
	t.Helper()
	began := make(map[string]int)
	for _, b := range servers {
		for id, steps := range b.steps() {
			for _, step := range steps {
				if step == "begins" {
					began[id]++
				}
			}
		}
	}
	for id, n := range began {
		if n > 1 {
			t.Errorf("the script of call %s began %d times; want once", id, n)
		}
	}
}

// A faultServer is a FastAGI server that fails on demand, inside of the test.
type faultServer struct {
	*fault.Server
	name string
}

func (b faultServer) entry() (name, addr string) { return b.name, b.Addr() }

// faultless is what a server is told that is to serve again.
var faultless = fault.Behaviour{Mode: fault.OK}

// fault starts a server that behaves as the query says.
func (s *suite) fault(t *testing.T, name, query string) faultServer {
	t.Helper()
	behaviour, err := fault.Parse(query)
	if err != nil {
		t.Fatal(err)
	}
	server, err := fault.Listen(freeAddr(), fault.Options{Name: name, Behaviour: behaviour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return faultServer{server, name}
}

// mustNotRepeatFaults does what mustNotRepeat does, for these servers.
func mustNotRepeatFaults(t *testing.T, servers ...faultServer) {
	t.Helper()
	began := make(map[string]int)
	for _, b := range servers {
		for _, session := range b.Calls() {
			if session.Begun {
				began[session.UniqueID]++
			}
		}
	}
	for id, n := range began {
		if n > 1 {
			t.Errorf("the script of call %s began %d times; want once", id, n)
		}
	}
}

// begun returns how many scripts run or have run on the server.
func (b faultServer) begun() int { return b.Stats().Begun }

// A fastagiServer is the same as a process of its own, which can be killed.
type fastagiServer struct {
	*process
	name, addr, control string
}

func (b *fastagiServer) entry() (name, addr string) { return b.name, b.addr }

func (s *suite) fastagiServer(t *testing.T, name string) *fastagiServer {
	t.Helper()
	b := &fastagiServer{name: name, addr: freeAddr(), control: freeAddr()}
	p, err := s.start(name, exec.Command(s.fastagi, "-listen", b.addr, "-control", b.control, "-name", name))
	if err != nil {
		t.Fatal(err)
	}
	b.process = p
	t.Cleanup(p.kill)
	eventually(t, 10*time.Second, name+" listens", func() bool { return strings.Contains(b.log(), "FastAGI on") })
	return b
}

// stats asks the server's control port.
func (b *fastagiServer) stats(t *testing.T) fault.Stats {
	t.Helper()
	resp, err := http.Get("http://" + b.control + "/stats")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var st fault.Stats
	if err := json.NewDecoder(resp.Body).Decode(&st); err != nil {
		t.Fatal(err)
	}
	return st
}

// calls asks the server's control port for the sessions that are no probes.
func (b *fastagiServer) calls(t *testing.T) []fault.Session {
	t.Helper()
	resp, err := http.Get("http://" + b.control + "/calls")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var calls []fault.Session
	if err := json.NewDecoder(resp.Body).Decode(&calls); err != nil {
		t.Fatal(err)
	}
	return calls
}

// freeze stops a server's processes where they are; thaw lets them go on.
func (p *process) freeze(t *testing.T) { p.must(t, syscall.SIGSTOP) }
func (p *process) thaw(t *testing.T)   { p.must(t, syscall.SIGCONT) }

func (p *process) must(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := p.signal(sig); err != nil {
		t.Fatalf("%v to %s: %v", sig, p.name, err)
	}
}
