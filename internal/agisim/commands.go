package agisim

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"agiproxy/agi"
)

// An answer is what a command leads to.
type answer struct {
	lines  []string // of the reply; none: Asterisk says nothing
	failed bool     // RESULT_FAILURE in res_agi.c: AGISTATUS becomes FAILURE
}

func replyf(format string, args ...any) answer {
	return answer{lines: []string{"200 " + fmt.Sprintf(format, args...)}}
}

// failf is replyf for a command that failed.
func failf(format string, args ...any) answer {
	a := replyf(format, args...)
	a.failed = true
	return a
}

// A command's entry in the table: how many arguments it needs, and what it does
// with them. A nil do is answered by the reply alone.
type command struct {
	args  int    // at least; fewer are answered by the usage
	usage string // of the arguments
	dead  bool   // may run when the caller has left
	reply string // what stands behind the code, for nil do
	do    func(ch *channel, args []string) answer
}

// commandTable has AGI's own commands by name. Replies are those of Asterisk
// 22.10 on a channel where nothing goes wrong; what isn't here is answered 510.
func commandTable() map[string]command {
	say := command{args: 2, usage: "<text> <escape digits>", do: (*channel).say}
	ok := command{reply: "result=0"}
	one := command{args: 1, usage: "<value>", reply: "result=0"}
	return map[string]command{
		"ANSWER":                    ok,
		"ASYNCAGI BREAK":            {dead: true, reply: "result=0"},
		"CHANNEL STATUS":            {do: (*channel).status},
		"CONTROL STREAM FILE":       {args: 2, usage: "<file> <escape digits> [skip ms] ...", do: (*channel).controlStream},
		"DATABASE DEL":              {args: 2, usage: "<family> <key>", dead: true, do: (*channel).databaseDel},
		"DATABASE DELTREE":          {args: 1, usage: "<family> [keytree]", dead: true, reply: "result=0"},
		"DATABASE GET":              {args: 2, usage: "<family> <key>", dead: true, do: (*channel).databaseGet},
		"DATABASE PUT":              {args: 3, usage: "<family> <key> <value>", dead: true, do: (*channel).databasePut},
		"EXEC":                      {args: 1, usage: "<application> <options>", dead: true, do: (*channel).exec},
		"GET DATA":                  {args: 1, usage: "<file> [timeout] [max digits]", do: (*channel).getData},
		"GET FULL VARIABLE":         {args: 1, usage: "<expression> [channel]", dead: true, do: (*channel).getFull},
		"GET OPTION":                {args: 2, usage: "<file> <escape digits> [timeout]", do: (*channel).getOption},
		"GET VARIABLE":              {args: 1, usage: "<name>", dead: true, do: (*channel).get},
		"GOSUB":                     {args: 3, usage: "<context> <extension> <priority> [argument]", reply: "result=0"},
		"HANGUP":                    {do: (*channel).hangup},
		"NOOP":                      {dead: true, reply: "result=0"},
		"RECEIVE CHAR":              {args: 1, usage: "<timeout>", do: (*channel).receive},
		"RECEIVE TEXT":              {args: 1, usage: "<timeout>", do: (*channel).receive},
		"RECORD FILE":               {args: 4, usage: "<file> <format> <escape digits> <timeout> ...", do: (*channel).record},
		"SAY ALPHA":                 say,
		"SAY DATE":                  say,
		"SAY DATETIME":              say,
		"SAY DIGITS":                say,
		"SAY NUMBER":                say,
		"SAY PHONETIC":              say,
		"SAY TIME":                  say,
		"SEND IMAGE":                one,
		"SEND TEXT":                 one,
		"SET AUTOHANGUP":            one,
		"SET CALLERID":              {args: 1, usage: "<number>", reply: "result=1"},
		"SET CONTEXT":               one,
		"SET EXTENSION":             one,
		"SET MUSIC":                 one,
		"SET PRIORITY":              one,
		"SET VARIABLE":              {args: 2, usage: "<name> <value>", dead: true, do: (*channel).set},
		"SPEECH ACTIVATE GRAMMAR":   one,
		"SPEECH CREATE":             one,
		"SPEECH DEACTIVATE GRAMMAR": one,
		"SPEECH DESTROY":            {dead: true, reply: "result=0"},
		"SPEECH LOAD GRAMMAR":       {args: 2, usage: "<name> <path>", reply: "result=0"},
		"SPEECH RECOGNIZE":          {args: 2, usage: "<prompt> <timeout> [offset]", reply: "result=0"},
		"SPEECH SET":                {args: 2, usage: "<name> <value>", reply: "result=0"},
		"SPEECH START":              ok,
		"SPEECH UNLOAD GRAMMAR":     {args: 1, usage: "<name>", dead: true, reply: "result=0"},
		"STREAM FILE":               {args: 2, usage: "<file> <escape digits> [sample offset]", do: (*channel).stream},
		"TDD MODE":                  one,
		"VERBOSE":                   {args: 1, usage: "<message> [level]", dead: true, reply: "result=1"},
		"WAIT FOR DIGIT":            {args: 1, usage: "<timeout>", do: (*channel).waitForDigit},
	}
}

// parse splits a line as Asterisk does and returns the name of the command in
// it, and its arguments. A line that is no command has the name "other".
func parse(line string) (name string, args []string) {
	words := split(line)
	c := agi.ParseCommand([]byte(strings.Join(words, " ")))
	name = c.String()
	n := strings.Count(name, " ") + 1
	if c == agi.Other || !strings.EqualFold(strings.Join(words[:n], " "), name) {
		return agi.Other.String(), nil // Asterisk has a carriage return belong to the word
	}
	return name, words[n:]
}

// split cuts a line at blanks. Quotes hold words together and are removed, a
// backslash takes the next character's meaning away.
//
// Source: parse_args in res_agi.c.
func split(line string) (words []string) {
	var word strings.Builder
	inWord, quoted, escaped := false, false, false
	for i := range len(line) {
		switch c := line[i]; {
		case escaped:
			word.WriteByte(c)
			inWord, escaped = true, false
		case c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
			inWord = true
		case (c == ' ' || c == '\t') && !quoted:
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words
}

// execute runs a command to its end.
func (ch *channel) execute(name string, args []string) answer {
	c, known := ch.commands[name]
	switch {
	case !known:
		return answer{lines: []string{"510 Invalid or unknown command"}}
	case ch.dead && !c.dead:
		return answer{lines: []string{"511 Command Not Permitted on a dead channel or intercept routine"}}
	case len(args) < c.args:
		return answer{lines: []string{
			"520-Invalid command syntax.  Proper usage follows:",
			"Usage: " + name + " " + c.usage,
			"520 End of proper usage.",
		}}
	case c.do == nil:
		return replyf("%s", c.reply)
	}
	return c.do(ch, args)
}

func (ch *channel) hangup([]string) answer {
	ch.left = true // the server is told behind the reply
	return replyf("result=1")
}

func (ch *channel) status(args []string) answer {
	if len(args) > 0 && args[0] != ch.expand("${CHANNEL}") {
		return replyf("result=-1")
	}
	return replyf("result=6") // up
}

func (ch *channel) set(args []string) answer {
	ch.vars[args[0]] = args[1]
	return replyf("result=1")
}

func (ch *channel) get(args []string) answer {
	return ch.value(ch.expand("${"+args[0]+"}"), 1023) // longer ones are cut
}

func (ch *channel) getFull(args []string) answer {
	return ch.value(ch.expand(args[0]), 1<<20)
}

func (ch *channel) value(s string, limit int) answer {
	if s == "" {
		return replyf("result=0")
	}
	return replyf("result=1 (%s)", s[:min(len(s), limit)])
}

// expand puts values in for ${NAME}; what isn't set is empty.
func (ch *channel) expand(s string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, "${")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		var name string
		name, s, _ = strings.Cut(rest, "}")
		value, ok := ch.vars[name]
		if !ok {
			switch env := &ch.call.Environment; name {
			case "CHANNEL":
				value = cmp.Or(env.Channel, "Local/s@default-00000001;2")
			case "UNIQUEID":
				value = env.UniqueID
			case "CALLERID(num)":
				value = env.CallerID
			case "CALLERID(name)":
				value = env.CallerName
			case "EXTEN":
				value = cmp.Or(env.Extension, "s")
			case "CONTEXT":
				value = cmp.Or(env.Context, "default")
			}
		}
		b.WriteString(value)
	}
}

func (ch *channel) databasePut(args []string) answer {
	if ch.database == nil {
		ch.database = map[string]string{}
	}
	ch.database[args[0]+"/"+args[1]] = args[2]
	return replyf("result=1")
}

func (ch *channel) databaseGet(args []string) answer {
	return ch.value(ch.database[args[0]+"/"+args[1]], 1<<20)
}

func (ch *channel) databaseDel(args []string) answer {
	key := args[0] + "/" + args[1]
	if _, ok := ch.database[key]; !ok {
		return replyf("result=0")
	}
	delete(ch.database, key)
	return replyf("result=1")
}

// exec runs an application: Wait takes its time, Set sets, Playback plays, and
// all others are done at once. Nothing from the server interrupts it.
func (ch *channel) exec(args []string) answer {
	options := ""
	if len(args) > 1 {
		options = args[1]
	}
	var d time.Duration
	switch strings.ToLower(args[0]) {
	case "wait":
		seconds, _ := strconv.ParseFloat(options, 64)
		d = time.Duration(seconds * float64(time.Second))
	case "playback", "background":
		d = ch.prompt
	case "set":
		if name, value, ok := strings.Cut(options, "="); ok {
			ch.vars[name] = value
		}
	}
	if d > 0 && ch.wait(d, false) == gone {
		return replyf("result=-1")
	}
	return replyf("result=0")
}
