package loop

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A thread is a loop's, as the kernel keeps account of it.
type thread struct {
	t    testing.TB
	path string
}

func threadOf(t testing.TB, l *Loop) thread {
	t.Helper()
	var id int
	on(t, l, func() { id = unix.Gettid() })
	return thread{t, fmt.Sprintf("/proc/self/task/%d/", id)}
}

func (th thread) file(name string) string {
	b, err := os.ReadFile(th.path + name)
	if err != nil {
		th.t.Fatal(err)
	}
	return string(b)
}

// count returns what a line of such a file says, as "syscr: 5".
func (th thread) count(file, key string) int {
	for line := range strings.Lines(th.file(file)) {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				th.t.Fatal(err)
			}
			return n
		}
	}
	th.t.Fatalf("no %s in %s%s", key, th.path, file)
	return 0
}

// reads and writes return how many of these system calls it has made.
func (th thread) reads() int  { return th.count("io", "syscr") }
func (th thread) writes() int { return th.count("io", "syscw") }

// sleeps returns how often it has begun to wait.
func (th thread) sleeps() int { return th.count("status", "voluntary_ctxt_switches") }

// processorOf returns how much time the loop's thread has had.
func processorOf(t testing.TB, l *Loop) time.Duration {
	t.Helper()
	var ts unix.Timespec
	on(t, l, func() {
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
			t.Error(err)
		}
	})
	return time.Duration(ts.Nano())
}

// An account is of the system calls that a loop makes while a benchmark runs.
type account struct {
	thread        thread
	reads, writes int
}

func newAccount(b *testing.B, l *Loop) *account {
	th := threadOf(b, l)
	return &account{th, th.reads(), th.writes()}
}

func (a *account) report(b *testing.B) {
	b.ReportMetric(float64(a.thread.reads()-a.reads)/float64(b.N), "reads/op")
	b.ReportMetric(float64(a.thread.writes()-a.writes)/float64(b.N), "writes/op")
}
