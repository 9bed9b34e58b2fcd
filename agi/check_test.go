package agi

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestCheckCommand(t *testing.T) {
	for _, test := range []struct{ name, line, want string }{
		{"no argument", "ANSWER", ""},
		{"an application", "EXEC Playback sorry&try-again", ""},
		{"an application without argument", "exec Congestion", ""},
		{"quoted words are one", `SET VARIABLE REASON "nobody is there"`, ""},
		{"an escaped quote", `SET VARIABLE REASON a\"b`, ""},
		{"escaped blanks", `SET VARIABLE REASON nobody\ is\ there`, ""},
		{"an empty argument", `STREAM FILE sorry ""`, ""},
		{"blanks all over", " \tSET  CONTEXT\tnight ", ""},
		{"another's hangup", "HANGUP SIP/100-1", ""},
		{"AsyncAGI", "ASYNCAGI BREAK", ""},
		{"as many bytes as Asterisk takes", "NOOP " + strings.Repeat("x", MaxLine-6), ""},
		{"as many words as Asterisk takes", "NOOP" + strings.Repeat(" x", MaxWords-1), ""},

		{"nothing", "", "no command that Asterisk knows"},
		{"an application without EXEC", "Playback sorry", "no command that Asterisk knows"},
		{"half a command", "SET X 1", "no command that Asterisk knows"},
		{"a comment", "# sorry", "no command that Asterisk knows"},
		{"two lines", "ANSWER\nNOOP", "a line break or NUL inside; one command is one line"},
		{"a line end", "ANSWER\n", "a line break or NUL inside; one command is one line"},
		{"a carriage return", "NOOP x\r", "a line break or NUL inside; one command is one line"},
		{"NUL", "NOOP \x00", "a line break or NUL inside; one command is one line"},
		{"failure", "Failure: nobody", "this ends the session with AGISTATUS=FAILURE and is no command"},
		{"too many bytes", "NOOP " + strings.Repeat("x", MaxLine-5), "too long; Asterisk takes at most 8190 bytes"},
		{"too many words", "NOOP" + strings.Repeat(" x", MaxWords), "128 words are too many; Asterisk takes at most 127"},
		{"an open quote", `EXEC Playback "sorry`, "a quote that isn't closed"},
		{"an escaped closing quote", `EXEC Playback "sorry\"`, "a quote that isn't closed"},
		{"no value", "SET VARIABLE REASON", "SET VARIABLE has 1 argument; want 2 at least"},
		{"a value without quotes", "SET VARIABLE REASON nobody is there", "SET VARIABLE has 4 arguments; want 2 at most, with quotes around one that has blanks"},
		{"no application", "EXEC", "EXEC has no argument; want 1 at least"},
		{"an application's argument without quotes", "EXEC NoOp a b", "EXEC has 3 arguments; want 2 at most, with quotes around one that has blanks"},
		{"an argument where none is", "ANSWER 1", "ANSWER has 1 argument; want none"},
		{"no context", "SET CONTEXT ", "SET CONTEXT has no argument; want 1 at least"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := ""
			if err := CheckCommand(test.line); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("CheckCommand(%q) = %q; want %q", test.line, got, test.want)
			}
		})
	}
	if err := CheckCommand("Playback sorry"); !errors.Is(err, ErrUnknownCommand) {
		t.Errorf("CheckCommand of no command = %v; want ErrUnknownCommand", err)
	}
}

// What a real Asterisk has run passes, and what it has refused doesn't.
func TestCheckCommandAgreesWithAsterisk(t *testing.T) {
	const dropped = `SET CALLERID "Bob" <77>` // the second word; Asterisk says nothing
	checked := 0
	for _, c := range readCaptures(t) {
		if patience[c.name] != nil {
			continue // replies don't stand behind their commands
		}
		_, rest := c.feedWhole(t)
		var command []byte
		for _, step := range interleave(c.commands, rest, nil) {
			if step.command != nil {
				command = step.command
				continue
			}
			reply, err := ParseReply(step.replies)
			if err != nil || command == nil || string(command) == dropped+"\n" {
				continue // a HANGUP
			}
			checked++
			refused := reply.Code == 510 || reply.Code == 520
			if err := CheckCommand(string(bytes.TrimSuffix(command, []byte("\n")))); (err != nil) != refused {
				t.Errorf("%s: CheckCommand(%q) = %v; Asterisk said %d", c.name, command, err, reply.Code)
			}
			command = nil
		}
	}
	if checked < 50 {
		t.Errorf("%d commands checked; want all of the captures", checked)
	}
}

// Each command is right with as many arguments as it takes, and with one more or
// less it is not.
func TestCountsOfArguments(t *testing.T) {
	for c := Other + 1; c < Command(NumCommands); c++ {
		fewest, most := c.arguments()
		for _, n := range []int{fewest - 1, fewest, most, most + 1} {
			if n < 0 || n > MaxWords-1 {
				continue
			}
			line := c.String() + strings.Repeat(` "x y"`, n)
			if err := CheckCommand(line); (err == nil) != (n >= fewest && n <= most) {
				t.Errorf("CheckCommand(%q) = %v; want %d to %d arguments", line, err, fewest, most)
			}
		}
	}
}

// asteriskWords is parse_args of res/res_agi.c as it stands there, with the
// word under way in place of pointers.
func asteriskWords(line string) (words []string) {
	quoted, escaped, whitespace := false, false, true
	var cur *string
	begin := func() {
		words = append(words, "")
		cur = &words[len(words)-1]
		whitespace = false
	}
	normal := func(c byte) {
		if whitespace {
			begin()
		}
		*cur += string([]byte{c})
		escaped = false
	}
	for i := range len(line) {
		switch c := line[i]; c {
		case '"':
			if escaped {
				normal(c)
				continue
			}
			quoted = !quoted
			if quoted && whitespace {
				begin()
			}
			escaped = false
		case ' ', '\t':
			if quoted || escaped {
				normal(c)
				continue
			}
			whitespace = true
		case '\\':
			if escaped {
				normal(c)
				continue
			}
			escaped = true
		default:
			normal(c)
		}
	}
	return words
}

func FuzzCheckCommand(f *testing.F) {
	for _, c := range readCaptures(f) {
		for _, line := range c.commands {
			f.Add(string(bytes.TrimSuffix(line, []byte("\n"))))
		}
	}
	f.Add(`EXEC "a\" b" \\"c d" \ e "" "`)
	f.Fuzz(func(t *testing.T, line string) {
		words := asteriskWords(line)
		if got, _ := countWords(line); got != len(words) {
			t.Errorf("countWords(%q) = %d; Asterisk makes %d: %q", line, got, len(words), words)
		}
		if CheckCommand(line) != nil {
			return
		}
		name := strings.Fields(ParseCommand([]byte(line)).String())
		if len(words) < len(name) || len(words) > MaxWords || !slices.EqualFunc(words[:len(name)], name, equalInASCII) {
			t.Errorf("CheckCommand(%q) = nil; Asterisk reads %q", line, words)
		}
		if len(line) >= MaxLine || strings.ContainsAny(line, "\r\n\x00") || IsFailure([]byte(line)) {
			t.Errorf("CheckCommand(%q) = nil; it is not one line of Asterisk's", line)
		}
	})
}
