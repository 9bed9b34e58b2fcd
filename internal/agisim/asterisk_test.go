package agisim

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"agiproxy/agi"
)

// play runs script as the server of one call, over a pipe: in a synctest bubble
// nothing takes time.
func play(t *testing.T, a Asterisk, call Call, script func(*Session)) Result {
	t.Helper()
	client, server := net.Pipe()
	a.Dial = func(context.Context, string, string) (net.Conn, error) { return client, nil }
	done := make(chan struct{})
	go func() {
		defer close(done)
		s := NewSession(server)
		defer s.Close()
		script(s)
	}()
	result := a.Run(t.Context(), call)
	<-done
	return result
}

// capture returns the lines behind the header of what Asterisk sent, and those
// that the server sent.
func capture(t *testing.T, name string) (asterisk, server []string) {
	t.Helper()
	read := func(file string) []byte {
		data, err := os.ReadFile(filepath.Join("..", "..", "agi", "testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	_, replies, ok := bytes.Cut(read(name+".bin"), []byte("\n\n"))
	if !ok {
		t.Fatalf("%s.bin has no header", name)
	}
	lines := func(data []byte) []string {
		return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	}
	return lines(replies), lines(read(name + ".server.bin"))
}

// grouped makes one entry of each reply, with the lines of a long one.
func grouped(lines []string) (replies []string) {
	for i := 0; i < len(lines); i++ {
		reply := lines[i]
		for strings.HasPrefix(reply, "520-") && !strings.HasPrefix(lines[i], "520 ") {
			i++
			reply += "\n" + lines[i]
		}
		replies = append(replies, reply)
	}
	return replies
}

// text is the reply as it came, without the usage of a command.
func text(r agi.Reply) string {
	s := r.Text
	if r.Result != "" || r.Code == 200 {
		s = strings.TrimSuffix("result="+r.Result+" "+r.Text, " ")
	}
	return s
}

func TestAsteriskAnswersAsRecorded(t *testing.T) {
	// What a simulated channel can't know, or need not.
	skip := map[string]string{
		"GET VARIABLE T0":                          "a time",
		`STREAM FILE nosuchfile ""`:                "there are no files",
		`GET FULL VARIABLE "${CHANNEL}"`:           "the channel's name is not the same",
		"GET FULL VARIABLE ${CALLERID(num)}":       "an empty value is told from no value",
		"EXEC NoSuchApp x":                         "every application exists",
		"GOSUB lab nosuch 1":                       "every label exists",
		"SET VARIABLE":                             "the usage is in other words",
		`CONTROL STREAM FILE beep "" 3000 # * 1`:   "endpos is never negative",
		"RECORD FILE /lab/spool/tmp/rec wav # 300": "a silence has a length",
	}
	replies, commands := capture(t, "responses")
	replies = grouped(replies)
	synctest.Test(t, func(t *testing.T) {
		result := play(t, Asterisk{Prompt: 440 * time.Millisecond}, Call{}, func(s *Session) {
			for i, command := range commands {
				reply, err := s.Command(command)
				if err != nil {
					t.Errorf("%s: %v", command, err)
					return
				}
				_, want, _ := strings.Cut(replies[i], " ")
				if got := text(reply); skip[command] == "" && got != want {
					t.Errorf("%s: got %q; want %q", command, got, want)
				}
			}
		})
		if result.Commands != len(commands) {
			t.Errorf("%d commands were run; want %d", result.Commands, len(commands))
		}
		if result.Status != Failure || result.Err != nil {
			t.Errorf("AGISTATUS=%s, error %v; want FAILURE, since RECEIVE CHAR has failed, and no error", result.Status, result.Err)
		}
	})
}

func TestAsteriskSendsAsRecorded(t *testing.T) {
	for _, test := range []struct {
		capture string
		leave   int // before this command the caller leaves; 0: never
		status  Status
	}{
		{"failure", 0, Failure},
		{"hangup", 2, HungUp},
	} {
		t.Run(test.capture, func(t *testing.T) {
			want, commands := capture(t, test.capture)
			synctest.Test(t, func(t *testing.T) {
				hangup := make(chan struct{})
				var got []string
				call := Call{
					Environment: agi.Environment{Channel: "Local/run@lab-00000017;2"},
					Hangup:      hangup,
					Trace: func(e Event) {
						if e.Kind == Sent {
							got = append(got, e.Text)
						}
					},
				}
				result := play(t, Asterisk{}, call, func(s *Session) {
					for i, command := range commands {
						if i+1 == test.leave {
							close(hangup)
							synctest.Wait()
						}
						if command == "failure" {
							s.Send(command)
							s.AwaitClose()
							return
						}
						if _, err := s.Command(command); err != nil {
							t.Errorf("%s: %v", command, err)
						}
					}
				})
				if !slices.Equal(got, want) {
					t.Errorf("sent\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
				if result.Status != test.status {
					t.Errorf("AGISTATUS=%s; want %s", result.Status, test.status)
				}
			})
		})
	}
}

func TestCallerLeavesWhileACommandRuns(t *testing.T) {
	for _, test := range []struct{ command, reply string }{
		{"WAIT FOR DIGIT 8000", "result=-1"},
		{`STREAM FILE demo-congrats ""`, "result=-1 endpos=12000"},
		{"EXEC Wait 5", "result=-1"},
	} {
		t.Run(test.command, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				caller, leave := context.WithTimeout(t.Context(), 1500*time.Millisecond)
				defer leave()
				result := play(t, Asterisk{Prompt: time.Minute}, Call{Hangup: caller.Done()}, func(s *Session) {
					reply, err := s.Command(test.command)
					if err != nil || text(reply) != test.reply {
						t.Errorf("%s: got %q, error %v; want %q", test.command, text(reply), err, test.reply)
					}
					if _, err := s.Command("NOOP"); err != nil || !s.HungUp() {
						t.Errorf("after the reply: HungUp() = %v, error %v; want HANGUP before the next reply", s.HungUp(), err)
					}
					if reply, _ := s.Command("WAIT FOR DIGIT 1000"); reply.Code != 511 {
						t.Errorf("on the dead channel: got %d; want 511", reply.Code)
					}
				})
				if result.Status != HungUp || result.Duration != 1500*time.Millisecond {
					t.Errorf("AGISTATUS=%s after %v; want HANGUP after 1.5s", result.Status, result.Duration)
				}
			})
		})
	}
}

func TestNextCommandInterrupts(t *testing.T) {
	for _, test := range []struct {
		command string
		reply   string        // to the interrupted command; "" is none
		after   time.Duration // until the next one is answered
	}{
		{`STREAM FILE demo-congrats ""`, "", 400 * time.Millisecond},
		{"GET DATA demo-congrats 1000 4", "", 400 * time.Millisecond},
		{`GET OPTION demo-congrats "12" 1000`, "", 400 * time.Millisecond},
		{"WAIT FOR DIGIT 3000", "200 result=1", 400 * time.Millisecond},
		{`SAY NUMBER 123456 ""`, "200 result=0", 3 * time.Second},
		{"EXEC Playback hello-world", "200 result=0", 3 * time.Second},
	} {
		t.Run(test.command, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var replies []string
				call := Call{Trace: func(e Event) {
					if e.Kind == Sent && strings.HasPrefix(e.Text, "200 ") {
						replies = append(replies, e.Text)
					}
				}}
				play(t, Asterisk{Prompt: 3 * time.Second}, call, func(s *Session) {
					s.Header()
					start := time.Now()
					s.Send(test.command)
					time.Sleep(400 * time.Millisecond)
					reply, err := s.Command("GET FULL VARIABLE mark")
					if err != nil || text(reply) != "result=1 (mark)" {
						t.Errorf("next command: got %q, error %v; want its own reply", text(reply), err)
					}
					if d := time.Since(start); d != test.after {
						t.Errorf("next command answered after %v; want %v", d, test.after)
					}
				})
				want := []string{"200 result=1 (mark)"}
				if test.reply != "" {
					want = []string{test.reply, want[0]}
				}
				if !slices.Equal(replies, want) {
					t.Errorf("replies %q; want %q", replies, want)
				}
			})
		})
	}
}

func TestCallerTypes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		play(t, Asterisk{}, Call{Digits: "12345#7"}, func(s *Session) {
			for _, test := range []struct{ command, reply string }{
				{"WAIT FOR DIGIT 1000", "result=49"},
				{`GET OPTION menu "29"`, "result=50 endpos=0"},
				{"GET DATA pin 1000 2", "result=34"},
				{"GET DATA pin", "result=5"},
				{"GET DATA pin 1000 4", "result=7 (timeout)"},
				{"WAIT FOR DIGIT 1000", "result=0"},
				{"GET DATA pin 1000 4", "result= (timeout)"},
			} {
				if reply, err := s.Command(test.command); err != nil || text(reply) != test.reply {
					t.Errorf("%s: got %q, error %v; want %q", test.command, text(reply), err, test.reply)
				}
			}
		})
	})
}

func TestVariables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := map[string]string{"LANG": "de"}
		result := play(t, Asterisk{}, Call{Variables: before}, func(s *Session) {
			for _, test := range []struct{ command, reply string }{
				{"GET VARIABLE LANG", "result=1 (de)"},
				{`SET VARIABLE Q "two \"words\""`, "result=1"},
				{"get variable Q", `result=1 (two "words")`},
				{"GET FULL VARIABLE ${LANG}-${EXTEN}", "result=1 (de-s)"},
				{"GET VARIABLE NOSUCH", "result=0"},
				{"EXEC Set A=b", "result=0"},
				{"GET VARIABLE A", "result=1 (b)"},
				{"NOOP\r", "Invalid or unknown command"},
			} {
				if reply, err := s.Command(test.command); err != nil || text(reply) != test.reply {
					t.Errorf("%s: got %q, error %v; want %q", test.command, text(reply), err, test.reply)
				}
			}
			s.Command("SET VARIABLE AGIPROXYSTATUS NOBACKEND")
		})
		if result.ProxyStatus() != "NOBACKEND" || result.Served() {
			t.Errorf("ProxyStatus() = %q, Served() = %v; want NOBACKEND and false", result.ProxyStatus(), result.Served())
		}
		if len(before) != 1 {
			t.Errorf("the call's own variables became %v", before)
		}
	})
}

// A value with line breaks is one reply, even if a line of it looks like another.
func TestReplySpansLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		call := Call{Variables: map[string]string{"X": "a\n200 result=1\nb"}}
		play(t, Asterisk{}, call, func(s *Session) {
			reply, err := s.Command("GET VARIABLE X")
			if want := "result=1 (a\n200 result=1\nb)"; err != nil || text(reply) != want {
				t.Errorf("got %q, error %v; want %q", text(reply), err, want)
			}
			reply, err = s.Command("SET VARIABLE")
			if err != nil || reply.Code != 520 || !strings.HasSuffix(reply.Text, "\nEnd of proper usage.") && !strings.HasSuffix(reply.Text, "\n520 End of proper usage.") {
				t.Errorf("got %d %q, error %v; want a whole 520", reply.Code, reply.Text, err)
			}
			if reply, err = s.Command("NOOP"); err != nil || reply.Code != 200 {
				t.Errorf("NOOP after it: got %d, error %v; want 200", reply.Code, err)
			}
		})
	})
}

func TestHalfLineBeforeTheCloseIsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		result := play(t, Asterisk{}, Call{}, func(s *Session) {
			s.Header()
			s.Conn().Write([]byte("SET VARIABLE X trunca"))
		})
		if result.Variables["X"] != "trunca" {
			t.Errorf("X=%q; want trunca: what stands before the close is a command", result.Variables["X"])
		}
	})
}

func TestStatusOfEnds(t *testing.T) {
	for _, test := range []struct {
		name   string
		script func(*Session)
		status Status
		err    error
		served bool
	}{
		{"no command at all", func(s *Session) { s.Header() }, Success, nil, true},
		{"after a command", func(s *Session) { s.Command("NOOP") }, Success, nil, true},
		{"while a prompt plays", func(s *Session) { s.Header(); s.Send(`STREAM FILE x ""`); time.Sleep(time.Second) }, Success, ErrMidCommand, false},
		{"while an application runs", func(s *Session) { s.Header(); s.Send("EXEC Wait 3"); time.Sleep(time.Second) }, Success, ErrMidCommand, false},
		{"failure, in any case", func(s *Session) { s.Header(); s.Send("Failure: no backend"); s.AwaitClose() }, Failure, nil, false},
		{"status and failure", func(s *Session) {
			s.Command("SET VARIABLE AGIPROXYSTATUS BACKENDLOST")
			s.Send("failure")
			s.AwaitClose()
		}, Failure, nil, false},
		{"HANGUP by the script", func(s *Session) { s.Command("HANGUP"); s.Command("NOOP") }, HungUp, nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				result := play(t, Asterisk{Prompt: time.Minute}, Call{}, test.script)
				if result.Status != test.status || !errors.Is(result.Err, test.err) || result.Served() != test.served {
					t.Errorf("AGISTATUS=%s, error %v, served %v; want %s, %v, %v",
						result.Status, result.Err, result.Served(), test.status, test.err, test.served)
				}
			})
		})
	}
}
