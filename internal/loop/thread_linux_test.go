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
