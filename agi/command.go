package agi

import (
	"bytes"
	"strings"
)

// A Command is one of AGI's own commands; arguments are not part of it. The
// zero value is [Other].
type Command uint8

// Other is every line that begins with none of AGI's commands.
const Other Command = 0

// NumCommands is how many values Command has, Other included: a table that is
// indexed by commands has this length.
const NumCommands = len(commandNames)

// The commands that somebody in between has to know apart.
const (
	databaseGet     Command = 7
	getData         Command = 10
	getFullVariable Command = 11
	getOption       Command = 12
	getVariable     Command = 13
	hangup          Command = 15
	receiveText     Command = 18
	streamFile      Command = 44
)

// commandNames is the table "commands" of Asterisk's res/res_agi.c in the order
// of the alphabet, with GOSUB, which apps/app_stack.c adds (Asterisk 22.10). No
// command begins with the words of another.
var commandNames = [...]string{
	Other: "other",

	"ANSWER", "ASYNCAGI BREAK", "CHANNEL STATUS", "CONTROL STREAM FILE",
	"DATABASE DEL", "DATABASE DELTREE", databaseGet: "DATABASE GET", "DATABASE PUT",
	"EXEC",
	getData: "GET DATA", getFullVariable: "GET FULL VARIABLE", getOption: "GET OPTION",
	getVariable: "GET VARIABLE",
	"GOSUB", hangup: "HANGUP", "NOOP",
	"RECEIVE CHAR", receiveText: "RECEIVE TEXT", "RECORD FILE",
	"SAY ALPHA", "SAY DATE", "SAY DATETIME", "SAY DIGITS", "SAY NUMBER", "SAY PHONETIC", "SAY TIME",
	"SEND IMAGE", "SEND TEXT",
	"SET AUTOHANGUP", "SET CALLERID", "SET CONTEXT", "SET EXTENSION", "SET MUSIC", "SET PRIORITY",
	"SET VARIABLE",
	"SPEECH ACTIVATE GRAMMAR", "SPEECH CREATE", "SPEECH DEACTIVATE GRAMMAR", "SPEECH DESTROY",
	"SPEECH LOAD GRAMMAR", "SPEECH RECOGNIZE", "SPEECH SET", "SPEECH UNLOAD GRAMMAR",
	streamFile: "STREAM FILE", "TDD MODE", "VERBOSE", "WAIT FOR DIGIT",
}

// String returns the command as Asterisk documents it, in capitals, or "other".
func (c Command) String() string { return commandNames[c] }

// unansweredWhenInterrupted reports whether Asterisk drops the command without
// a reply as soon as another one arrives (measured with Asterisk 22.10; WAIT
// FOR DIGIT stops as well, but answers).
func (c Command) unansweredWhenInterrupted() bool {
	return c == streamFile || c == getData || c == getOption
}

// answersText reports whether the reply carries a text in parentheses that can
// hold line breaks.
func (c Command) answersText() bool {
	switch c {
	case databaseGet, getFullVariable, getVariable, receiveText:
		return true
	}
	return false
}

// ParseCommand returns the command that line begins with, which may have a line
// feed at its end. Asterisk takes commands in any case, with any number of blanks
// before and between the words, and with quotes and backslashes anywhere in them,
// see [NextWord]. A carriage return is part of a word, so NOOP and one is no
// command, and neither is the beginning of a word, or two in one pair of quotes.
//
// Source: parse_args and find_command in Asterisk's res/res_agi.c;
// testdata/lines.commands has what a real one took for commands.
func ParseCommand(line []byte) Command {
	line = bytes.TrimLeft(bytes.TrimSuffix(line, []byte("\n")), " \t")
	if len(line) == 0 {
		return Other
	}
	first := upper(line[0])
	for i, name := range commandNames[1:] {
		if first == name[0] && beginsWith(line, name) {
			return Command(i + 1)
		}
	}
	if bytes.IndexByte(line, '"') >= 0 || bytes.IndexByte(line, '\\') >= 0 {
		return parseQuoted(line)
	}
	return Other
}

// parseQuoted is ParseCommand for a line in whose words there may be quotes. No
// library writes such; who wants to hide a command does.
func parseQuoted(line []byte) Command {
	for i, name := range commandNames[1:] {
		var scratch [32]byte
		rest, found := line, true
		for want := range strings.SplitSeq(name, " ") {
			var word []byte
			if word, rest, found = NextWord(rest, scratch[:0]); !found || !EqualWord(word, want) {
				found = false
				break
			}
		}
		if found {
			return Command(i + 1)
		}
	}
	return Other
}

// beginsWith reports whether the first words of line are those of name.
func beginsWith(line []byte, name string) bool {
	i := 0
	for j := range len(name) {
		if name[j] == ' ' {
			if i >= len(line) || !blank(line[i]) {
				return false
			}
			for i < len(line) && blank(line[i]) {
				i++
			}
			continue
		}
		if i >= len(line) || upper(line[i]) != name[j] {
			return false
		}
		i++
	}
	return i >= len(line) || blank(line[i])
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

func upper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}
