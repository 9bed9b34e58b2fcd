package loop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSystemCallsOfALine counts what a loop asks of the kernel for each line
// that passes: it runs itself under strace, and is skipped where there is none.
func TestSystemCallsOfALine(t *testing.T) {
	const lines = 2000
	if os.Getenv(aloneEnv) != "" {
		r := newRelay(t)
		for range lines / 20 {
			r.lines()
		}
		mark := func() { on(t, r.loop, func() { _ = unix.Access("/a-mark-in-the-trace", 0) }) }
		mark()
		for range lines / 2 {
			r.lines()
		}
		mark()
		return
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("there is no strace")
	}
	trace := filepath.Join(t.TempDir(), "trace")
	if err := exec.Command(strace, "-o", trace, "true").Run(); err != nil {
		t.Skipf("strace may not trace: %v", err)
	}
	alone(t, strace, "-f", "-qq", "-e", "signal=none", "-o", trace)
	counts := countCalls(t, trace)
	t.Logf("%d lines: %v", lines, counts)
	// Strace makes lines slow, so that Go's scheduler looks after the loop more
	// often than it would.
	for _, own := range []string{"futex", "rt_sigreturn", "nanosleep", "sched_yield", "tgkill", "getpid"} {
		delete(counts, own)
	}
	want := map[string]float64{"recvfrom": 1, "sendto": 1, "epoll_pwait": 1}
	if testEngine() == IOURing {
		want = map[string]float64{"io_uring_enter": 1}
	}
	for call, n := range counts {
		if got := float64(n) / lines; got > want[call]+0.1 {
			t.Errorf("%.2f calls of %s a line; want %.0f", got, call, want[call])
		}
	}
}

// countCalls counts, by name, the calls of the loop's thread between its marks.
func countCalls(t *testing.T, trace string) map[string]int {
	t.Helper()
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	call := regexp.MustCompile(`^(\d+) +([a-z0-9_]+)\((.*)`)
	counts := map[string]int{}
	loop := ""
	for line := range strings.Lines(string(b)) {
		m := call.FindStringSubmatch(line)
		switch {
		case m == nil: // the rest of a call that was begun before
		case strings.Contains(m[3], "a-mark-in-the-trace"):
			if loop != "" {
				return counts
			}
			loop = m[1]
		case m[1] == loop:
			counts[m[2]]++
		}
	}
	t.Fatal(fmt.Errorf("no marks in the trace of %d bytes", len(b)))
	return nil
}
