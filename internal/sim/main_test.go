package sim_test

import (
	"os"
	"runtime"
	"testing"
)

// TestMain gives loops, which keep their processor while they wait, and tests,
// two of which run at a time, one each.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(max(8, runtime.GOMAXPROCS(0)))
	os.Exit(m.Run())
}
