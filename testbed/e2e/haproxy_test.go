package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// haproxy starts HAProxy in agiproxy's place, as somebody who knows it would set it
// up for FastAGI, or skips the test where there is none.
func (s *suite) haproxy(t *testing.T, backends ...backend) *process {
	t.Helper()
	binary, err := exec.LookPath("haproxy")
	if err != nil {
		t.Skip("there is no haproxy; testbed/chaos installs it")
	}
	config := filepath.Join(s.artefacts, "haproxy.cfg")
	if err := os.WriteFile(config, []byte(s.haproxyConfig(backends...)), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := s.start("haproxy", exec.Command(binary, "-db", "-f", config))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	eventually(t, 10*time.Second, "HAProxy listens", func() bool {
		select {
		case <-p.exited:
			t.Fatalf("HAProxy has ended: %v; its log:\n%s", p.cmd.ProcessState, p.log())
		default:
		}
		c, err := net.Dial("tcp", s.front)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
	return p
}

// haproxyConfig tries another server when one refuses, checks all of them as often
// as agiproxy does, cuts the calls of one that is down, and has no time limit that
// could end a call.
func (s *suite) haproxyConfig(backends ...backend) string {
	var b strings.Builder
	fmt.Fprintf(&b, `global
    maxconn 2000
defaults
    mode tcp
    timeout connect 1s
    timeout client 2h
    timeout server 2h
    retries 3
    option redispatch 1
    option clitcpka
    option srvtcpka
frontend asterisk
    bind %s
    default_backend ivr
backend ivr
    balance leastconn
    default-server check inter 500ms fastinter 200ms rise 2 fall 2 on-marked-down shutdown-sessions
`, s.front)
	for _, be := range backends {
		name, addr := be.entry()
		fmt.Fprintf(&b, "    server %s %s\n", name, addr)
	}
	return b.String()
}
