package main

import (
	"bytes"
	"strings"
	"testing"

	"agiproxy/admin"
	"agiproxy/internal/agisim"
)

// What callers and servers have said is shown, and does nothing to the terminal: no
// escape sequences, be they begun by one byte or by two, no line of their own, no text
// that runs backwards.
func TestPeersSteerNoTerminal(t *testing.T) {
	const evil = "a\x1b[2Jb\u009b31mc\rd\u202ee\x7ff\x9bg\nh\ti"
	const want = "a�[2Jb�31mc�d�e�f�g�h\ti"
	if got := printable(evil); got != want {
		t.Errorf("printable(%q) = %q; want %q", evil, got, want)
	}
	var out bytes.Buffer
	p := newPrinter(&out)
	p.print(agisim.Event{Kind: agisim.Received, Text: evil})
	p.print(agisim.Event{Kind: agisim.Sent, Text: evil})
	(&remote{out: &out}).sessions([]admin.Session{{Script: evil, Caller: evil, UniqueID: evil}})
	got := out.String()
	if strings.ContainsAny(got, "\x1b\r\x7f\u009b\u202e") || strings.Contains(got, "\x9bg") || strings.Count(got, "\n") != 4 {
		t.Errorf("shown as %q; want four lines that steer nothing", got)
	}
}
