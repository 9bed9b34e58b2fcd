package netns

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A lab is a real Asterisk on the stage, in place of the scripted one.
type lab struct {
	dir      string // what testbed/asterisk/setup.sh has built
	instance string
	stay     time.Duration // of each caller
}

// lab starts the Asterisk, on the host where it belongs. Its callers stay for so long.
func (s *stage) lab(t *testing.T, stay time.Duration) *lab {
	t.Helper()
	l := &lab{dir: os.Getenv("AGIPROXY_LAB"), stay: stay}
	dir, err := os.MkdirTemp(filepath.Join(l.dir, "root", "lab"), "netns-")
	if err != nil {
		t.Fatalf("the lab, which testbed/asterisk/setup.sh builds: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // Asterisk is not root
		t.Fatal(err)
	}
	l.instance = filepath.Base(dir)
	cmd := exec.Command("../asterisk/start.sh", l.dir, l.instance)
	cmd.Env = append(os.Environ(), "FOREGROUND=1", "AGI_ADDR="+front)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.pbx.start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		kill(t, cmd.Process.Pid)
		cmd.Wait()
	})
	eventually(t, time.Minute, "Asterisk is up", func() bool {
		return strings.Contains(l.console("core waitfullybooted"), "fully booted")
	})
	return l
}

// console returns what Asterisk says to a command of its console.
func (l *lab) console(command string) string {
	conf := "/lab/" + l.instance + "/etc/asterisk.conf"
	out, _ := exec.Command("chroot", filepath.Join(l.dir, "root"), "asterisk", "-C", conf, "-rx", command).CombinedOutput()
	return string(out)
}

// A realCall is one that the real Asterisk makes. Its script's path is its name.
type realCall struct {
	script string
	said   chan string // what the dialplan has said about it
}

// call places a call for a script that runs these commands.
func (l *lab) call(script string, do ...string) *realCall { return l.callWith("", script, do...) }

// callWith is call for a script with a query that says how the server fails.
func (l *lab) callWith(query, script string, do ...string) *realCall {
	c := &realCall{script: script, said: make(chan string, 1)}
	cmd := exec.Command("../asterisk/call.sh", "run", strconv.Itoa(int(l.stay.Seconds())), l.dir, l.instance)
	cmd.Env = append(os.Environ(), "AGIURL=agi://"+front+"/"+script+"?"+query+url.Values{"do": do}.Encode())
	go func() {
		out, err := cmd.CombinedOutput()
		if err != nil {
			out = fmt.Append(out, err)
		}
		c.said <- string(out)
	}()
	return c
}

var resultLine = regexp.MustCompile(`AGISTATUS=(\S*) AGIPROXYSTATUS=(\S*) begun=(\S*) served=(\S*)`)

// dialplan waits for what the dialplan saw of a call.
func (s *stage) dialplan(c *realCall, since time.Time, limit time.Duration) (status, proxyStatus, served string) {
	s.t.Helper()
	select {
	case said := <-c.said:
		m := resultLine.FindStringSubmatch(said)
		if m == nil {
			s.t.Fatalf("%s: the dialplan said %q", c.script, said)
		}
		s.t.Logf("%s: %s after %v", c.script, m[0], time.Since(since).Round(100*time.Millisecond))
		return m[1], m[2], m[4]
	case <-time.After(limit - time.Since(since)):
		s.t.Fatalf("%s has not ended within %v", c.script, limit)
		return "", "", ""
	}
}

// outcome waits for agiproxy's record of a call.
func (s *stage) outcome(c *realCall, limit time.Duration) (outcome string) {
	s.t.Helper()
	eventually(s.t, limit, "a session record of "+c.script, func() bool {
		for lines := bufio.NewScanner(bytes.NewReader([]byte(s.proxy.log()))); lines.Scan(); {
			var r struct{ Outcome, Script string }
			if json.Unmarshal(lines.Bytes(), &r) == nil && r.Outcome != "" && r.Script == c.script {
				outcome = r.Outcome
				return true
			}
		}
		return false
	})
	return outcome
}

// playing waits until the backend's script has had its first command answered, and the
// second has come to Asterisk.
func (s *stage) playing(b *backend, c *realCall) {
	s.t.Helper()
	eventually(s.t, slack, c.script+" is under way on "+b.name, func() bool {
		for _, session := range b.Calls() {
			if strings.HasPrefix(session.Script, c.script+"?") && session.Commands == 1 {
				return true
			}
		}
		return false
	})
	time.Sleep(200 * time.Millisecond)
}

// TestRealAsteriskLosesBackends has a backend vanish and another one reboot while a real
// Asterisk obeys them.
func TestRealAsteriskLosesBackends(t *testing.T) {
	s := empty(t, "vanishing", "rebooting")
	config := configuration("", fmt.Sprintf("{name: vanishing, address: %q}", s.backends[0].Addr())) +
		fmt.Sprintf("\n  other:\n    health: {probe: none}\n    backends: [{name: rebooting, address: %q}]\n", s.backends[1].Addr()) +
		"routes:\n  - {match: {script: \"vanishing*\"}, pool: ivr}\n  - {pool: other}\n"
	s.proxy = s.startProxy(t, config)
	l := s.lab(t, 90*time.Second)
	vanishing := l.call("vanishing", "WAIT FOR DIGIT 85000")
	inBackendsTurn := l.call("vanishing-in-its-turn", "WAIT FOR DIGIT 5000")
	rebooting := l.call("rebooting", "WAIT FOR DIGIT 85000")
	beforeReply := l.call("rebooting-before-the-reply", "EXEC Wait 5")
	s.playing(s.backends[0], vanishing)
	s.playing(s.backends[0], inBackendsTurn)
	s.playing(s.backends[1], rebooting)
	s.playing(s.backends[1], beforeReply)
	begun := s.vanishes(s.backends[0])
	s.backends[1].reboot(t)
	for _, c := range []struct {
		call  *realCall
		limit time.Duration
	}{
		{beforeReply, 5*time.Second + slack},
		{rebooting, youth + keepIdle + slack},
		{vanishing, youth + userTimeout + slack},
		{inBackendsTurn, 5*time.Second + youth + userTimeout + slack},
	} {
		status, why, _ := s.dialplan(c.call, begun, c.limit)
		if outcome := s.outcome(c.call, slack); status != "FAILURE" || why != "BACKENDLOST" || outcome != "lost" {
			t.Errorf("%s: AGISTATUS=%s AGIPROXYSTATUS=%s outcome %s; want FAILURE, BACKENDLOST, lost", c.call.script, status, why, outcome)
		}
	}
	s.mustRest(slack)
	l.mustRest(t)
}

// TestRealAsteriskVanishes cuts a real Asterisk off from agiproxy, which ends what has
// become of the calls. Asterisk knows nothing of that, when it is reachable again either,
// until it has something to say: a command's reply, or that the caller has left.
func TestRealAsteriskVanishes(t *testing.T) {
	s := begin(t, "hangup_timeout: 2s", "ivr1")
	l := s.lab(t, 85*time.Second)
	inItsTurn := l.call("its-turn", "WAIT FOR DIGIT 80000")
	inBackendsTurn := l.callWith("fault=slow&delay=4s&", "the-backends-turn", "NOOP")
	s.playing(s.backends[0], inItsTurn)
	eventually(t, slack, "both calls are there", func() bool { return s.backends[0].Stats().Headers == 2 })
	s.asteriskVanishes()
	begun := time.Now()
	for _, c := range []*realCall{inItsTurn, inBackendsTurn} {
		if outcome := s.outcome(c, 4*time.Second+youth+userTimeout+slack-time.Since(begun)); outcome != "hangup" {
			t.Errorf("%s: outcome %s; want hangup", c.script, outcome)
		}
	}
	eventually(t, slack, "the scripts end", func() bool { return s.backends[0].Stats().Active == 0 })
	s.mustRest(slack)
	s.network.between(s.pbx, s.proxy.host, trouble{})
	if _, _, served := s.dialplan(inItsTurn, begun, 80*time.Second+slack); served != "" {
		t.Errorf("%s: served by %s; want nobody: its script has ended before that", inItsTurn.script, served)
	}
	if status, _, served := s.dialplan(inBackendsTurn, begun, l.stay+slack); status != "HANGUP" || served != "" {
		t.Errorf("%s: AGISTATUS=%s served=%s; want HANGUP, when the caller left", inBackendsTurn.script, status, served)
	}
	l.mustRest(t)
}

// mustRest waits until Asterisk has no channel, once all callers have left.
func (l *lab) mustRest(t *testing.T) {
	t.Helper()
	l.console("channel request hangup all")
	eventually(t, slack, "no channel is left", func() bool {
		return strings.Contains(l.console("core show channels count"), "0 active channels")
	})
}
