package limits

import (
	"math"
	"syscall"
	"testing"
	"testing/fstest"
)

func TestMemory(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  uint64
	}{
		"no limit": {map[string]string{"proc/self/cgroup": "0::/\n"}, 0},
		"said so": {map[string]string{
			"proc/self/cgroup": "0::/system.slice/agiproxy.service\n", "sys/fs/cgroup/system.slice/agiproxy.service/memory.max": "max\n",
		}, 0},
		"a service's": {map[string]string{
			"proc/self/cgroup": "0::/system.slice/agiproxy.service\n", "sys/fs/cgroup/system.slice/agiproxy.service/memory.max": "268435456\n",
		}, 256 << 20},
		"memory.high is less": {map[string]string{
			"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "268435456\n", "sys/fs/cgroup/a/memory.high": "134217728\n",
		}, 128 << 20},
		"a group's above": {map[string]string{
			"proc/self/cgroup": "0::/a/b/c\n", "sys/fs/cgroup/a/memory.max": "1000000\n", "sys/fs/cgroup/a/b/c/memory.max": "2000000\n",
		}, 1000000},
		"a container's, with a group of its own": {map[string]string{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "268435456\n",
		}, 256 << 20},
		"a container's, which sees the host's path": {map[string]string{
			"proc/self/cgroup": "0::/docker/0123\n", "sys/fs/cgroup/memory.max": "268435456\n",
		}, 256 << 20},
		"version 1": {map[string]string{
			"proc/self/cgroup": "11:cpu,cpuacct:/x\n5:memory:/docker/0123\n1:name=systemd:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "268435456\n",
		}, 256 << 20},
		"version 1, no limit": {map[string]string{
			"proc/self/cgroup": "5:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 0},
		"nonsense": {map[string]string{
			"proc/self/cgroup": "nonsense\n\n0::/../..\n", "sys/fs/cgroup/memory.max": "-1\n",
		}, 0},
	} {
		root := fstest.MapFS{}
		for file, text := range c.files {
			root[file] = &fstest.MapFile{Data: []byte(text)}
		}
		if got, err := Memory(root); got != c.want || err != nil {
			t.Errorf("%s: Memory = %d, %v; want %d", name, got, err, c.want)
		}
	}
	if got, err := Memory(fstest.MapFS{}); err == nil {
		t.Errorf("without /proc: Memory = %d; want an error", got)
	}
}

func TestHeap(t *testing.T) {
	if got := Heap(1000); got != 900 {
		t.Errorf("Heap(1000) = %d; want 900: the rest is for what Go doesn't count", got)
	}
	if got := Heap(0); got != math.MaxInt64 {
		t.Errorf("Heap(0) = %d; want what Go takes for no limit", got)
	}
}

func TestDescriptors(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if got, err := Descriptors(); got != limit.Cur || got != limit.Max || err != nil {
		t.Errorf("Descriptors = %d, %v; want the %d that can be had", got, err, limit.Max)
	}
}
