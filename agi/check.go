package agi

import (
	"errors"
	"fmt"
	"strings"
)

// ErrUnknownCommand says that a line begins with none of AGI's commands.
var ErrUnknownCommand = errors.New("no command that Asterisk knows")

// CheckCommand tells what keeps Asterisk from running a line, written without
// its line end, as the one command that it seems to be; nil if nothing does.
// [ErrUnknownCommand] is one of the reasons, a wrong number of arguments another.
// What the arguments say is not looked at.
//
// Source: run_agi, agi_handle_command and parse_args in Asterisk's res/res_agi.c.
func CheckCommand(line string) error {
	c := ParseCommand([]byte(line))
	words, quoted := countWords(line)
	switch {
	case strings.ContainsAny(line, "\r\n\x00"):
		return errors.New("a line break or NUL inside; one command is one line")
	case IsFailure([]byte(line)):
		return errors.New("this ends the session with AGISTATUS=FAILURE and is no command")
	case c == Other:
		return ErrUnknownCommand
	case len(line) >= MaxLine:
		return fmt.Errorf("too long; Asterisk takes at most %d bytes", MaxLine-1)
	case words > MaxWords:
		return fmt.Errorf("%d words are too many; Asterisk takes at most %d", words, MaxWords)
	case quoted:
		return errors.New("a quote that isn't closed")
	}
	n := words - len(strings.Fields(c.String()))
	switch fewest, most := c.arguments(); {
	case n < fewest:
		return fmt.Errorf("%v has %s; want %d at least", c, arguments(n), fewest)
	case n > most && most == 0:
		return fmt.Errorf("%v has %s; want none", c, arguments(n))
	case n > most:
		return fmt.Errorf("%v has %s; want %d at most, with quotes around one that has blanks", c, arguments(n), most)
	}
	return nil
}

func arguments(n int) string {
	switch n {
	case 0:
		return "no argument"
	case 1:
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", n)
}

// arguments returns how many arguments the command takes, at least and at most.
// With others Asterisk shows the usage, or does less than was written: it has
// SET VARIABLE X two words store the first, and drops what follows an
// application's one argument in EXEC.
//
// Source: the handlers in res/res_agi.c and apps/app_stack.c.
func (c Command) arguments() (fewest, most int) {
	switch c.String() {
	case "ANSWER", "ASYNCAGI BREAK", "SPEECH DESTROY":
		return 0, 0
	case "CHANNEL STATUS", "HANGUP":
		return 0, 1
	case "GET VARIABLE", "RECEIVE CHAR", "RECEIVE TEXT", "SEND IMAGE", "SEND TEXT", "SET AUTOHANGUP",
		"SET CALLERID", "SET CONTEXT", "SET EXTENSION", "SET PRIORITY", "SPEECH ACTIVATE GRAMMAR",
		"SPEECH CREATE", "SPEECH DEACTIVATE GRAMMAR", "SPEECH UNLOAD GRAMMAR", "TDD MODE", "WAIT FOR DIGIT":
		return 1, 1
	case "DATABASE DELTREE", "EXEC", "GET FULL VARIABLE", "SET MUSIC", "VERBOSE":
		return 1, 2
	case "GET DATA":
		return 1, 3
	case "DATABASE DEL", "DATABASE GET", "SAY ALPHA", "SAY DATE", "SAY DIGITS", "SAY PHONETIC", "SAY TIME",
		"SET VARIABLE", "SPEECH LOAD GRAMMAR", "SPEECH SET":
		return 2, 2
	case "GET OPTION", "SAY NUMBER", "SPEECH RECOGNIZE", "STREAM FILE":
		return 2, 3
	case "SAY DATETIME":
		return 2, 4
	case "CONTROL STREAM FILE":
		return 2, 7
	case "DATABASE PUT":
		return 3, 3
	case "GOSUB":
		return 3, 4
	case "RECORD FILE":
		return 4, 7
	}
	return 0, MaxWords // NOOP
}
