package agi

import (
	"bytes"
	"strings"
	"testing"
	"unsafe"
)

// play shows a dialogue lines that begin with "> " from the backend, "= " from
// whoever stands in between and "< " from Asterisk; "! " says that all is settled.
func play(script string) (d Dialogue, replies int) {
	for line := range strings.Lines(script) {
		switch side, line := line[:2], line[2:]; side {
		case "> ":
			d.Command([]byte(line))
		case "= ":
			d.Own([]byte(line))
		case "! ":
			d.Settled()
		case "< ":
			replies += d.Replies([]byte(line))
		default:
			panic("neither side: " + line)
		}
	}
	return d, replies
}

func TestDialogue(t *testing.T) {
	const backends, asterisks = ", backend's turn", ", Asterisk's turn with "
	for _, test := range []struct {
		name    string
		script  string
		replies int
		want    string // state
	}{
		{"nothing yet", "", 0, backends},
		{"a command", "> NOOP\n", 0, asterisks + "NOOP"},
		{"a command and its reply", "> NOOP\n< 200 result=0\n", 1, backends},
		{"half a reply", "> NOOP\n< 200 res", 0, asterisks + "NOOP, in a reply"},
		{"a reply with a carriage return", "> NOOP\n< 200 result=0\r\n", 1, backends},
		{"an empty command is answered as well", "> \n< 510 Invalid or unknown command\n", 1, backends},
		{"two commands at once", "> NOOP\n> ANSWER\n< 200 result=0\n", 1, asterisks + "ANSWER"},
		{"nine commands at once: the ninth is forgotten", strings.Repeat("> NOOP\n", 8) + "> ANSWER\n" +
			strings.Repeat("< 200 result=0\n", 8), 8, asterisks + "other"},
		{"nine commands at once, and a tenth when there is room", strings.Repeat("> NOOP\n", 9) +
			"< 200 result=0\n< 200 result=0\n> ANSWER\n" + strings.Repeat("< 200 result=0\n", 7), 9, asterisks + "ANSWER"},

		{"usage is one reply", "> EXEC\n< 520-Invalid command syntax.  Proper usage follows:\n< Usage\n< 200 result=1\n< 520 End of proper usage.\n", 1, backends},
		{"usage under way", "> EXEC\n< 520-Invalid command syntax.  Proper usage follows:\n< Usage\n", 0, asterisks + "EXEC, in a reply"},
		{"usage that Asterisk doesn't have", "> EXEC\n< 520 Invalid command syntax.  Proper usage not available.\n", 1, backends},

		{"a value of several lines is one reply", "> GET VARIABLE X\n< 200 result=1 (a\n< 200 result=1\n< HANGUP\n< c)\n", 1, backends},
		{"a value of several lines under way", "> GET VARIABLE X\n< 200 result=1 (a\n", 0, asterisks + "GET VARIABLE, in a reply"},
		{"a value that ends a line with a parenthesis", "> GET FULL VARIABLE X\n< 200 result=1 (a)\n< 520-b\n< 200\n< 2000 c\n< )\n> NOOP\n< 200 result=0\n", 2, backends},
		{"a value with a carriage return", "> DATABASE GET a b\n< 200 result=1 (a\r\n< b)\r\n", 1, backends},
		{"no value", "> GET VARIABLE X\n< 200 result=0\n", 1, backends},
		{"a text from a command that has none", "> EXEC X\n< 200 result=1 (a\n", 1, backends},

		{"the caller leaves between commands", "> NOOP\n< 200 result=0\n< HANGUP\n", 1, backends + ", hung up"},
		{"the caller leaves in a command", "> WAIT FOR DIGIT 5000\n< HANGUP\n", 0, asterisks + "WAIT FOR DIGIT, hung up, in a command"},
		{"the caller leaves in the second of two commands", "> NOOP\n> EXEC Wait 1\n< 200 result=0\n< HANGUP\n", 1, asterisks + "EXEC, hung up, in a command"},
		{"the caller's leaving ends a command", "> WAIT FOR DIGIT 5000\n< 200 result=-1\n< HANGUP\n", 1, backends + ", hung up, in a command"},
		{"the caller's leaving ends a prompt", "> STREAM FILE a \"\"\n< 200 result=-1 endpos=800\n< HANGUP\n", 1, backends + ", hung up, in a command"},
		{"a command fails, and the caller leaves after the next", "> STREAM FILE a \"\"\n< 200 result=-1\n> NOOP\n< 200 result=0\n< HANGUP\n", 2, backends + ", hung up"},
		{"a value that says -1", "> GET VARIABLE X\n< 200 result=1 (a\n< 200 result=-1)\n< HANGUP\n", 1, backends + ", hung up"},
		{"usage that says -1", "> EXEC\n< 520-Invalid\n< 200 result=-1\n< 520 End\n< HANGUP\n", 1, backends + ", hung up"},
		{"the second HANGUP comes in a command", "< HANGUP\n> EXEC Wait 1\n< HANGUP\n", 0, asterisks + "EXEC, hung up"},
		{"the first HANGUP came in a command", "> EXEC Wait 1\n< HANGUP\n< 200 result=0\n> NOOP\n< 200 result=0\n< HANGUP\n", 2, backends + ", hung up, in a command"},
		{"HANGUP with a carriage return", "< HANGUP\r\n", 0, backends + ", hung up"},
		{"HANGUP and more is none", "< HANGUP now\n", 0, backends},
		{"half a HANGUP", "< HANG", 0, backends + ", in a reply"},
		{"the script hangs up", "> HANGUP\n< 200 result=1\n< HANGUP\n", 1, backends + ", hung up, by the script"},
		{"the script hangs up when the caller has left", "< HANGUP\n> HANGUP\n< 511 Command Not Permitted on a dead channel\n", 1, backends + ", hung up"},
		{"failure is the last line and gets no reply", "> SET VARIABLE X y\n< 200 result=1\n> Failure: no backend\n< HANGUP\n", 1, backends + ", hung up, by the script"},
		{"failure behind a blank is an unknown command", ">  failure\n", 0, asterisks + "other"},

		{"an interrupted prompt gets no reply", "> STREAM FILE a \"\"\n> NOOP\n< 200 result=0\n", 1, backends},
		{"a prompt that failure interrupts", "> STREAM FILE a \"\"\n> failure\n", 0, backends + ", by the script"},
		{"an interrupted wait gets one", "> WAIT FOR DIGIT 5000\n> NOOP\n< 200 result=1\n", 1, asterisks + "NOOP"},
		{"a prompt that waits behind another command isn't interrupted",
			"> EXEC Wait 1\n> STREAM FILE a \"\"\n> NOOP\n< 200 result=0\n", 1, asterisks + "STREAM FILE"},
		{"a command of one's own", "= SET MUSIC ON calm\n", 0, asterisks + "SET MUSIC"},
		{"a command of one's own is answered as any", "= GET VARIABLE X\n< 200 result=1 (a\n< HANGUP\n< b)\n", 1, backends},
		{"one's own command behind the backend's", "> EXEC Wait 1\n= SET VARIABLE X y\n< 200 result=0\n", 1, asterisks + "SET VARIABLE"},
		{"one's own command interrupts a prompt", "> STREAM FILE a \"\"\n= NOOP\n< 200 result=0\n", 1, backends},
		{"a HANGUP of one's own is the call's end for both", "= HANGUP\n< 200 result=1\n< HANGUP\n", 1, backends + ", hung up"},
		{"the caller leaves in a command of one's own", "= EXEC Playback sorry\n< HANGUP\n", 0, asterisks + "EXEC, hung up, in a command"},
		{"settled while commands run", "> EXEC Wait 1\n> STREAM FILE a \"\"\n! \n", 0, backends},
		{"settled in usage", "> EXEC\n< 520-Invalid\n! \n< 520 End\n> NOOP\n< 200 result=0\n", 2, backends},
		{"settled in a value", "> GET VARIABLE X\n< 200 result=1 (a\n! \n< HANGUP\n", 0, backends + ", hung up"},
		{"a command after all is settled", "> EXEC Wait 1\n! \n> ANSWER\n< 200 result=0\n", 1, backends},
		{"settled is not hung up, and undoes no hangup", "> EXEC Wait 1\n< HANGUP\n! \n", 0, backends + ", hung up, in a command"},
		{"settled with a reply of -1 before", "> WAIT FOR DIGIT 1\n< 200 result=-1\n! \n< HANGUP\n", 1, backends + ", hung up, in a command"},
		{"a reply that nobody has asked for", "< 200 result=0\n", 1, backends},
		{"lines that answer nothing", "< hello\n< 20\n< 2x0 result=0\n< 200-\n< \n", 0, backends},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, replies := play(test.script)
			if got := state(&d); replies != test.replies || got != test.want {
				t.Errorf("%q: %d replies%s; want %d%s", test.script, replies, got, test.replies, test.want)
			}
		})
	}
}

func TestInterruptedCommands(t *testing.T) {
	for c := range Command(NumCommands) {
		d, _ := play("> " + c.String() + "\n> NOOP\n< 200 result=0\n")
		want := AsterisksTurn
		switch c.String() {
		case "STREAM FILE", "GET DATA", "GET OPTION": // measured with Asterisk 22.10
			want = BackendsTurn
		}
		if d.Turn() != want {
			t.Errorf("%v, then NOOP, then one reply: Turn() = %v; want %v", c, d.Turn(), want)
		}
	}
}

func TestCommandsThatAnswerWithText(t *testing.T) {
	for c := range Command(NumCommands) {
		d, _ := play("> " + c.String() + "\n< 200 result=1 (first line of a value\n")
		want := false
		switch c.String() {
		case "DATABASE GET", "GET FULL VARIABLE", "GET VARIABLE", "RECEIVE TEXT":
			want = true
		}
		if d.MidReply() != want {
			t.Errorf("%v, then half a value: MidReply() = %v; want %v", c, d.MidReply(), want)
		}
	}
}

// The last answer and the beginning of a HANGUP come together.
func TestSettledKeepsHalfALine(t *testing.T) {
	d, _ := play("> EXEC Wait 1\n")
	d.Replies([]byte("200 result=0\nHANG"))
	d.Settled()
	if !d.MidReply() {
		t.Error("MidReply() = false; want true: half of HANGUP has come")
	}
	if d.Replies([]byte("UP\n")); !d.HungUp() {
		t.Error("HungUp() = false after its other half; want true")
	}
}

func TestCommandsAreCounted(t *testing.T) {
	d, _ := play("> NOOP\n> \n= SET MUSIC OFF\n> what\n< 200 result=0\n! \n> failure\n")
	if got := d.Commands(); got != 3 {
		t.Errorf("Commands() = %d; want 3: failure is none, and one's own aren't the backend's", got)
	}
}

// mix has some of the steps be of who stands in between: the bits of own say which
// commands are, and those of settled after which replies, in their midst, the word
// comes that nothing is under way.
func mix(steps []step, own, settled uint16) (mixed []step) {
	for i, s := range steps {
		bit := uint16(1) << (i / 2 % 16)
		if s.command != nil {
			s.own = own&bit != 0
		} else if half := len(s.replies) / 2; settled&bit != 0 {
			mixed = append(mixed, step{replies: s.replies[:half]}, step{settled: true})
			s.replies = s.replies[half:]
		}
		mixed = append(mixed, s)
	}
	return mixed
}

// FuzzDialogue cuts what Asterisk sends in two and into single bytes: the
// dialogue must be the same.
func FuzzDialogue(f *testing.F) {
	for _, c := range readCaptures(f) {
		_, rest := c.feedWhole(f)
		f.Add(bytes.Join(c.commands, nil), rest, uint16(len(rest)/2), false, uint16(0), uint16(0))
		f.Add(bytes.Join(c.commands, nil), rest, uint16(1), true, uint16(0x5555), uint16(0x8421))
	}
	f.Add([]byte("GET VARIABLE X\nHANGUP\n"), []byte("200 result=1 (a\r\nb)\r\n200 result=1\r\nHANGUP\r\n"), uint16(16), false, uint16(0), uint16(0))
	f.Add([]byte("EXEC\nGET VARIABLE X\nWAIT FOR DIGIT 1\n"), []byte("520-Usage\n520 End\n200 result=1 (a\nHANGUP\nb)\n200 result=-1\nHANGUP\n"), uint16(30), true, uint16(2), uint16(1))
	f.Fuzz(func(t *testing.T, backend, asterisk []byte, cut uint16, pipelined bool, own, settled uint16) {
		waiting := func(int) int { return 0 }
		if pipelined {
			waiting = func(i int) int { return i % 11 } // more than are remembered, too
		}
		steps := mix(interleave(lines(backend), asterisk, waiting), own, settled)
		d, says := follow(steps, whole)
		checkSame(t, steps, "in two", cutAt(int(cut)), d, says)
		checkSame(t, steps, "byte by byte", byByte, d, says)

		commands := 0
		for _, s := range steps {
			if s.command != nil && !s.own && !IsFailure(s.command) {
				commands++
			}
		}
		if got := d.Commands(); got != commands {
			t.Errorf("Commands() = %d; want %d", got, commands)
		}
		if d.HungUp() && !bytes.Contains(asterisk, []byte("HANGUP")) {
			t.Errorf("HungUp() = true for %q; want false", asterisk)
		}
		if d.HungUpInCommand() && !d.HungUp() {
			t.Error("HungUpInCommand() = true, HungUp() = false; want both or none")
		}
		if d.HangupAsked() && own == 0xffff {
			t.Error("HangupAsked() = true; want false: the script has said nothing")
		}
		if d.Settled(); d.Turn() != BackendsTurn || d.InFlight() != 0 {
			t.Errorf("Turn() = %v, InFlight() = %d when all is settled; want the backend's, 0", d.Turn(), d.InFlight())
		}
	})
}

func TestDialogueAllocatesNothing(t *testing.T) {
	commands := [][]byte{[]byte("NOOP\n"), []byte("get  variable X\n"), []byte("STREAM FILE a \"\"\n"), []byte("bogus\n"), []byte("HANGUP\n"), []byte("failure\n")}
	replies := []byte("520-Invalid command syntax.\nUsage\n520 End of proper usage.\n200 result=1 (a\r\nb)\n510 Invalid or unknown command\nHANGUP\n")
	if n := testing.AllocsPerRun(100, func() {
		var d Dialogue
		for _, c := range commands {
			d.Command(c)
		}
		d.Replies(replies[:30])
		d.Replies(replies[30:])
	}); n != 0 {
		t.Errorf("a dialogue allocates %v times; want never", n)
	}
}

// BenchmarkDialogue is what each command that passes costs: its line and its
// reply.
func BenchmarkDialogue(b *testing.B) {
	for _, test := range []struct{ command, reply string }{
		{"ANSWER", "200 result=0"},
		{"GET VARIABLE CHANNEL", "200 result=1 (Local/run@lab-00000016;2)"},
		{"WAIT FOR DIGIT 5000", "200 result=49"},
		{"what is this", "510 Invalid or unknown command"},
	} {
		name, _, _ := strings.Cut(test.command, " ")
		b.Run(name, func(b *testing.B) {
			command, reply := []byte(test.command+"\n"), []byte(test.reply+"\n")
			b.ReportAllocs()
			var d Dialogue
			for b.Loop() {
				d.Command(command)
				if d.Replies(reply) != 1 {
					b.Fatal("no reply")
				}
			}
		})
	}
}

func TestDialogueStaysSmall(t *testing.T) {
	if got := unsafe.Sizeof(Dialogue{}); got > 64 {
		t.Errorf("a Dialogue has %d bytes; want at most 64: each session holds one", got)
	}
}
