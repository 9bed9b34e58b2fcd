package app

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"agiproxy/config"
	"agiproxy/internal/limits"
)

// childFile is the environment variable that holds the configuration of a
// process of its own, which runs out of descriptors without its test.
const childFile = "AGIPROXY_TEST_FILE"

// childDescriptors is how many descriptors that process may have.
const childDescriptors = 60

// TestOutOfDescriptors takes all of agiproxy's descriptors by idle connections.
// What comes then is closed at once and counted, without spinning; the calls
// under way go on, and when descriptors are free again, so do new ones.
func TestOutOfDescriptors(t *testing.T) {
	if os.Getenv(childFile) != "" {
		runOutOfDescriptors(t)
		return
	}
	s := startServer(t, "ivr1")
	child := startChild(t, "listeners: [{address: \"127.0.0.1:0\", header_timeout: 1m}]\nloops: 2\n"+
		"admin: {address: \"\"}\npools: {ivr: {health: {probe: none}, backends: ["+s.entry("")+"]}}\n")
	held := hold(t, child.address, "hold", s)

	var idle []net.Conn
	for range childDescriptors {
		c, err := net.Dial("tcp", child.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "agi_"); err != nil { // what says nothing stays in the kernel
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	var closed atomic.Int32
	var reads sync.WaitGroup
	for _, c := range idle {
		c.SetReadDeadline(time.Now().Add(time.Second))
		reads.Go(func() {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				closed.Add(1)
			}
		})
	}
	reads.Wait()
	shed := int(closed.Load())
	if shed == 0 || shed == len(idle) {
		t.Errorf("%d of %d connections were shed; want some of them", shed, len(idle))
	}
	before, began := child.cpu(), time.Now()
	time.Sleep(300 * time.Millisecond)
	if used, most := child.cpu()-before, time.Since(began)/4; used > most {
		t.Errorf("%v of CPU in %v without a descriptor; want next to nothing", used, time.Since(began))
	}
	if !held.running() {
		t.Error("the call under way has ended")
	}
	for _, c := range idle {
		c.Close()
	}
	more := 0 // calls that came before the last descriptor was free
	eventually(t, "a call after the shortage", func() bool {
		served := place(t, child.address, "menu").result().Served()
		if !served {
			more++
		}
		return served
	})
	s.release()
	held.wantServed("ivr1")

	child.in.Close() // which tells it to end
	text, err := io.ReadAll(child.out)
	if err != nil {
		t.Fatal(err)
	}
	if err := child.cmd.Wait(); err != nil {
		t.Errorf("the process ended with %v:\n%s", err, text)
	}
	if want := fmt.Sprintf("shed %d\n", shed+more); !strings.Contains(string(text), want) {
		t.Errorf("the process counted %q; want %q", text, want)
	}
	if strings.Contains(string(text), "\n0 warnings") || strings.Contains(string(text), fmt.Sprintf("\n%d warnings", shed)) {
		t.Errorf("the process says %q of %d connections shed; want a warning, but one a second at most", text, shed)
	}
}

// A child is agiproxy in a process of its own.
type child struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	address string
}

func startChild(t *testing.T, file string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestOutOfDescriptors$")
	cmd.Env = append(os.Environ(), childFile+"="+file)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	c := &child{cmd: cmd, in: in, out: bufio.NewReader(out)}
	var text strings.Builder
	for c.address == "" {
		line, err := c.out.ReadString('\n')
		if err != nil {
			t.Fatalf("the process has ended: %v\n%s", err, text.String())
		}
		text.WriteString(line)
		if _, address, ok := strings.Cut(strings.TrimSpace(line), "serving on "); ok {
			c.address = address
		}
	}
	return c
}

// cpu returns the processor time that the child has used.
func (c *child) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	var utime, stime int64
	fields := strings.Fields(rest)
	fmt.Sscan(fields[11], &utime)
	fmt.Sscan(fields[12], &stime)
	return time.Duration(utime+stime) * 10 * time.Millisecond // USER_HZ is 100
}

// runOutOfDescriptors is the child: it serves until its standard input ends.
func runOutOfDescriptors(t *testing.T) {
	limit := syscall.Rlimit{Cur: childDescriptors, Max: childDescriptors}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	p := prepare(t, os.Getenv(childFile))
	p.run()
	fmt.Printf("serving on %s\n", p.addr(0))
	io.Copy(io.Discard, os.Stdin)
	n, _ := p.series("agiproxy_rejected_connections_total", p.fronts[0].address, "descriptors")
	fmt.Printf("shed %v\n%d warnings\n", n, p.log.count("connection shed"))
}

// A New that runs out of descriptors for its loops gives back what it had.
func TestNewWithoutDescriptorsLeavesNothing(t *testing.T) {
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse("agiproxy.yaml", []byte("loops: 256\n"+file(quick, "127.0.0.1:1")))
	if err != nil {
		t.Fatal(err)
	}
	held := holdings()
	few := syscall.Rlimit{Cur: 60, Max: before.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)
	a, err := New(Options{Config: cfg})
	if err == nil {
		a.Close()
		a.Run(t.Context())
		t.Fatal("New() with 256 loops and 60 descriptors = nil; want an error")
	}
	if !errors.Is(err, syscall.EMFILE) || !strings.HasPrefix(err.Error(), "open event loop: ") {
		t.Errorf("New() = %v; want that there are too many open files", err)
	}
	if left := held.left(); left != "" {
		t.Errorf("left over: %s", left)
	}
}

// TestTooFewDescriptorsAreTold at start and at a reload, before calls are shed.
func TestTooFewDescriptorsAreTold(t *testing.T) {
	have, err := limits.Descriptors()
	if err != nil {
		t.Fatal(err)
	}
	const enough, tooMany = "max_sessions: 50", "max_sessions: 1000000"
	if have > 2000000 {
		t.Skipf("%d descriptors are enough for any max_sessions", have)
	}
	text := strings.Replace(file(quick, "127.0.0.1:1"), "  - address:", "  - "+enough+"\n    address:", 1)
	p := prepare(t, text)
	const said = "fewer descriptors than the listeners' max_sessions may need"
	if n := p.log.count(said); n != 0 {
		t.Errorf("it is said %d times with %s; want never: there are %d", n, enough, have)
	}
	p.run()
	p.write(strings.Replace(text, enough, tooMany, 1))
	if err := p.Reload(); err != nil {
		t.Fatal(err)
	}
	if n := p.log.count(said); n != 1 {
		t.Errorf("it is said %d times with %s; want once: there are %d", n, tooMany, have)
	}
}
