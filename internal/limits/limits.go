// Package limits tells what the system lets this process have.
package limits

import (
	"fmt"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// heapPart is how much of a group's memory Go gets: the rest is for what its limit
// doesn't count, as the program itself and what the kernel keeps of its sockets.
const heapPart = 0.9

// Heap returns what Go's memory limit should be in a group of processes that may use
// so many bytes, 0 for none.
func Heap(memory uint64) int64 {
	if memory == 0 {
		return math.MaxInt64
	}
	return int64(float64(memory) * heapPart)
}

// Memory returns how many bytes the process's control group may use, as of a service
// with MemoryMax= or a container with a limit; 0 means no limit. Root is the system's
// root directory. The groups above have limits, too, and the least one counts.
func Memory(root fs.FS) (uint64, error) {
	text, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0, fmt.Errorf("find control group: %w", err)
	}
	least := uint64(math.MaxUint64)
	for line := range strings.Lines(string(text)) {
		// hierarchy:controllers:path, of which version 2 has one without controllers
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		switch {
		case f[0] == "0" && f[1] == "":
			least = min(least, leastOf(root, "sys/fs/cgroup", f[2], "memory.max", "memory.high"))
		case f[1] == "memory":
			least = min(least, leastOf(root, "sys/fs/cgroup/memory", f[2], "memory.limit_in_bytes"))
		}
	}
	// Version 1 says by a number of this size that there is none.
	if least >= math.MaxInt64>>12<<12 {
		return 0, nil
	}
	return least, nil
}

// leastOf returns the least limit of a group and those above it. In a container the
// path may be one of outside, which isn't there; the mount's root is its own.
func leastOf(root fs.FS, mount, group string, files ...string) uint64 {
	least := uint64(math.MaxUint64)
	for dir := path.Clean("/" + group); ; dir = path.Dir(dir) {
		for _, file := range files {
			text, err := fs.ReadFile(root, path.Join(mount, dir, file))
			if err != nil {
				continue
			}
			if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 { // or "max"
				least = min(least, n)
			}
		}
		if dir == "/" {
			return least
		}
	}
}
