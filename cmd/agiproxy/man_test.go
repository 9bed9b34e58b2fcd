package main

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestManualHasEveryCommandAndFlag(t *testing.T) {
	var page, stderr strings.Builder
	if code := run([]string{"man"}, &page, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	for _, c := range shown(newRoot()) {
		if !strings.Contains(page.String(), ".SS agiproxy "+roff(c.Use)+"\n") {
			t.Errorf("the manual lacks %s", c.CommandPath())
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !strings.Contains(page.String(), roff("--"+f.Name)) {
				t.Errorf("the manual lacks %s --%s", c.CommandPath(), f.Name)
			}
		})
	}
	for line := range strings.Lines(page.String()) {
		if request, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(line, ".") &&
			!strings.Contains(" .TH .SH .SS .PP .TP .B .BR .I .br .nf .fi ", " "+request+" ") {
			t.Errorf("roff takes %q for a request", line)
		}
	}
}

func TestRoff(t *testing.T) {
	for text, want := range map[string]string{
		"plain":         "plain",
		"--flag":        `\-\-flag`,
		`a\nb`:          `a\enb`,
		".TH\n'x\nok\n": "\\&.TH\n\\&'x\nok\n",
	} {
		if got := roff(text); got != want {
			t.Errorf("roff(%q) = %q; want %q", text, got, want)
		}
	}
}
