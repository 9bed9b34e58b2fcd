package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"agiproxy/internal/agisim"
)

func backend(t *testing.T, script func(*agisim.Session)) *agisim.Server {
	t.Helper()
	s, err := agisim.Listen("127.0.0.1:0", script)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// elapsed is the time before each line of a dialogue.
var elapsed = regexp.MustCompile(`(?m)^ +\d+\.\d{3} `)

func TestCallPrintsTheDialogue(t *testing.T) {
	s := backend(t, func(s *agisim.Session) {
		for _, command := range []string{
			"ANSWER",
			"GET VARIABLE PIN",
			"GET FULL VARIABLE ${CALLERID(num)}",
			"WAIT FOR DIGIT 1000",
			"STREAM FILE welcome \"\"",
			"SET VARIABLE AGIPROXYSTATUS OK",
			"NOSUCH \x1b[2J",
		} {
			if _, err := s.Command(command); err != nil {
				t.Errorf("%s: %v", command, err)
			}
		}
	})
	var stdout, stderr strings.Builder
	args := []string{"call", fmt.Sprintf("agi://%s/welcome", s.Addr()), "one", "--set", "PIN=1234", "--digits", "7", "--callerid", `"Ann" <555>`, "--prompt", "10ms"}
	if code := run(args, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
		t.Errorf("exit code %d, standard error %q; want 0 and none", code, stderr.String())
	}
	want := fmt.Sprintf(`T connected to %s
T header sent, 24 lines
T < ANSWER
T > 200 result=0
T < GET VARIABLE PIN
T > 200 result=1 (1234)
T < GET FULL VARIABLE ${CALLERID(num)}
T > 200 result=1 (555)
T < WAIT FOR DIGIT 1000
T > 200 result=55
T < STREAM FILE welcome ""
T > 200 result=0 endpos=80
T < SET VARIABLE AGIPROXYSTATUS OK
T > 200 result=1
T < NOSUCH �[2J
T > 510 Invalid or unknown command
T > HANGUP
T closed
AGISTATUS=SUCCESS AGIPROXYSTATUS=OK
`, s.Addr())
	if got := elapsed.ReplaceAllString(stdout.String(), "T"); got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
}

func TestCallJudges(t *testing.T) {
	for _, test := range []struct {
		name   string
		args   []string
		script func(*agisim.Session)
		code   int
		stdout string
		stderr string
	}{
		{
			"served", nil, func(s *agisim.Session) { s.Command("NOOP") },
			0, "AGISTATUS=SUCCESS AGIPROXYSTATUS=\n", "",
		}, {
			"no command", nil, func(s *agisim.Session) { s.Header() },
			0, "hint: the server closed without a command", "",
		}, {
			"accept and close", nil, func(*agisim.Session) {},
			1, "hint: the dialplan goes on as if the script had run", "the server broke off",
		}, {
			"reset", nil, func(s *agisim.Session) { s.Command("NOOP"); s.Reset() },
			1, "AGISTATUS=SUCCESS AGIPROXYSTATUS=\n", "connection reset",
		}, {
			"no backend", nil, func(s *agisim.Session) {
				s.Command("SET VARIABLE AGIPROXYSTATUS NOBACKEND")
				s.Send("failure")
				s.AwaitClose()
			},
			1, "AGISTATUS=FAILURE AGIPROXYSTATUS=NOBACKEND\n", "agiproxy could not serve it: NOBACKEND",
		}, {
			"hangup", []string{"--hangup-after", "30ms"}, func(s *agisim.Session) { s.Command("WAIT FOR DIGIT 60000") },
			1, "AGISTATUS=HANGUP AGIPROXYSTATUS=\n", "the caller hung up",
		}, {
			"mute", []string{"--timeout", "30ms"}, func(s *agisim.Session) { s.Header(); s.AwaitClose() },
			1, "AGISTATUS=", "not over within 30ms",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := backend(t, test.script)
			var stdout, stderr strings.Builder
			args := append([]string{"call", fmt.Sprintf("agi://%s/x", s.Addr())}, test.args...)
			if code := run(args, &stdout, &stderr); code != test.code {
				t.Errorf("exit code %d; want %d", code, test.code)
			}
			if !strings.Contains(stdout.String(), test.stdout) {
				t.Errorf("standard output is\n%s\nwant it to hold\n%s", stdout.String(), test.stdout)
			}
			if !strings.Contains(stderr.String(), test.stderr) || (test.stderr == "") != (stderr.Len() == 0) {
				t.Errorf("standard error is %q; want it to hold %q", stderr.String(), test.stderr)
			}
		})
	}
}

func TestQuietCallPrintsOneLine(t *testing.T) {
	s := backend(t, func(s *agisim.Session) { s.Header() })
	var stdout, stderr strings.Builder
	run([]string{"call", "--quiet", "agi://" + s.Addr().String()}, &stdout, &stderr)
	if got := stdout.String(); got != "AGISTATUS=SUCCESS AGIPROXYSTATUS=\n" {
		t.Errorf("printed %q; want the last line only", got)
	}
}

func TestRefusedCall(t *testing.T) {
	s := backend(t, func(*agisim.Session) {})
	s.Stop()
	var stdout, stderr strings.Builder
	code := run([]string{"call", "agi://" + s.Addr().String() + "/x"}, &stdout, &stderr)
	if want := fmt.Sprintf("agiproxy: call %s: dial tcp %s: connect: connection refused\n", s.Addr(), s.Addr()); code != 1 || stderr.String() != want {
		t.Errorf("exit code %d, standard error %q; want 1, %q", code, stderr.String(), want)
	}
	if !strings.Contains(stdout.String(), "AGISTATUS=FAILURE") {
		t.Errorf("printed %q; want AGISTATUS=FAILURE", stdout.String())
	}
}

func TestSplitCaller(t *testing.T) {
	for _, test := range []struct{ given, name, number string }{
		{`"Ann B" <555>`, "Ann B", "555"},
		{"Ann <555>", "Ann", "555"},
		{"<555>", "", "555"},
		{"555", "", "555"},
		{"", "", ""},
	} {
		if name, number := splitCaller(test.given); name != test.name || number != test.number {
			t.Errorf("splitCaller(%q) = %q, %q; want %q, %q", test.given, name, number, test.name, test.number)
		}
	}
}
