package health

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"
)

// TestMain fails if the tests have left goroutines or descriptors behind.
func TestMain(m *testing.M) {
	goroutines, files := runtime.NumGoroutine(), openFiles()
	code := m.Run()
	if code == 0 && !settle(func() bool { return runtime.NumGoroutine() <= goroutines }) {
		stacks := make([]byte, 1<<20)
		fmt.Fprintf(os.Stderr, "left over: %d goroutines, began with %d\n%s\n", runtime.NumGoroutine(), goroutines,
			stacks[:runtime.Stack(stacks, true)])
		code = 1
	}
	// The network poller opens a few of its own, once. A test server that copies
	// from socket to socket has pipes, which the garbage collector closes.
	if code == 0 && !settle(func() bool { runtime.GC(); return openFiles() <= files+4 }) {
		fmt.Fprintf(os.Stderr, "left over: %d open files, began with %d\n", openFiles(), files)
		entries, _ := os.ReadDir("/proc/self/fd")
		for _, e := range entries {
			l, _ := os.Readlink("/proc/self/fd/" + e.Name())
			fmt.Fprintln(os.Stderr, e.Name(), l)
		}
		code = 1
	}
	os.Exit(code)
}

// settle reports whether cond comes true within two seconds.
func settle(cond func() bool) bool {
	for range 200 {
		if cond() {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return cond()
}

// openFiles counts this process's descriptors; 0 where there is no /proc.
func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}
