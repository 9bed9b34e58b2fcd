package e2e

import (
	"bufio"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite what Asterisk was seen to do with lines, in agi/testdata")

// What Asterisk makes of lines is what package agi reads them by. Each file holds a
// line, quoted, and beside it what was seen.
const (
	commandsFile = "../../agi/testdata/lines.commands" // the first line of the reply
	wordsFile    = "../../agi/testdata/lines.words"    // the words: those that DATABASE PUT has stored
)

// TestLinesAsAsteriskReadsThem sends Asterisk each line of the files.
func TestLinesAsAsteriskReadsThem(t *testing.T) {
	s := begin(t)
	s.asSeen(t, commandsFile, func(x *dialled, line string) string { return x.ask(line) })
	s.asSeen(t, wordsFile, func(x *dialled, line string) string {
		x.ask("DATABASE DELTREE agiproxy-lines")
		reply := x.ask("DATABASE PUT agiproxy-lines " + line)
		if !strings.HasPrefix(reply, "200 result=1") {
			return "none"
		}
		key := s.stored(t, "agiproxy-lines")
		return fmt.Sprintf("%q %q", key, text(x.ask("DATABASE GET agiproxy-lines "+literally(key))))
	})
}

// text returns the text of a reply.
func text(reply string) string {
	return strings.TrimSuffix(strings.TrimPrefix(reply, "200 result=1 ("), ")")
}

// literally writes one word so that Asterisk takes each of its bytes for itself.
func literally(word string) string {
	line := `""`
	for i := range len(word) {
		line += `\` + word[i:i+1]
	}
	return line
}

// asSeen compares a file with what Asterisk does now.
func (s *suite) asSeen(t *testing.T, file string, see func(*dialled, string) string) {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(file))
	if err != nil {
		t.Fatal(err)
	}
	x := s.dialled(t)
	var now strings.Builder
	for row := range strings.Lines(string(text)) {
		quoted, err := strconv.QuotedPrefix(row)
		if err != nil {
			now.WriteString(row) // a comment
			continue
		}
		line, _ := strconv.Unquote(quoted)
		saw := see(x, line)
		fmt.Fprintf(&now, "%s -> %s\n", quoted, saw)
		if want := strings.TrimPrefix(strings.TrimSpace(row[len(quoted):]), "-> "); saw != want && !*update {
			t.Errorf("%s: line %s: Asterisk: %s; the file has %s", file, quoted, saw, want)
		}
	}
	x.end(t)
	if *update {
		if err := os.WriteFile(file, []byte(now.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// A dialled is a session as a server has it, with Asterisk at its other end.
type dialled struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
	call *call
}

// dialled has Asterisk call this test.
func (s *suite) dialled(t *testing.T) *dialled {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	x := &dialled{t: t, call: s.placeOne(t, script(ln.Addr().String(), "lines"))}
	if x.conn, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.conn.Close() })
	x.in = bufio.NewReader(x.conn)
	for x.read() != "" { // the header
	}
	return x
}

// ask sends a line and returns the first line of its reply.
func (x *dialled) ask(line string) string {
	x.t.Helper()
	fmt.Fprintf(x.conn, "%s\n", line)
	first := x.read()
	for ln := first; strings.HasPrefix(first, "520-") && !strings.HasPrefix(ln, "520 "); {
		ln = x.read()
	}
	return first
}

func (x *dialled) read() string {
	x.t.Helper()
	x.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	ln, err := x.in.ReadString('\n')
	if err != nil {
		x.t.Fatalf("what Asterisk says: %v, after %q", err, ln)
	}
	return strings.TrimSuffix(ln, "\n")
}

func (x *dialled) end(t *testing.T) result {
	t.Helper()
	x.conn.Close()
	return wait(t, 10*time.Second, x.call)[0]
}

// stored returns the only key of a family in Asterisk's database, less blanks at
// its end, which the list is padded with.
func (s *suite) stored(t *testing.T, family string) string {
	t.Helper()
	out, err := s.inLab("/usr/sbin/asterisk", "-C", "/lab/"+s.instance+"/etc/asterisk.conf", "-rx", "database show "+family).CombinedOutput()
	if err != nil {
		t.Fatalf("database show %s: %v: %s", family, err, out)
	}
	_, list, ok := strings.Cut(string(out), "/"+family+"/")
	key, _, found := strings.Cut(list, ": ")
	if !ok || !found {
		t.Fatalf("database show %s: %q; want one key", family, out)
	}
	return strings.TrimRight(key, " ")
}
