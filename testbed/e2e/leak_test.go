package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// channels returns how many channels Asterisk has, as "core show channels" does.
func (s *suite) channels(t *testing.T) int {
	t.Helper()
	m, err := s.ami.do("Command", field{"Command", "core show channels count"})
	if err != nil {
		t.Fatal(err)
	}
	count, _, _ := strings.Cut(m["Output"], " active channel")
	n, err := strconv.Atoi(count)
	if err != nil {
		t.Fatalf("core show channels count: %q", m["Output"])
	}
	return n
}

// eventuallyNoChannels waits until Asterisk has no channel. Those of calls whose
// results are known take a moment to go.
func (s *suite) eventuallyNoChannels(t *testing.T, limit time.Duration) {
	t.Helper()
	n := 0
	defer func() {
		if t.Failed() {
			t.Logf("core show channels: %d", n)
		}
	}()
	eventually(t, limit, "no channel is left", func() bool {
		n = s.channels(t)
		return n == 0
	})
}

// descriptors returns how many files and sockets the process has open.
func (p *process) descriptors(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

// atRest returns how many descriptors agiproxy has open while there is no call,
// those of probes and scrapes included, which come and go.
func (p *proxy) atRest(t *testing.T) int {
	t.Helper()
	p.suite.prometheus.scraped(t)
	most := 0
	for range 50 {
		most = max(most, p.descriptors(t))
		time.Sleep(10 * time.Millisecond)
	}
	return most
}

// mustLeakNothing fails the test unless all that the calls have taken is given back:
// Asterisk's channels, agiproxy's sessions, and its descriptors but for those that it
// had at rest.
func (p *proxy) mustLeakNothing(t *testing.T, atRest int) {
	t.Helper()
	p.suite.eventuallyNoChannels(t, 10*time.Second)
	p.suite.prometheus.scraped(t)
	if n := p.suite.prometheus.sum(t, "agiproxy_sessions_active"); n != 0 {
		t.Errorf("agiproxy_sessions_active: %v after the last call; want 0", n)
	}
	n := 0
	defer func() {
		if t.Failed() {
			t.Logf("descriptors of agiproxy: %d; at rest %d", n, atRest)
		}
	}()
	eventually(t, 10*time.Second, "agiproxy's descriptors are given back", func() bool {
		n = p.descriptors(t)
		return n <= atRest
	})
}
