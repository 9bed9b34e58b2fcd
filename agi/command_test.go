package agi

import (
	"slices"
	"strings"
	"testing"
)

// asteriskCommands is what "agi show commands" lists on Asterisk 22.10 with
// app_stack loaded.
const asteriskCommands = `
answer, asyncagi break, channel status, control stream file, database del, database deltree,
database get, database put, exec, get data, get full variable, get option, get variable, gosub,
hangup, noop, receive char, receive text, record file, say alpha, say date, say datetime, say
digits, say number, say phonetic, say time, send image, send text, set autohangup, set callerid,
set context, set extension, set music, set priority, set variable, speech activate grammar,
speech create, speech deactivate grammar, speech destroy, speech load grammar, speech recognize,
speech set, speech unload grammar, stream file, tdd mode, verbose, wait for digit`

func TestCommandsAreAsterisks(t *testing.T) {
	var got []string
	for c := Other + 1; c < Command(NumCommands); c++ {
		got = append(got, c.String())
	}
	var want []string
	for name := range strings.SplitSeq(asteriskCommands, ",") {
		want = append(want, strings.ToUpper(strings.Join(strings.Fields(name), " ")))
	}
	if !slices.Equal(got, want) {
		t.Errorf("commands are\n%q; want\n%q", got, want)
	}
	if !slices.IsSorted(got) {
		t.Errorf("commands are %q; want them in the order of the alphabet", got)
	}
	for _, name := range got {
		for _, longer := range got {
			if strings.HasPrefix(longer, name+" ") {
				t.Errorf("%q begins with the words of %q; ParseCommand takes the first that fits", longer, name)
			}
		}
	}
	if got := Other.String(); got != "other" {
		t.Errorf("Other is %q; want %q", got, "other")
	}
}

func TestEachCommandIsParsedByItsName(t *testing.T) {
	for c := range Command(NumCommands) {
		for _, line := range []string{
			c.String(), c.String() + "\n", strings.ToLower(c.String()) + ` "x" y` + "\n", c.String() + "\targument",
			" \t" + strings.ReplaceAll(c.String(), " ", " \t ") + " \n",
		} {
			if got := ParseCommand([]byte(line)); got != c {
				t.Errorf("ParseCommand(%q) = %v; want %v", line, got, c)
			}
		}
		if got := ParseCommand([]byte(c.String() + "X")); got != Other {
			t.Errorf("ParseCommand(%q) = %v; want other", c.String()+"X", got)
		}
	}
}

func TestParseCommand(t *testing.T) {
	for _, test := range []struct{ name, line, want string }{
		{"nothing", "", "other"},
		{"line feed only", "\n", "other"},
		{"blanks only", "  \t \n", "other"},
		{"mixed case", "Get fULL Variable x", "GET FULL VARIABLE"},
		{"first word only", "GET\n", "other"},
		{"first word and a blank", "GET \n", "other"},
		{"two words of three", "GET FULL x\n", "other"},
		{"a word that is longer", "SAY DATES x\n", "other"},
		{"the longer of two that begin alike", "SAY DATETIME 0 \"\"\n", "SAY DATETIME"},
		{"the shorter of two that begin alike", "SAY DATE 0 \"\"\n", "SAY DATE"},
		{"words without a blank", "GETVARIABLE x\n", "other"},
		{"carriage return in place of an argument", "NOOP\r\n", "other"}, // Asterisk says 510
		{"carriage return behind an argument", "NOOP x\r\n", "NOOP"},
		{"carriage return between words", "GET\rVARIABLE x\n", "other"},
		{"line feed between words", "GET\nVARIABLE x", "other"},
		{"quoted command", "\"NOOP\"\n", "NOOP"},
		{"quotes within a word", "N\"OO\"P x\n", "NOOP"},
		{"backslashes", "\\N\\OOP x\n", "NOOP"},
		{"words quoted one by one", "\"STREAM\" \"file\" x\n", "STREAM FILE"},
		{"words quoted together", "\"STREAM FILE\" x\n", "other"},
		{"quoted argument at once", "NOOP\"x\"\n", "other"},
		{"letters of another alphabet", "NOOP\xc0\n", "other"},
		{"letters that differ in one bit", "n/OP\n", "other"},
		{"an @ is no capital `", "`NOOP\n", "other"},
		{"NUL", "\x00NOOP\n", "other"},
		{"failure", "failure\n", "other"},
		{"a command of another system", "SPEECH START\n", "other"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := ParseCommand([]byte(test.line)); got.String() != test.want {
				t.Errorf("ParseCommand(%q) = %v; want %v", test.line, got, test.want)
			}
		})
	}
}

// FuzzCommand compares ParseCommand with the plain way to say what it does.
func FuzzCommand(f *testing.F) {
	for _, c := range readCaptures(f) {
		for _, line := range c.commands {
			f.Add(line)
		}
	}
	f.Add([]byte("\tget \t full  VARIABLE\r\n"))
	for _, row := range readLines(f, "commands") {
		f.Add([]byte(row.line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		words := asteriskWords(strings.TrimSuffix(string(line), "\n"))
		want := Other
		for c := Other + 1; c < Command(NumCommands); c++ {
			name := strings.Fields(c.String())
			if len(words) >= len(name) && slices.EqualFunc(words[:len(name)], name, equalInASCII) {
				want = c
			}
		}
		if got := ParseCommand(line); got != want {
			t.Errorf("ParseCommand(%q) = %v; want %v", line, got, want)
		}
	})
}

// equalInASCII compares as C's strcasecmp does. (strings.EqualFold knows a Kelvin
// sign that equals a k.)
func equalInASCII(word, name string) bool {
	if len(word) != len(name) {
		return false
	}
	for i := range len(word) {
		c := word[i]
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != name[i] {
			return false
		}
	}
	return true
}
