package main

import (
	"math"
	"runtime/debug"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/hashicorp/go-hclog"
)

// TestHeapIsLimitedByTheControlGroup unless the environment has said by how much.
func TestHeapIsLimitedByTheControlGroup(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	limited := fstest.MapFS{
		"proc/self/cgroup":         {Data: []byte("0::/\n")},
		"sys/fs/cgroup/memory.max": {Data: []byte("1048576000\n")},
	}
	free := fstest.MapFS{"proc/self/cgroup": {Data: []byte("0::/\n")}}
	for _, c := range []struct {
		name, env string
		root      fstest.MapFS
		want      int64
		said      string
	}{
		{"no limit", "", free, math.MaxInt64, `memory="no limit"`},
		{"a control group's", "", limited, 943718400, `memory="900MiB by control group"`},
		{"the environment's", "600MiB", limited, 600 << 20, `memory="600MiB by GOMEMLIMIT"`},
	} {
		t.Setenv("GOMEMLIMIT", c.env)
		if c.env != "" {
			debug.SetMemoryLimit(c.want) // as Go's runtime does when it starts
		}
		var log strings.Builder
		limitHeap(c.root, hclog.New(&hclog.LoggerOptions{Output: &log}))
		if got := debug.SetMemoryLimit(-1); got != c.want {
			t.Errorf("%s: the limit is %d; want %d", c.name, got, c.want)
		}
		if !strings.Contains(log.String(), "limits: descriptors=") || !strings.Contains(log.String(), c.said) {
			t.Errorf("%s: the log says %q; want the descriptors, and %s", c.name, log.String(), c.said)
		}
	}
}
