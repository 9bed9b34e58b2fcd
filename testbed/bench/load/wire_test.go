//go:build linux

package load

import (
	"strings"
	"testing"
)

func TestLineTellsItsNumbersFromOthers(t *testing.T) {
	l := newLine(commandLine)
	got := string(l.fill(0xbeef, 7))
	if want := "GET VARIABLE BENCH_0000beef_00000007\n"; got != want {
		t.Fatalf("fill(0xbeef, 7) = %q; want %q", got, want)
	}
	if n, ok := l.number([]byte(got)); n != 0xbeef || !ok {
		t.Errorf("number(%q) = %#x, %v; want 0xbeef, true", got, n, ok)
	}
	for _, c := range []struct {
		name string
		line string
		want bool
	}{
		{"itself", got, true},
		{"another session's", strings.Replace(got, "beef", "beee", 1), false},
		{"another command's", strings.Replace(got, "7\n", "8\n", 1), false},
		{"half of it", got[:20], false},
		{"twice", got + got, false},
	} {
		if is := l.is([]byte(c.line), 0xbeef, 7); is != c.want {
			t.Errorf("%s: is(%q) = %v; want %v", c.name, c.line, is, c.want)
		}
	}
}

func TestNumberOfGarbage(t *testing.T) {
	l := newLine(environment)
	for _, garbage := range []string{"", "agi_network: yes\n", strings.Replace(environment, "########", "0000zzzz", 1)} {
		if n, ok := l.number([]byte(garbage)); ok {
			t.Errorf("number(%q) = %#x; want none", garbage, n)
		}
	}
}

func TestEnvironmentIsCutWhereAsteriskCuts(t *testing.T) {
	if want := "agi_network: yes\n"; environment[:firstCut] != want {
		t.Errorf("the first %d bytes are %q; want %q", firstCut, environment[:firstCut], want)
	}
	if !strings.HasSuffix(environment, "\n\n") {
		t.Errorf("the environment ends with %q; want an empty line", environment[len(environment)-10:])
	}
}
