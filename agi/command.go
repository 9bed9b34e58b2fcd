package agi

// A Command is one of AGI's own commands; arguments are not part of it. The
// zero value is [Other].
type Command uint8

// Other is every line that begins with none of AGI's commands.
const Other Command = 0

// NumCommands is how many values Command has, Other included: a table that is
// indexed by commands has this length.
const NumCommands = 49

// commandNames is the table "commands" of Asterisk's res/res_agi.c and the words
// that its modules add.
var commandNames = [NumCommands]string{
	Other: "other",
	1:     "ANSWER", 2: "ASYNCAGI BREAK", 3: "CHANNEL STATUS", 4: "CONTROL STREAM FILE",
	5: "DATABASE DEL", 6: "DATABASE DELTREE", 7: "DATABASE GET", 8: "DATABASE PUT",
	9: "EXEC", 10: "GET DATA", 11: "GET FULL VARIABLE", 12: "GET OPTION", 13: "GET VARIABLE",
	14: "GOSUB", 15: "HANGUP", 16: "NOOP", 17: "RECEIVE CHAR", 18: "RECEIVE TEXT",
	19: "RECORD FILE", 20: "SAY ALPHA", 21: "SAY DATE", 22: "SAY DATETIME", 23: "SAY DIGITS",
	24: "SAY NUMBER", 25: "SAY PHONETIC", 26: "SAY TIME", 27: "SEND IMAGE", 28: "SEND TEXT",
	29: "SET AUTOHANGUP", 30: "SET CALLERID", 31: "SET CONTEXT", 32: "SET EXTENSION",
	33: "SET MUSIC", 34: "SET PRIORITY", 35: "SET VARIABLE", 36: "SPEECH ACTIVATE GRAMMAR",
	37: "SPEECH CREATE", 38: "SPEECH DEACTIVATE GRAMMAR", 39: "SPEECH DESTROY",
	40: "SPEECH LOAD GRAMMAR", 41: "SPEECH RECOGNIZE", 42: "SPEECH SET", 43: "SPEECH START",
	44: "SPEECH UNLOAD GRAMMAR", 45: "STREAM FILE", 46: "TDD MODE", 47: "VERBOSE",
	48: "WAIT FOR DIGIT",
}

// The commands that somebody in between has to know apart.
const (
	databaseGet     Command = 7
	getData         Command = 10
	getFullVariable Command = 11
	getOption       Command = 12
	getVariable     Command = 13
	hangup          Command = 15
	receiveText     Command = 18
	streamFile      Command = 45
)

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

// ParseCommand returns the command that line begins with. Asterisk takes
// commands in any case and with any number of blanks between the words; of
// commands that begin alike the longest counts.
func ParseCommand(line []byte) Command {
	best := Other
	for c := Command(1); c < NumCommands; c++ {
		name := commandNames[c]
		if len(line) < len(name) || line[0]&^0x20 != name[0] {
			continue
		}
		if beginsWith(line, name) && (best == Other || len(name) > len(commandNames[best])) {
			best = c
		}
	}
	return best
}

// beginsWith reports whether line begins with the words of name.
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
	return i >= len(line) || blank(line[i]) || line[i] == '\n' || line[i] == '\r'
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

func upper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}
