package proxy

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"
)

// TestMain fails if the tests have left goroutines behind: a session starts
// none. (Fuzzing does, and doesn't end them.)
func TestMain(m *testing.M) {
	before := runtime.NumGoroutine()
	code := m.Run()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(code)
	}
	for wait := 0; code == 0 && runtime.NumGoroutine() > before; wait++ {
		if wait < 200 {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		stacks := make([]byte, 1<<20)
		fmt.Fprintf(os.Stderr, "left over: %d goroutines, began with %d\n%s\n", runtime.NumGoroutine(), before,
			stacks[:runtime.Stack(stacks, true)])
		code = 1
	}
	os.Exit(code)
}
