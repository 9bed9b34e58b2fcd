package agi

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A measured is a line, and what Asterisk was seen to do with it.
type measured struct{ line, saw string }

// readLines returns what testdata/lines.NAME has. TestLinesAsAsteriskReadsThem in
// testbed/e2e writes it.
func readLines(t testing.TB, name string) (all []measured) {
	t.Helper()
	text, err := os.ReadFile("testdata/lines." + name)
	if err != nil {
		t.Fatal(err)
	}
	for row := range strings.Lines(string(text)) {
		quoted, err := strconv.QuotedPrefix(row)
		if err != nil {
			continue // a comment
		}
		line, _ := strconv.Unquote(quoted)
		all = append(all, measured{line, strings.TrimPrefix(strings.TrimSpace(row[len(quoted):]), "-> ")})
	}
	if len(all) < 40 {
		t.Fatalf("%d lines in testdata/lines.%s", len(all), name)
	}
	return all
}

// words returns a line's words by NextWord.
func words(line string) (all []string) {
	rest := []byte(line)
	for {
		word, next, ok := NextWord(rest, nil)
		if !ok {
			return all
		}
		all, rest = append(all, string(word)), next
	}
}

func TestWordsAreAsterisks(t *testing.T) {
	for _, m := range readLines(t, "words") {
		want := "none"
		if got := words(m.line); len(got) == 2 {
			want = fmt.Sprintf("%q %q", got[0], got[1])
		}
		if m.saw != want {
			t.Errorf("the words of %q are %s; Asterisk found %s", m.line, want, m.saw)
		}
	}
}

// A line is a command exactly where Asterisk doesn't say that it is none, and an
// application's name is the word behind EXEC as Asterisk looks for it.
func TestCommandsAreWhatAsteriskTakesForThem(t *testing.T) {
	for _, m := range readLines(t, "commands") {
		c := ParseCommand([]byte(m.line))
		if (c == Other) != strings.HasPrefix(m.saw, "510 ") {
			t.Errorf("ParseCommand(%q) = %v; Asterisk said %q", m.line, c, m.saw)
		}
		if got := words(m.line); c.String() == "EXEC" && len(got) > 1 && EqualWord([]byte(got[1]), "NOOP") == (m.saw == "200 result=-2") {
			t.Errorf("the application in %q is %q; Asterisk said %q", m.line, got[1], m.saw)
		}
	}
}

func TestTooManyWords(t *testing.T) {
	for _, test := range []struct {
		name, line string
		want       bool
	}{
		{"none", "", false},
		{"as many as there may be", strings.Repeat("x ", MaxWords), false},
		{"one more", strings.Repeat("x ", MaxWords) + "x", true},
		{"one more, empty", strings.Repeat("x ", MaxWords) + `"`, true},
		{"one more, behind a backslash", strings.Repeat("x ", MaxWords) + `\ `, true},
		{"a backslash that begins none", strings.Repeat("x ", MaxWords) + `\`, false},
		{"many blanks", "NOOP" + strings.Repeat(" ", 500), false},
		{"blanks in quotes", `NOOP "` + strings.Repeat("x ", 500) + `"`, false},
		{"quotes at once", strings.Repeat(`""`, 500), false},
		{"quotes", strings.Repeat(`"" `, MaxWords+1), true},
	} {
		for _, end := range []string{"", "\n"} {
			if got := TooManyWords([]byte(test.line + end)); got != test.want {
				t.Errorf("%s: TooManyWords(%q) = %v; want %v", test.name, test.line+end, got, test.want)
			}
		}
	}
}

func TestWordsAllocateNothing(t *testing.T) {
	line := []byte(`"E"XEC Sy\stem "touch /tmp/x"` + strings.Repeat(" x", 200) + "\n")
	if n := testing.AllocsPerRun(100, func() {
		TooManyWords(line)
		ParseCommand(line)
	}); n != 0 {
		t.Errorf("%v allocations; want none", n)
	}
}

// FuzzWords compares NextWord with Asterisk's own way of cutting.
func FuzzWords(f *testing.F) {
	for _, name := range []string{"words", "commands"} {
		for _, m := range readLines(f, name) {
			f.Add(m.line)
		}
	}
	f.Fuzz(func(t *testing.T, line string) {
		if strings.Contains(line, "\n") {
			return
		}
		want := asteriskWords(line)
		if got := words(line); !slices.Equal(got, want) {
			t.Errorf("the words of %q are %q; Asterisk finds %q", line, got, want)
		}
		if got := TooManyWords([]byte(line + "\n")); got != (len(want) > MaxWords) {
			t.Errorf("TooManyWords(%q) = %v; it has %d", line, got, len(want))
		}
	})
}
