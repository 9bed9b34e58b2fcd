package agi

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// cutLines feeds the parts and returns the lines until one is stop.
func cutLines(parts [][]byte, stop string) (got []string) {
	var l Lines
	for _, p := range parts {
		stopped := false
		l.Feed(p, func(line []byte) bool {
			if stopped {
				panic("called after it has returned false")
			}
			got = append(got, string(line))
			stopped = string(line) == stop
			return !stopped
		})
		if stopped {
			break
		}
	}
	return got
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", maxKept)
	for _, test := range []struct {
		name string
		in   string
		want []string
	}{
		{"nothing", "", nil},
		{"half a line", "200 res", nil},
		{"a line", "200 result=0\n", []string{"200 result=0"}},
		{"lines, and half a one", "200 result=0\nHANGUP\n51", []string{"200 result=0", "HANGUP"}},
		{"empty lines", "\n\n", []string{"", ""}},
		{"carriage returns", "a\r\n\r\nb\rc\r\r\n", []string{"a", "", "b\rc\r"}},
		{"NUL", "a\x00b\n", []string{"a\x00b"}},
		{"as long as is kept", long + "\nb\n", []string{long, "b"}},
		{"longer than is kept", long + "yz\nb\n", []string{long, "b"}},
		{"much longer than is kept", long + long + long + "\nb\n", []string{long, "b"}},
		{"what follows a stop is dropped", "a\nstop\nb\nc\n", []string{"a", "stop"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachCut([]byte(test.in), func(how string, parts [][]byte) {
				if got := cutLines(parts, "stop"); !slices.Equal(got, test.want) {
					t.Fatalf("%s: lines %q; want %q", how, got, test.want)
				}
			})
		})
	}
}

func TestLinesGoOnAfterAStop(t *testing.T) {
	var l Lines
	l.Feed([]byte("one\ntwo\nthree"), func([]byte) bool { return false })
	var got []string
	l.Feed([]byte("four\n"), func(line []byte) bool { got = append(got, string(line)); return true })
	if want := []string{"four"}; !slices.Equal(got, want) {
		t.Errorf("after a stop: lines %q; want %q", got, want)
	}
}

func TestParseReply(t *testing.T) {
	for _, test := range []struct {
		line string
		want Reply
	}{
		{"200 result=0", Reply{Code: 200, Result: "0"}},
		{"200 result=-1\n", Reply{Code: 200, Result: "-1"}},
		{"200 result=49\r\n", Reply{Code: 200, Result: "49"}},
		{"200 result=1 (two words)", Reply{Code: 200, Result: "1", Text: "(two words)"}},
		{"200 result=1 ()", Reply{Code: 200, Result: "1", Text: "()"}},
		{"200 result=0 endpos=3520", Reply{Code: 200, Result: "0", Text: "endpos=3520"}},
		{"200 result= (timeout)", Reply{Code: 200, Text: "(timeout)"}},
		{"200 result=12 (timeout) endpos=0", Reply{Code: 200, Result: "12", Text: "(timeout) endpos=0"}},
		{"200 result=-1 Gosub label not found", Reply{Code: 200, Result: "-1", Text: "Gosub label not found"}},
		{"510 Invalid or unknown command", Reply{Code: 510, Text: "Invalid or unknown command"}},
		{"511 Command Not Permitted on a dead channel or intercept routine",
			Reply{Code: 511, Text: "Command Not Permitted on a dead channel or intercept routine"}},
		{"520-Invalid command syntax.  Proper usage follows:",
			Reply{Code: 520, More: true, Text: "Invalid command syntax.  Proper usage follows:"}},
		{"520 End of proper usage.", Reply{Code: 520, Text: "End of proper usage."}},
		{"200 ", Reply{Code: 200}},
		{"007 x", Reply{Code: 7, Text: "x"}},
	} {
		if got, err := ParseReply([]byte(test.line)); err != nil || got != test.want {
			t.Errorf("ParseReply(%q) = %+v, %v; want %+v", test.line, got, err, test.want)
		}
	}
	for _, line := range []string{"", "\n", "HANGUP", "HANGUP\n", "200", "200\n", "20 result=0", "2000 result=0", "2x0 result=0", "+20 x", "-20 x", " 200 result=0", "200\tresult=0", "0x1 a"} {
		if got, err := ParseReply([]byte(line)); !errors.Is(err, ErrNoReply) || got != (Reply{}) {
			t.Errorf("ParseReply(%q) = %+v, %v; want ErrNoReply", line, got, err)
		}
	}
}

// FuzzLines compares Lines with the plain way to cut a stream, wherever it is
// cut, and has each line tried as a reply.
func FuzzLines(f *testing.F) {
	for _, c := range readCaptures(f) {
		_, rest := c.feedWhole(f)
		f.Add(rest, uint16(len(rest)/2), "HANGUP")
	}
	f.Add(bytes.Repeat([]byte("0123456789abcdef"), 65), uint16(1024), "")
	f.Fuzz(func(t *testing.T, in []byte, cut uint16, stop string) {
		var want []string
		for _, line := range lines(in) {
			line = line[:len(line)-1]
			line = bytes.TrimSuffix(line[:min(len(line), maxKept)], []byte("\r"))
			want = append(want, string(line))
			checkReply(t, line)
			if string(line) == stop {
				break
			}
		}
		for how, split := range map[string]splitter{"whole": whole, "in two": cutAt(int(cut)), "byte by byte": byByte} {
			if got := cutLines(split(in, 0), stop); !slices.Equal(got, want) {
				t.Errorf("%s: lines %q; want %q", how, got, want)
			}
		}
	})
}

// checkReply wants a reply, if line is one, to hold all that the line says.
func checkReply(t *testing.T, line []byte) {
	t.Helper()
	r, err := ParseReply(line)
	if err != nil {
		return
	}
	sep := map[bool]string{false: " ", true: "-"}[r.More]
	for _, back := range []string{
		fmt.Sprintf("%03d%s%s", r.Code, sep, r.Text),
		fmt.Sprintf("%03d%sresult=%s", r.Code, sep, r.Result),
		fmt.Sprintf("%03d%sresult=%s %s", r.Code, sep, r.Result, r.Text),
	} {
		if back == strings.TrimSuffix(string(line), "\r") {
			return
		}
	}
	t.Errorf("ParseReply(%q) = %+v; want what gives the line again", line, r)
}
