package app

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
)

// TestMain fails if the tests have left goroutines or descriptors behind.
func TestMain(m *testing.M) {
	// The runtime opens a poller of its own when it first needs one.
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		ln.Close()
	}
	before := holdings()
	code := m.Run()
	if left := before.left(); code == 0 && left != "" {
		fmt.Fprintln(os.Stderr, "left over:", left)
		code = 1
	}
	os.Exit(code)
}

// held is what a process may forget to give back.
type held struct {
	goroutines int
	files      descriptors
}

// descriptors are this process's, with what each of them is; nil where there is
// no /proc.
type descriptors map[string]string

func openFiles() descriptors {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	all := descriptors{}
	for _, e := range entries {
		if what, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			all[e.Name()] = what
		}
	}
	return all
}

// left returns what is open and was not at the time of d.
func (d descriptors) left() (left []string) {
	for fd, what := range openFiles() {
		if d[fd] != what {
			left = append(left, what)
		}
	}
	return left
}

func holdings() held { return held{runtime.NumGoroutine(), openFiles()} }

// left waits until there is no more than at the time of h, for two seconds, and
// returns what is left, "" if nothing is.
func (h held) left() string {
	for range 200 {
		if runtime.NumGoroutine() <= h.goroutines && h.files.left() == nil {
			return ""
		}
		time.Sleep(10 * time.Millisecond)
	}
	if files := h.files.left(); files != nil {
		return fmt.Sprintf("files %q", files)
	}
	stacks := make([]byte, 1<<20)
	return fmt.Sprintf("%d goroutines, began with %d\n%s", runtime.NumGoroutine(), h.goroutines, stacks[:runtime.Stack(stacks, true)])
}
