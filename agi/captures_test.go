package agi

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// A capture is a session that a real Asterisk has had; see testdata/README.md.
type capture struct {
	name     string
	asterisk []byte   // all that Asterisk sent, from the header on
	commands [][]byte // the server's lines, each with its line feed
}

// readCaptures returns every capture in testdata, by name.
func readCaptures(t testing.TB) []capture {
	t.Helper()
	files, err := filepath.Glob("testdata/*.server.bin")
	if err != nil || len(files) == 0 {
		t.Fatalf("no captures in testdata: %v", err)
	}
	var captures []capture
	for _, file := range files {
		name := strings.TrimSuffix(file, ".server.bin")
		server, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		asterisk, err := os.ReadFile(name + ".bin")
		if err != nil {
			t.Fatal(err)
		}
		captures = append(captures, capture{filepath.Base(name), asterisk, lines(server)})
	}
	return captures
}

// lines returns the whole lines of p, each with its line feed.
func lines(p []byte) (lines [][]byte) {
	for line := range bytes.Lines(p) {
		if bytes.HasSuffix(line, []byte("\n")) {
			lines = append(lines, line)
		}
	}
	return lines
}

// feedWhole returns the header of a capture and what follows it.
func (c capture) feedWhole(t testing.TB) (h *Header, rest []byte) {
	t.Helper()
	h = NewHeader(64 << 10)
	n, err := h.Feed(c.asterisk)
	if err != nil || !h.Done() {
		t.Fatalf("%s: Feed = %d, %v, Done() = %v; want a whole header", c.name, n, err, h.Done())
	}
	return h, c.asterisk[n:]
}

// patience says how many commands may wait for a reply when the server sends its
// command i, for the servers that don't await each reply.
var patience = map[string]func(i int) int{
	"interrupts": func(i int) int { return i % 2 },     // every other one interrupts the one before
	"pipelined":  func(i int) int { return min(i, 1) }, // two at once, and a third after the first reply
}

// A step is what one side sends before the other's turn comes.
type step struct {
	command []byte // one line of the server's
	own     bool   // which is not the server's, but of who stands in between
	replies []byte // or any number of Asterisk's
	settled bool   // or the word that nothing is under way
}

// interleave puts the two directions of a session into an order in which they
// can have happened, since a capture holds each for itself: the server sends
// its next command as soon as waiting allows, but is told before of a caller
// who leaves. Asterisk's last HANGUP, its goodbye, comes when the server is done.
func interleave(commands [][]byte, asterisk []byte, waiting func(i int) int) (steps []step) {
	if waiting == nil {
		waiting = func(int) int { return 0 }
	}
	var d Dialogue
	said := slices.Collect(bytes.Lines(asterisk))
	for i := 0; i < len(commands) || len(said) > 0; {
		ready := i < len(commands) && int(d.n) <= waiting(i)
		told := len(said) > 1 && !d.MidReply() && string(said[0]) == "HANGUP\n"
		if ready && !told || len(said) == 0 {
			d.Command(commands[i])
			steps = append(steps, step{command: commands[i]})
			i++
			continue
		}
		d.Replies(said[0])
		if last := len(steps) - 1; last >= 0 && steps[last].command == nil {
			steps[last].replies = slices.Concat(steps[last].replies, said[0])
		} else {
			steps = append(steps, step{replies: said[0]})
		}
		said = said[1:]
	}
	return steps
}

// A splitter cuts what Asterisk sends, of which p begins at the byte at.
type splitter func(p []byte, at int) [][]byte

func whole(p []byte, _ int) [][]byte { return [][]byte{p} }

func byByte(p []byte, _ int) (parts [][]byte) { return slices.Collect(slices.Chunk(p, 1)) }

// cutAt returns the splitter that cuts the stream once, behind its first n bytes.
func cutAt(n int) splitter {
	return func(p []byte, at int) [][]byte {
		if n <= at || n >= at+len(p) {
			return [][]byte{p}
		}
		return [][]byte{p[:n-at], p[n-at:]}
	}
}

// follow shows the steps to a dialogue and tells what it says of each.
func follow(steps []step, split splitter) (d Dialogue, says []string) {
	at := 0
	for _, s := range steps {
		switch {
		case s.settled:
			d.Settled()
			says = append(says, "settled"+state(&d))
			continue
		case s.own:
			d.Own(s.command)
			says = append(says, "own"+state(&d))
			continue
		case s.command != nil:
			c := d.Command(s.command)
			says = append(says, fmt.Sprintf("%v%s", c, state(&d)))
			continue
		}
		replies := 0
		for _, p := range split(s.replies, at) {
			replies += d.Replies(p)
			at += len(p)
		}
		says = append(says, fmt.Sprintf("replies: %d%s", replies, state(&d)))
	}
	return d, says
}

// state is all that a dialogue answers.
func state(d *Dialogue) string {
	s := ", backend's turn"
	if c, ok := d.Pending(); ok {
		s = fmt.Sprintf(", Asterisk's turn with %v", c)
	}
	if (d.Turn() == AsterisksTurn) != strings.Contains(s, "with") {
		s += ", Turn and Pending differ"
	}
	for _, flag := range []struct {
		is   bool
		name string
	}{{d.MidReply(), "in a reply"}, {d.HungUp(), "hung up"}, {d.HangupAsked(), "by the script"}, {d.HungUpInCommand(), "in a command"}} {
		if flag.is {
			s += ", " + flag.name
		}
	}
	return s
}

// TestCaptures compares what this package makes of the sessions of a real
// Asterisk with the golden files, wherever the streams are cut.
func TestCaptures(t *testing.T) {
	for _, c := range readCaptures(t) {
		t.Run(c.name, func(t *testing.T) {
			h, rest := c.feedWhole(t)
			steps := interleave(c.commands, rest, patience[c.name])
			d, says := follow(steps, whole)

			golden := filepath.Join("testdata", c.name+".golden")
			got := describe(h, steps, says, &d)
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("differs from %s; got\n%s", golden, got)
			}

			for n := range len(rest) + 1 {
				checkSame(t, steps, fmt.Sprintf("cut behind byte %d", n), cutAt(n), d, says)
			}
			checkSame(t, steps, "byte by byte", byByte, d, says)
		})
	}
}

// checkSame wants a dialogue to end as d and to say the same of each step when
// the stream comes in other parts.
func checkSame(t *testing.T, steps []step, how string, split splitter, d Dialogue, says []string) {
	t.Helper()
	d2, says2 := follow(steps, split)
	for i := range says {
		if says2[i] != says[i] {
			t.Fatalf("step %d, %q: %s, it is %q; want as whole, %q",
				i, slices.Concat(steps[i].command, steps[i].replies), how, says2[i], says[i])
		}
	}
	if d2 != d {
		t.Fatalf("%s the dialogue ends as %+v; want as whole, %+v", how, d2, d)
	}
}

// describe is what a golden file holds.
func describe(h *Header, steps []step, says []string, d *Dialogue) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "header: %d bytes, script %q, host %q\n", h.Len(), h.Script(), h.Host())
	for line := range bytes.Lines(h.Bytes()) {
		if name, _, ok := strings.Cut(string(line), ":"); ok {
			fmt.Fprintf(&b, "\t%s %q\n", name, h.Field(name))
		}
	}
	b.WriteString("dialogue:\n")
	for i, s := range steps {
		side := "backend"
		if s.command == nil {
			side = "asterisk"
		}
		for line := range bytes.Lines(slices.Concat(s.command, s.replies)) {
			fmt.Fprintf(&b, "%-8s %q\n", side, bytes.TrimSuffix(line, []byte("\n")))
		}
		fmt.Fprintf(&b, "\t%s\n", says[i])
	}
	fmt.Fprintf(&b, "commands: %d%s\n", d.Commands(), state(d))
	return b.Bytes()
}
