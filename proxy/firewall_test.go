package proxy

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"agiproxy/agi"

	"github.com/hashicorp/go-hclog"
)

func TestRules(t *testing.T) {
	deny := CommandRules{Deny: []string{"EXEC System", "DATABASE DELTREE", "speech", "GET VARIABLE SHELL(*", `EXEC "two words"`}}
	allow := CommandRules{Allow: []string{"EXEC", "SET VARIABLE"}, Deny: []string{"EXEC System"}}
	for _, test := range []struct {
		rules CommandRules
		line  string
		want  string
	}{
		{deny, "EXEC System x", "denied"},
		{deny, "EXEC System", "denied"},
		{deny, " \texec\t \tSYSTEM", "denied"},
		{deny, `"EXEC" "System" x`, "denied"},
		{deny, `E"XE"C S\ystem x`, "denied"},
		{deny, `\E\X\E\C ""System"" x`, "denied"},
		{deny, `EXEC "Sys"tem`, "denied"},
		{deny, `EXEC "System`, "denied"}, // a quote that isn't closed
		{deny, "EXEC", ""},
		{deny, "EXEC Systems", ""},
		{deny, "EXEC Sys", ""},
		{deny, `EXEC " System"`, ""}, // for Asterisk, too, this is another application
		{deny, "EXEC System(x)", ""},
		{deny, "EXEC System\r", ""},
		{deny, "EXEC NoOp System", ""},
		{deny, `"EXEC System" x`, ""}, // one word
		{deny, `EXEC "two words" x`, "denied"},
		{deny, "EXEC two words", ""},
		{deny, "DATABASE DEL x y", ""},
		{deny, "DATABASE DELTREE x", "denied"},
		{deny, "SPEECH CREATE x", "denied"},
		{deny, "SPEECHES", ""},
		{deny, "GET VARIABLE SHELL(id)", "denied"},
		{deny, `GET VARIABLE "shell(touch x)"`, "denied"},
		{deny, `GET VARIABLE SHELL(`, "denied"},
		{deny, "GET VARIABLE SHELL", ""},
		{deny, `GET VARIABLE "` + strings.Repeat("x", 600) + `"`, ""},
		{deny, `GET VARIABLE "S"HELL(` + strings.Repeat("x", 600), "denied"},
		{deny, `"` + strings.Repeat("x", 600) + `" System`, ""},
		{deny, "<br />", ""},
		{deny, "", ""},
		{deny, "failure EXEC System", ""},
		{allow, "EXEC Playback x", ""},
		{allow, "EXEC System x", "denied"},
		{allow, "SET VARIABLE X y", ""},
		{allow, "SET EXTENSION 1", "not_allowed"},
		{allow, "NOOP", "not_allowed"},
		{allow, "<br />", "not_allowed"},
		{allow, "", "not_allowed"},
		{allow, "FAILURE", ""},
		{CommandRules{Strict: true}, "<br />", "not_agi"},
		{CommandRules{Strict: true}, "NOOP\r", "not_agi"},
		{CommandRules{Strict: true}, "", "not_agi"},
		{CommandRules{Strict: true}, `"NOOP"`, ""},
		{CommandRules{Strict: true}, "failure", ""},
	} {
		got := ""
		if why, refused := newFirewall(test.rules).judge([]byte(test.line + "\n")); refused {
			got = why.String()
		}
		if got != test.want {
			t.Errorf("%+v: %q is refused as %q; want %q", test.rules, test.line, got, test.want)
		}
	}
	if newFirewall(CommandRules{}) != nil {
		t.Error("no rules make a firewall; want none, which costs nothing")
	}
}

// What Asterisk gets for a refused line must never become a command.
func TestSubstitutesAreNoCommands(t *testing.T) {
	for why, line := range substitutes {
		if c := agi.ParseCommand(line); c != agi.Other || agi.IsFailure(line) || bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Errorf("for a line refused as %v Asterisk gets %q, which is %v; want one line that is no command", denialReason(why), line, c)
		}
	}
}

// ruled is a stage whose pool has rules.
func ruled(o Options, rules CommandRules) *stage {
	s := newStage(o, limits())
	p := s.server.Table().Pools[0]
	opts := p.opts
	opts.Commands = rules
	s.server.Swap(&Table{Pools: []*Pool{NewPool("ivr", opts, p.backends)}, Routes: []Route{{Pool: "ivr"}}})
	return s
}

func TestFirewallAllocatesNothing(t *testing.T) {
	s := ruled(Options{}, CommandRules{Allow: []string{"NOOP", "EXEC"}, Deny: []string{"EXEC System", "GET VARIABLE SHELL(*"}, Strict: true})
	s.establish(plainHeader)
	refused := []byte("510 Invalid or unknown command\n")
	for _, line := range []string{"NOOP one two three\n", "EXEC \"Playback\" x\n", "E\"XEC\" S\\ystem x\n", "EXEC System x\n", "BOGUS\n"} {
		command := []byte(line)
		s.exchange(command, refused)
		if n := testing.AllocsPerRun(100, func() { s.exchange(command, refused) }); n != 0 {
			t.Errorf("%v allocations for %q; want none", n, line)
		}
	}
	s.finish()
}

// A script in a loop doesn't fill the log.
func TestRefusedLinesAreLoggedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var record Record
		o := Options{Log: hclog.New(&hclog.LoggerOptions{Output: &log, DisableTime: true}), Ended: func(r Record) { record = r }}
		s := ruled(o, CommandRules{Deny: []string{"EXEC System", "DATABASE"}})
		s.establish(plainHeader)
		refused := []byte("510 Invalid or unknown command\n")
		for range 1000 {
			s.exchange([]byte("EXEC System \"touch x\"\n"), refused)
			s.exchange([]byte("DATABASE DELTREE x\n"), refused)
			time.Sleep(2 * time.Millisecond)
		}
		s.finish()
		var got []string
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, "line refused") {
				got = append(got, strings.TrimSpace(line))
			}
		}
		want := []string{}
		for _, suppressed := range []int{0, 499} {
			want = append(want,
				fmt.Sprintf(`[WARN]  line refused: reason=denied command=EXEC line="EXEC System \"touch x\"" pool=ivr backend=ivr1 uniqueid=1795373249.17 suppressed=%d`, suppressed),
				fmt.Sprintf(`[WARN]  line refused: reason=denied command="DATABASE DELTREE" line="DATABASE DELTREE x" pool=ivr backend=ivr1 uniqueid=1795373249.17 suppressed=%d`, suppressed))
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("2000 refused lines in 2s are logged as\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if record.Denied != 2000 || record.Commands != 1 || !strings.Contains(log.String(), " denied=2000") {
			t.Errorf("the record has %d denied, %d commands; want 2000 and 1, and that the log says it", record.Denied, record.Commands)
		}
	})
}

// A record of a session with nothing refused doesn't speak of it.
func TestRecordWithoutRefusedLines(t *testing.T) {
	var log bytes.Buffer
	s := ruled(Options{Log: hclog.New(&hclog.LoggerOptions{Output: &log})}, CommandRules{Deny: []string{"EXEC System"}})
	s.establish(plainHeader)
	s.finish()
	if strings.Contains(log.String(), "denied") {
		t.Errorf("logged %q; want nothing of denied", log.String())
	}
}

// Who reads along sees the line, and what Asterisk got for it.
func TestTraceShowsRefusedLines(t *testing.T) {
	s := ruled(Options{}, CommandRules{Deny: []string{"EXEC System"}})
	s.establish(plainHeader)
	trace, err := s.server.Trace(s.worker.sessions.first.id)
	if err != nil {
		t.Fatal(err)
	}
	s.exchange([]byte("EXEC System x\n"), []byte("510 Invalid or unknown command\n"))
	s.finish()
	var got []string
	for line := range trace.Lines() {
		got = append(got, line.From.String()+" "+line.Text)
	}
	trace.Close()
	want := "backend EXEC System x, agiproxy agiproxy has refused a line: denied, asterisk 510 Invalid or unknown command"
	if all := strings.Join(got, ", "); !strings.HasPrefix(all, want) {
		t.Errorf("the trace shows %q; want %q first", all, want)
	}
}

// Refused lines go with a session, and with the counts, to another process.
func TestRefusedLinesAreHandedOver(t *testing.T) {
	s := ruled(Options{}, CommandRules{Deny: []string{"EXEC System"}})
	s.establish(plainHeader)
	s.exchange([]byte("EXEC System x\n"), []byte("510 Invalid or unknown command\n"))
	next := NewServer(Options{})
	w := next.NewWorker(&s.host)
	next.GiveCounts(s.server.TakeCounts())
	x := s.worker.Freeze()[0]
	m := x.Move()
	_, opts, _ := x.PoolOptions()
	if _, _, err := w.Restore(m, s.listener, opts, s.front, &s.host.back); err != nil {
		t.Fatal(err)
	}
	s.worker.Release()
	w.Thaw()
	moved := w.sessions.first
	moved.FromBackend([]byte("EXEC System y\n"))
	if got := string(s.front.last); got != string(substitutes[lineDenied]) {
		t.Errorf("behind a hand-over Asterisk gets %q for a denied line; want %q", got, substitutes[lineDenied])
	}
	if n := moved.record().Denied; n != 2 {
		t.Errorf("the record has %d denied lines; want one from before and one from after", n)
	}
	if n := next.counts().pool("ivr").denied[denial{agi.CommandNamed("EXEC"), lineDenied}]; n != 2 {
		t.Errorf("%d denied lines are counted; want one from before and one from after", n)
	}
	if len(s.worker.denied) != 0 {
		t.Error("the old process still keeps the session's refused lines")
	}
}

// A refused line ends the backend's turn, as any other.
func TestRefusedLineEndsTheTurn(t *testing.T) {
	s := ruled(Options{}, CommandRules{Deny: []string{"EXEC System"}})
	s.establish(plainHeader)
	x := s.worker.sessions.first
	before, _, _ := x.counts.think.cumulative()
	s.exchange([]byte("EXEC System x\n"), []byte("510 Invalid or unknown command\n"))
	if after, _, _ := x.counts.think.cumulative(); after != before+1 {
		t.Errorf("%d turns of the backend are counted after a refused line, %d before; want one more", after, before)
	}
	s.finish()
}
