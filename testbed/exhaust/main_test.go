//go:build linux

package exhaust

import (
	"cmp"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// binary is the program, built without the race detector, which would be most of
// what is measured.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("skipped: the attacks take a minute")
		return
	}
	os.Exit(build(m))
}

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "exhaust")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "agiproxy")
	cmd := exec.Command("go", "build", "-o", binary, "agiproxy/cmd/agiproxy")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// A program is agiproxy in a process of its own, so that its memory, its time and its
// descriptors are its own, too.
type program struct {
	t       *testing.T
	cmd     *exec.Cmd
	address string // of its only listener
}

// startProgram starts it with a listener's settings and pools; calls to "good" go to
// the pool of that name. With descriptors it has no more than that many. EXHAUST_ENGINE=io_uring
// has all tests use that engine.
func startProgram(t *testing.T, engine string, descriptors int, listener, pools string) *program {
	t.Helper()
	dir := t.TempDir()
	p := &program{t: t, address: freeAddress(t)}
	text := fmt.Sprintf("listeners: [{address: %q, %s}]\nadmin: {address: \"\"}\nlog: {level: error}\nloops: 1\nengine: %s\npools:\n%s", p.address, listener, cmp.Or(os.Getenv("EXHAUST_ENGINE"), engine), pools)
	file := filepath.Join(dir, "agiproxy.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{binary, "serve", "--config", file}
	if descriptors > 0 {
		args = append([]string{"sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$@"`, descriptors), "sh"}, args...)
	}
	var said strings.Builder
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Stderr = &said
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended
		_ = p.cmd.Wait()         // killed
		if t.Failed() {
			t.Logf("agiproxy said:\n%s", said.String())
		}
	})
	within(t, 20*time.Second, "agiproxy listens", func() bool {
		c, err := net.Dial("tcp", p.address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return p
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// within waits until something is so.
func within(t *testing.T, limit time.Duration, what string, is func() bool) {
	t.Helper()
	for late := time.Now().Add(limit); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// rss returns the bytes of memory that it has.
func (p *program) rss() (n int64) {
	p.t.Helper()
	// Exact, where status may be some pages behind for each thread.
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\nRss:")
	if _, err := fmt.Sscan(rest, &n); err != nil {
		p.t.Fatal(err)
	}
	return n << 10
}

// cpu returns the processor time that its threads have used.
func (p *program) cpu() (sum time.Duration) {
	p.t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	if err != nil || len(tasks) == 0 {
		p.t.Fatalf("threads of agiproxy: %v, %v", tasks, err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		var ns int64
		if _, err := fmt.Sscan(string(text), &ns); err != nil {
			p.t.Fatal(err)
		}
		sum += time.Duration(ns)
	}
	return sum
}

// descriptors returns how many it has.
func (p *program) descriptors() int {
	p.t.Helper()
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(names)
}

// wantMemory sees that n attackers have cost no more than each of them may, besides
// what Go's collector leaves lying about.
func (p *program) wantMemory(before int64, n int, each int64, why string) {
	p.t.Helper()
	const slack = 16 << 20
	got := p.rss() - before
	p.t.Logf("%d of them: %.1f MiB more memory, %d bytes each", n, float64(got)/(1<<20), got/int64(n))
	if most := slack + int64(n)*each; got > most {
		p.t.Errorf("%d of them cost %d bytes; want at most %d, %d each: %s", n, got, most, each, why)
	}
}

// wantIdle sees that nothing costs nothing.
func (p *program) wantIdle() {
	p.t.Helper()
	const look = 2 * time.Second
	before := p.cpu()
	time.Sleep(look)
	got := p.cpu() - before
	p.t.Logf("%v of processor time in %v of silence", got.Round(time.Millisecond), look)
	if got > look/20 {
		p.t.Errorf("%v of processor time in %v of silence; want next to nothing", got, look)
	}
}
