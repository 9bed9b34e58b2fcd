package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"agiproxy/admin"
	"agiproxy/internal/agisim"
)

// operated is a proxy that an operator's commands are tried on.
type operated struct {
	*served
	t      *testing.T
	file   string
	admin  string
	call   chan agisim.Result
	hangUp func() // ends the calls
}

// operate starts a proxy with a pool of two backends, of which ivr1 serves, and
// one whose only backend has the name of ivr2.
func operate(t *testing.T) *operated {
	t.Helper()
	released := make(chan struct{})
	script := func(s *agisim.Session) {
		s.Command("GET VARIABLE PIN")
		<-released
		s.Command("NOOP \x1b[2J")
	}
	one, two := backend(t, script), backend(t, script)
	o := &operated{t: t, call: make(chan agisim.Result, 10), hangUp: sync.OnceFunc(func() { close(released) })}
	t.Cleanup(o.hangUp)
	o.file = write(t, "two.yaml", fmt.Sprintf(`
listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
pools:
  ivr:
    balance: first
    health: {probe: none}
    backends: [{name: ivr1, address: %q}, {name: ivr2, address: %q, max_sessions: 5}]
  night:
    health: {probe: none}
    backends: [{name: ivr2, address: %q}]
routes: [{match: {script: night}, pool: night}, {pool: ivr}]
`, one.Addr(), two.Addr(), two.Addr()))
	o.served = start(t, o.file)
	o.admin = o.app.AdminAddr()
	t.Cleanup(func() {
		o.hangUp()
		o.signals <- os.Interrupt
		o.end(t)
	})
	return o
}

// calls places a call, and waits until it is served.
func (o *operated) calls() {
	o.t.Helper()
	before := o.app.Status().Pools[0].Backends[0].Sessions
	go func() {
		var a agisim.Asterisk
		call, err := agisim.NewCall("agi://" + o.app.Addr().String() + "/menu")
		if err != nil {
			o.t.Error(err)
		}
		call.Environment.CallerID, call.Environment.UniqueID = "5551234", "1795373249.33"
		o.call <- a.Run(o.t.Context(), call)
	}()
	within(o.t, 5*time.Second, "a command", func() bool {
		_, out, _ := o.run("sessions")
		return o.app.Status().Pools[0].Backends[0].Sessions > before && strings.Contains(out, "GET VARIABLE")
	})
}

// run runs a command against the proxy.
func (o *operated) run(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(append(args, "--admin", o.admin), &out, &err)
	return code, out.String(), err.String()
}

// want runs a command, and looks whether each line of its output matches.
func (o *operated) want(code int, args string, lines ...string) {
	o.t.Helper()
	got, stdout, stderr := o.run(strings.Fields(args)...)
	text := strings.Split(strings.TrimSuffix(stdout+stderr, "\n"), "\n")
	ok := got == code && len(text) == len(lines)
	for i := range lines {
		ok = ok && regexp.MustCompile("^"+lines[i]+"$").MatchString(text[i])
	}
	if !ok {
		o.t.Errorf("%s: exit code %d\n%s%s\nwant %d\n%s", args, got, stdout, stderr, code, strings.Join(lines, "\n"))
	}
}

const (
	backendsHead = `POOL +BACKEND +STATE +SINCE +SESSIONS +OLDEST +WEIGHT +TOTAL +FIRST COMMAND +WHY`
	sessionsHead = `ID +STATE +POOL +BACKEND +SCRIPT +CALLER +UNIQUEID +AGE +TURN +FOR +COMMAND`
	someTime     = `[0-9.]+(s|ms|µs)`
)

func TestStatusCommand(t *testing.T) {
	o := operate(t)
	o.calls()
	o.want(0, "status",
		`agiproxy , up `+someTime+`, 1 session, \d+ loops? \(\w+\)`,
		"",
		backendsHead,
		`ivr +ivr1 +up +`+someTime+` +1 +`+someTime+` +1 +1 +<`+someTime+` 99%<`+someTime+` +assumed: it isn't probed`,
		`ivr +ivr2 +up +`+someTime+` +0/5 +- +1 +0 +- +assumed: it isn't probed`,
		`night +ivr2 +up +`+someTime+` +0 +- +1 +0 +- +assumed: it isn't probed`,
	)
	o.want(0, "drain night/ivr2", backendsHead, `night +ivr2 +drained .* by an operator`,
		"agiproxy: drain: pool night has no backend left that can serve; agiproxy enable ivr2 takes this one back")
	code, stdout, stderr := o.run("status")
	if code != 1 || !strings.Contains(stdout, "drained") || stderr != "agiproxy: status: not ready: pool night: no backend can serve\n" {
		t.Errorf("status of a pool that can't serve: %d, %s; want 1, and why", code, stderr)
	}
	var all struct {
		Status admin.Status
		Pools  []admin.Pool
	}
	_, stdout, _ = o.run("status", "--output", "json")
	if err := json.Unmarshal([]byte(stdout), &all); err != nil || all.Status.Sessions != 1 || len(all.Pools) != 2 {
		t.Errorf("status as JSON: %v, %s", err, stdout)
	}
}

func TestBackendCommands(t *testing.T) {
	o := operate(t)
	o.calls()
	o.want(0, "weight ivr1 7", backendsHead, `ivr +ivr1 +up .* 7 +1 .*`)
	o.want(0, "drain ivr1 --deadline 1h", backendsHead, `ivr +ivr1 +drained .* by an operator, sessions end in (1h00m|59m\d\ds)`)
	o.want(0, "enable ivr/ivr1", backendsHead, `ivr +ivr1 +up .*`)
	o.want(0, "disable ivr1", backendsHead, `ivr +ivr1 +drained .*`)
	if r := <-o.call; r.ProxyStatus() != "BACKENDLOST" {
		t.Errorf("the call: %+v; want its backend lost", r)
	}
	o.want(0, "drain ivr1 --wait", backendsHead, `ivr +ivr1 +drained .*`, "ivr1 is empty")

	o.want(2, "drain ivr2", `agiproxy: drain: backend "ivr2" is in several pools; want one of ivr/ivr2, night/ivr2`)
	o.want(1, "drain ivr9", `agiproxy: drain: no backend "ivr9"; agiproxy status shows them`)
	o.want(2, "drain", `agiproxy: drain: 0 arguments given; want one BACKEND; see agiproxy drain --help`)
	o.want(2, "drain ivr1 --deadline -1s", `agiproxy: drain: --deadline -1s; want a time, or none`)
	o.want(2, "weight ivr1 0", `agiproxy: weight: weight "0"; want 1 to 256, or agiproxy drain for none`)
	o.want(2, "status --output xml", `agiproxy: status: --output "xml"; want table or json`)
	o.want(2, "status --password-file /no/such", `agiproxy: status: open /no/such: no such file or directory`)

	var b admin.Backend
	_, stdout, _ := o.run("enable", "ivr1", "--output", "json")
	if err := json.Unmarshal([]byte(stdout), &b); err != nil || b.Name != "ivr1" || b.State != "up" {
		t.Errorf("enable as JSON: %v, %s", err, stdout)
	}
}

func TestDrainWaits(t *testing.T) {
	o := operate(t)
	o.calls()
	done := make(chan string, 1)
	go func() {
		code, stdout, stderr := o.run("drain", "ivr1", "--wait")
		done <- fmt.Sprint(code, " ", stdout, stderr)
	}()
	within(t, 5*time.Second, "the drain", func() bool { return o.app.Status().Pools[0].Backends[0].State == "drained" })
	o.hangUp()
	if got := <-done; !strings.HasPrefix(got, "0 ") || !strings.HasSuffix(got, "old\nivr1 is empty\n") || !strings.Contains(got, "\n1 session left, the oldest ") {
		t.Errorf("drain --wait: %s; want the session that was left, and its end", got)
	}
}

func TestSessionCommands(t *testing.T) {
	o := operate(t)
	o.want(0, "sessions", sessionsHead)
	o.calls()
	row := `1 +relaying +ivr +ivr1 +menu +5551234 +1795373249.33 +` + someTime + ` +backend +` + someTime + ` +GET VARIABLE`
	o.want(0, "sessions", sessionsHead, row)
	o.want(0, "sessions --caller 5551234 --pool ivr", sessionsHead, row)
	o.want(0, "sessions --caller 1", sessionsHead)
	o.want(1, "sessions --limit 0", `agiproxy: sessions: limit: "0"; want 1 to 10000`)
}

func TestTraceAndKillCommands(t *testing.T) {
	o := operate(t)
	o.calls()
	o.want(1, "trace 1795", `agiproxy: trace: "1795": no such session`)
	o.want(1, "kill 9", `agiproxy: kill: "9": no such session`)
	traced := make(chan string, 1)
	go func() {
		code, stdout, stderr := o.run("trace", "5551234")
		traced <- fmt.Sprint(code, " ", stdout, stderr)
	}()
	within(t, 5*time.Second, "the trace", func() bool { return strings.Contains(o.log.String(), "operator traces session") })
	o.want(0, "kill uniqueid:1795373249.33", sessionsHead, `1 +relaying .*`)
	if r := <-o.call; r.ProxyStatus() != "KILLED" {
		t.Errorf("the call: %+v; want it killed", r)
	}
	got := regexp.MustCompile(`\d\d:\d\d:\d\d\.\d{3}`).ReplaceAllString(<-traced, "T")
	want := "0 T  agiproxy  SET VARIABLE AGIPROXYSTATUS KILLED\nT  asterisk  200 result=1\nT  agiproxy  failure\nT  asterisk  HANGUP\n"
	if got != want {
		t.Errorf("traced\n%s\nwant\n%s", got, want)
	}
}

func TestReloadCommand(t *testing.T) {
	o := operate(t)
	o.want(0, "reload", "reloaded")
	file, err := os.ReadFile(o.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.file, append(file, "engine: epoll\nloops: 7\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	o.want(0, "reload", "reloaded", "changed in the file, and not in force before a restart or an upgrade: loops, engine")
	if err := os.WriteFile(o.file, []byte("pools: {ivr: {atempts: 3, backends: []}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o.want(1, "reload",
		`agiproxy: reload: .*two.yaml:1:9: pool "ivr": no backends.*`,
		`agiproxy: .*two.yaml:1:15: unknown key "atempts".*`)
}

func TestCommandsWithoutAProxy(t *testing.T) {
	for _, command := range []string{"status", "sessions", "reload", "upgrade", "trace 1", "kill 1", "drain x", "enable x", "disable x", "weight x 1"} {
		var stdout, stderr strings.Builder
		code := run(append(strings.Fields(command), "--admin", "127.0.0.1:1"), &stdout, &stderr)
		name, _, _ := strings.Cut(command, " ")
		if want := "agiproxy: " + name + ": nobody answers at 127.0.0.1:1: agiproxy doesn't run there, or has its admin port elsewhere (--admin URL)\n"; code != 1 || stderr.String() != want || stdout.Len() > 0 {
			t.Errorf("%s: %d, %q, %q; want 1, and %q", command, code, stdout.String(), stderr.String(), want)
		}
	}
}

func TestCompletionKnowsBackends(t *testing.T) {
	o := operate(t)
	complete := func(args ...string) string {
		var stdout, stderr strings.Builder
		run(append([]string{"__complete"}, args...), &stdout, &stderr)
		return stdout.String()
	}
	for _, command := range []string{"drain", "enable", "disable", "weight"} {
		const want = "ivr1\tup, 0 sessions\nivr/ivr2\tup, 0 sessions\nnight/ivr2\tup, 0 sessions\n:4\n"
		if got := complete(command, "--admin", o.admin, ""); got != want {
			t.Errorf("%s: %q is offered; want %q", command, got, want)
		}
	}
	if got := complete("drain", "--admin", o.admin, "ivr1", ""); got != ":4\n" {
		t.Errorf("after a backend: %q is offered; want nothing", got)
	}
	if got := complete("drain", "--admin", "127.0.0.1:1", ""); got != ":4\n" {
		t.Errorf("without a proxy: %q is offered; want nothing", got)
	}
}

func TestBrief(t *testing.T) {
	for seconds, want := range map[float64]string{
		0: "0s", .0005: "500µs", .0123: "12ms", .35: "350ms", 4.21: "4.2s", 12.4: "12s", 192: "3m12s", 18120: "5h02m", 3599.9: "1h00m", 360000: "4d04h",
	} {
		if got := brief(seconds); got != want {
			t.Errorf("brief(%v) = %s; want %s", seconds, got, want)
		}
	}
}

// A pool that isn't there is no pool without sessions.
func TestSessionsOfNoPool(t *testing.T) {
	o := operate(t)
	if code, stdout, stderr := o.run("sessions", "--pool", "nope"); code != 1 || stdout != "" || !strings.Contains(stderr, `pool "nope": not found`) {
		t.Errorf("sessions --pool nope: %d, %q, %q; want 1, and that there is no such pool", code, stdout, stderr)
	}
	if code, stdout, _ := o.run("sessions", "--pool", "ivr", "--script", "nope"); code != 0 || !strings.HasPrefix(stdout, "ID ") {
		t.Errorf("sessions --pool ivr --script nope: %d, %q; want 0, and an empty table", code, stdout)
	}
}
