package sim_test

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"testing"

	"agiproxy/internal/loop"
)

// testEngine is how the loops work that are compared with the simulation.
func testEngine() loop.Engine {
	return cmp.Or(loop.Engine(os.Getenv("LOOP_TEST_ENGINE")), loop.Epoll)
}

// TestMain gives loops, which keep their processor while they wait, and tests,
// two of which run at a time, one each.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(max(8, runtime.GOMAXPROCS(0)))
	if l, err := loop.New(loop.Options{Engine: testEngine()}); err != nil {
		fmt.Println("skipped:", err)
		return
	} else {
		l.Stop()
		l.Run() // which closes it, being stopped
	}
	os.Exit(m.Run())
}
