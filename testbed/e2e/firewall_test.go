package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"agiproxy/agi"
)

// reaches are lines that run a program on Asterisk's machine, or write a file
// there, at PATH. docs/firewall.md says how to refuse them; each was seen to work
// with Asterisk 22.10, whose live_dangerously is at its default, no.
var reaches = []string{
	`EXEC System "touch PATH"`,
	`"E"XEC  Sy\stem "touch PATH"`,
	`EXEC TrySystem "touch PATH"`,
	`EXEC Exec "System(touch PATH)"`,
	`EXEC TryExec "System(touch PATH)"`,
	`EXEC ExecIf "1?System(touch PATH)"`,
	`EXEC Originate "Local/run@lab,app,System,touch PATH"`,
	`GET VARIABLE "SHELL(touch PATH)"`,
	`GET FULL VARIABLE "${SHELL(touch PATH)}"`,
	`GET VARIABLE "EVAL(${SHELL(touch PATH)})"`,
	`GET VARIABLE "MASTER_CHANNEL(SHELL(touch PATH))"`,
	`SET VARIABLE "FILE(PATH)" x`,
	`EXEC Set "FILE(PATH)=x"`,
	`EXEC MSet "FILE(PATH)=x"`,
	`EXEC AGI "/usr/bin/touch,PATH"`,
}

// dangerous has Asterisk load what reaches needs, for one test.
func (s *suite) dangerous(t *testing.T) {
	t.Helper()
	for _, m := range []string{"app_system", "app_originate", "func_shell"} {
		s.module(t, "load", m)
		t.Cleanup(func() { s.module(t, "unload", m) })
	}
}

func (s *suite) module(t *testing.T, what, name string) {
	t.Helper()
	out, err := s.inLab("/usr/sbin/asterisk", "-C", "/lab/"+s.instance+"/etc/asterisk.conf", "-rx", "module "+what+" "+name+".so").CombinedOutput()
	if err != nil {
		t.Errorf("module %s %s: %v: %s", what, name, err, out)
	}
}

// reach writes a line's PATH, and returns where that file would be.
func (s *suite) reach(t *testing.T, i int, line string) (written, file string) {
	path := fmt.Sprintf("/lab/%s/run/%s-%d", s.instance, t.Name(), i)
	return strings.ReplaceAll(line, "PATH", path), filepath.Join(s.root, path)
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// Without agiproxy each of the lines works: else the other cases would prove
// nothing.
func TestReachesWithoutAProxy(t *testing.T) {
	s := begin(t)
	s.dangerous(t)
	x := s.dialled(t)
	for i, line := range reaches {
		line, file := s.reach(t, i, line)
		reply := x.ask(line)
		for end := time.Now().Add(3 * time.Second); !exists(file); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("%s: nothing has happened; Asterisk said %q", line, reply)
				break
			}
		}
	}
	x.end(t)
}

// An asking server is a FastAGI server whose scripts send lines and note what they
// are answered.
type askingServer struct {
	name, addr string

	mu      sync.Mutex
	replies []string
}

func (a *askingServer) entry() (name, addr string) { return a.name, a.addr }

func (s *suite) asking(t *testing.T, lines ...string) *askingServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	a := &askingServer{name: "asking", addr: ln.Addr().String()}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go a.serve(conn, lines)
		}
	}()
	return a
}

func (a *askingServer) serve(conn net.Conn, lines []string) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	in := bufio.NewReader(conn)
	for {
		ln, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if ln == "\n" {
			break
		}
	}
	for _, line := range append(lines[:len(lines):len(lines)], "SET VARIABLE SERVED "+a.name) {
		fmt.Fprintf(conn, "%s\n", line)
		reply, err := in.ReadString('\n')
		if err != nil {
			return
		}
		a.mu.Lock()
		a.replies = append(a.replies, strings.TrimSpace(reply))
		a.mu.Unlock()
	}
}

// What is denied doesn't happen, and the calls go on.
func TestFirewall(t *testing.T) {
	s := begin(t)
	s.dangerous(t)
	const n = 5
	var lines, files []string
	for i, line := range reaches {
		line, file := s.reach(t, i, line)
		lines, files = append(lines, line), append(files, file)
	}
	lines = append(lines,
		"DATABASE DELTREE agiproxy", "NOOP"+strings.Repeat(` ""`, 127), "NOOP"+strings.Repeat(` ""`, 2000), "\x00", "NOOP\x00", "NOOP x\x00 \"",
		"PHP Warning:  Undefined variable $x in /srv/ivr.php on line 3", "<br />", "")
	b := s.asking(t, lines...)
	p := s.proxy(t, s.pool(`
		health: {probe: none}
		commands: {deny: [EXEC System, EXEC TrySystem, EXEC Exec, EXEC TryExec, EXEC ExecIf, EXEC Originate, EXEC Set, EXEC MSet, EXEC AGI, DATABASE DELTREE, GET FULL VARIABLE, "GET VARIABLE SHELL(*", "GET VARIABLE EVAL(*", "GET VARIABLE MASTER_CHANNEL(*", "SET VARIABLE FILE(*"], strict: true}`, b))
	atRest := p.atRest(t)
	results := s.run(t, n, n, s.script("ivr"))
	mustBeServed(t, results)
	time.Sleep(500 * time.Millisecond) // what was started would be done
	for i, file := range files {
		if exists(file) {
			t.Errorf("%s was done", lines[i])
		}
	}
	refused := 0
	for _, reply := range b.replies {
		if reply == "510 Invalid or unknown command" {
			refused++
		}
	}
	if want := n * len(lines); refused != want || len(b.replies) != want+n {
		t.Errorf("%d of %d replies are 510; want %d, and one for each that is not: %q", refused, len(b.replies), want, b.replies)
	}
	p.account(t, results, map[string]int{"completed": n})
	got := s.prometheus.by(t, "agiproxy_denied_commands_total", "reason")
	for reason, want := range map[string]float64{"denied": n * float64(len(reaches)+1), "words": 2 * n, "nul": 3 * n, "not_agi": 3 * n} {
		if got[reason] != want {
			t.Errorf("agiproxy_denied_commands_total{reason=%q} is %v; want %v", reason, got[reason], want)
		}
	}
	p.mustLeakNothing(t, atRest)
}

// What hurts Asterisk is stopped without any rule. (Sent to it as it is, a line of
// 200 words that begin with quotes ended the process of Asterisk 22.10.)
func TestHurtfulLines(t *testing.T) {
	s := begin(t)
	lines := []string{"NOOP" + strings.Repeat(` ""`, 199), "NOOP" + strings.Repeat(` ""`, 2600), "\x00", "NOOP" + strings.Repeat(` ""`, agi.MaxWords-1)}
	b := s.asking(t, lines...)
	p := s.proxy(t, s.pool("health: {probe: none}", b))
	results := s.run(t, 20, 5, s.script("ivr"))
	mustBeServed(t, results)
	p.account(t, results, map[string]int{"completed": 20})
}

// Asterisk::AGI, the library of most Perl scripts, lives with a refusal: it takes it
// for a command that has failed, and the script goes on to its end.
func TestPerlLivesWithARefusal(t *testing.T) {
	s := begin(t)
	b := s.perl(t, "fork", "perl1")
	p := s.proxy(t, s.pool(`commands: {deny: [STREAM FILE]}`, b))
	results := s.run(t, 5, 5, s.script("ivr"))
	for _, r := range results {
		steps := strings.Join(b.steps()[r.uniqueID], ", ")
		if r.status != "SUCCESS" || r.proxyStatus != "" || steps != "begins, plays, ends" {
			t.Errorf("%v, and the script %s; want SUCCESS, and that it begins, plays, ends", r, steps)
		}
	}
	p.account(t, results, map[string]int{"completed": 5})
	if got := s.prometheus.sum(t, `agiproxy_denied_commands_total{command="STREAM FILE", reason="denied"}`); got != 5 {
		t.Errorf("%v prompts were refused; want one of each call", got)
	}
}
