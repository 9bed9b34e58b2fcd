package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A suite is what all tests share: Asterisk, Prometheus and the binaries. Its
// tests run one after the other, each with an agiproxy of its own on the front
// address, where extension 108 calls, and on the admin address, which Prometheus
// scrapes.
type suite struct {
	root      string // the chroot with Asterisk, Perl and Prometheus
	instance  string // this run's directory in the chroot, below /lab
	artefacts string // logs of all processes; removed when all went well
	agiproxy  string // the binary under test: AGIPROXY_BINARY, or built
	fastagi   string // the FastAGI server that fails on demand, built

	front string // agiproxy's listener
	admin string // agiproxy's admin address

	ami        *ami
	prometheus *prometheus
	processes  []*process
}

// shared is the suite of this run, or nil without AGIPROXY_E2E=1.
var shared *suite

func TestMain(m *testing.M) {
	if os.Getenv("AGIPROXY_E2E") != "1" {
		os.Exit(m.Run())
	}
	s, err := newSuite()
	if err != nil {
		fmt.Fprintf(os.Stderr, "e2e: %v\n", err)
		s.close(false)
		os.Exit(1)
	}
	shared = s
	code := m.Run()
	s.close(code == 0)
	os.Exit(code)
}

// begin returns the suite for one test, or skips the test where there is none.
func begin(t *testing.T) *suite {
	t.Helper()
	if shared == nil {
		t.Skip("AGIPROXY_E2E=1 is not set; testbed/run prepares the real Asterisk and runs this")
	}
	return shared
}

func newSuite() (*suite, error) {
	s := new(suite)
	lab, err := labDir()
	if err != nil {
		return s, err
	}
	s.root = filepath.Join(lab, "root")
	for _, need := range []string{"usr/sbin/asterisk", "usr/bin/prometheus", "usr/share/perl5/Asterisk/AGI.pm", "usr/share/perl5/Net/Server.pm"} {
		if _, err := os.Stat(filepath.Join(s.root, need)); err != nil {
			return s, fmt.Errorf("the lab in %s is not complete (testbed/asterisk/setup.sh builds it): %w", lab, err)
		}
	}
	if s.artefacts, err = os.MkdirTemp(os.Getenv("AGIPROXY_E2E_ARTEFACTS"), "agiproxy-e2e-"); err != nil {
		return s, err
	}
	if s.fastagi, err = s.build("agiproxy/testbed/fastagi"); err != nil {
		return s, err
	}
	if s.agiproxy = os.Getenv("AGIPROXY_BINARY"); s.agiproxy == "" {
		if s.agiproxy, err = s.build("agiproxy/cmd/agiproxy"); err != nil {
			return s, err
		}
	}
	if s.instance, err = s.newInstance(); err != nil {
		return s, err
	}
	s.front, s.admin = freeAddr(), freeAddr()
	if err := s.startAsterisk(lab); err != nil {
		return s, err
	}
	if s.prometheus, err = s.startPrometheus(); err != nil {
		return s, err
	}
	return s, nil
}

// build compiles a command of this module and returns the binary.
func (s *suite) build(pkg string) (string, error) {
	binary := filepath.Join(s.artefacts, path.Base(pkg))
	if out, err := exec.Command("go", "build", "-o", binary, pkg).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return binary, nil
}

// newInstance makes this run's directory in the chroot and returns its name.
func (s *suite) newInstance() (string, error) {
	labs := filepath.Join(s.root, "lab")
	if err := os.MkdirAll(labs, 0o755); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(labs, "e2e-")
	if err != nil {
		return "", err
	}
	return filepath.Base(dir), os.Chmod(dir, 0o755) // Asterisk and the Perl servers are not root
}

// labDir returns where testbed/asterisk/setup.sh has built the lab.
func labDir() (string, error) {
	if dir := os.Getenv("AGIPROXY_LAB"); dir != "" {
		return dir, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("where is the lab? set AGIPROXY_LAB: %w", err)
	}
	return filepath.Join(cache, "agiproxy-testbed", "asterisk"), nil
}

func (s *suite) startAsterisk(lab string) error {
	manager := freeAddr()
	_, port, _ := net.SplitHostPort(manager)
	cmd := exec.Command("../asterisk/start.sh", lab, s.instance)
	cmd.Env = append(os.Environ(), "FOREGROUND=1", "AMI_PORT="+port, "AGI_ADDR="+s.front,
		"FASTAGI_WAIT=1", "FASTAGI_NAME=local")
	p, err := s.start("asterisk", cmd)
	if err != nil {
		return err
	}
	s.ami, err = dialAMI(manager, 20*time.Second, p.exited)
	if err != nil {
		return fmt.Errorf("asterisk: %w; its log:\n%s", err, p.log())
	}
	return nil
}

// close ends what the suite has started. The artefacts stay where a test failed.
func (s *suite) close(passed bool) {
	if s.ami != nil {
		s.ami.close()
	}
	for _, p := range s.processes {
		p.kill()
	}
	dir := filepath.Join(s.root, "lab", s.instance)
	if !passed && s.artefacts != "" {
		if log, err := os.ReadFile(filepath.Join(dir, "log", "messages.log")); err == nil {
			os.WriteFile(filepath.Join(s.artefacts, "asterisk-messages.log"), log, 0o644)
		}
		fmt.Fprintf(os.Stderr, "e2e: the logs of all processes are in %s\n", s.artefacts)
	}
	if s.instance != "" {
		os.RemoveAll(dir)
	}
	if passed {
		os.RemoveAll(s.artefacts)
	}
}

// Ports are below the range from which the kernel takes those of connections, so that
// they stay free while a backend is down. Nobody else of ours may take them either: each
// is given once, and other suites, which may run beside this one, have blocks of their
// own, by listening on the first port.
const (
	firstPort  = 20000
	blockSize  = 1000
	portBlocks = 12
)

// A portBlock is this suite's ports.
type portBlock struct {
	first int
	lock  net.Listener // on the first one, as long as the process runs
	given atomic.Int32
}

var ports = sync.OnceValue(func() *portBlock {
	for _, i := range rand.Perm(portBlocks) {
		first := firstPort + blockSize*i
		if lock, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(first))); err == nil {
			return &portBlock{first: first, lock: lock}
		}
	}
	panic("e2e: no block of ports is free")
})

// freeAddr returns a loopback address that nobody listens on, each time another.
func freeAddr() string {
	for b := ports(); ; {
		n := int(b.given.Add(1))
		if n >= blockSize {
			panic("e2e: all ports of the block were given")
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(b.first+n))
		ln, err := net.Listen("tcp", addr)
		if err == nil {
			ln.Close()
			return addr
		}
	}
}

// eventually waits until ok, and fails the test when that takes longer than limit.
func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, limit)
		}
	}
}

// A process is one that the suite has started, with all that it has started itself.
type process struct {
	name   string
	cmd    *exec.Cmd
	logs   string // the file of its output
	exited chan struct{}
}

// start starts cmd in a process group of its own.
func (s *suite) start(name string, cmd *exec.Cmd) (*process, error) {
	out, err := os.CreateTemp(s.artefacts, name+"-*.log")
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, logs: out.Name(), exited: make(chan struct{})}
	go func() {
		cmd.Wait()
		close(p.exited)
	}()
	s.processes = append(s.processes, p)
	return p, nil
}

// inLab returns a command that runs in the lab's chroot.
func (s *suite) inLab(path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: s.root}
	return cmd
}

// signal sends sig to the process and all that it has started.
func (p *process) signal(sig syscall.Signal) error { return syscall.Kill(-p.cmd.Process.Pid, sig) }

// kill ends the process and all that it has started, at once, and waits for it. It
// may be called again.
func (p *process) kill() {
	if err := p.signal(syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		fmt.Fprintf(os.Stderr, "e2e: kill %s: %v\n", p.name, err)
	}
	<-p.exited
}

func (p *process) log() string {
	b, err := os.ReadFile(p.logs)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}
