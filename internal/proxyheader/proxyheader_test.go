package proxyheader

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
)

// A vector is one line of testdata/vectors.txt.
type vector struct {
	name string
	in   []byte
	want string
}

func vectors(t testing.TB) (all []vector) {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, rest, ok := strings.Cut(line, `"`)
		if line[0] == '#' || !ok {
			continue
		}
		quoted, err := strconv.QuotedPrefix(`"` + rest)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		in, _ := strconv.Unquote(quoted)
		want := strings.TrimSpace(strings.TrimPrefix(`"`+rest, quoted))
		all = append(all, vector{strings.TrimSpace(name), []byte(in), want})
	}
	if len(all) == 0 {
		t.Fatal("no vectors")
	}
	return all
}

// result says what Parse has found in p, as the vectors do.
func result(p []byte) string {
	h, n, err := Parse(p)
	switch {
	case err != nil:
		return "no"
	case n == 0:
		return "more"
	case !h.Source.IsValid():
		return fmt.Sprintf("own %d", len(p)-n)
	}
	return fmt.Sprintf("%v %v %d", h.Source, h.Destination, len(p)-n)
}

func TestParse(t *testing.T) {
	for _, v := range vectors(t) {
		if got := result(v.in); got != v.want {
			t.Errorf("%s: Parse(%q) = %s; want %s", v.name, v.in, got, v.want)
		}
	}
}

// A header that is cut anywhere is not whole, and not wrong.
func TestParseWaitsForTheRest(t *testing.T) {
	for _, v := range vectors(t) {
		_, n, err := Parse(v.in)
		if err != nil {
			continue
		}
		for i := range n {
			if got := result(v.in[:i]); got != "more" {
				t.Errorf("%s: Parse(%q), %d of %d bytes, = %s; want more", v.name, v.in[:i], i, n, got)
			}
		}
	}
}

// Read finds what Parse does, and leaves what follows.
func TestReadTakesNoByteMore(t *testing.T) {
	for _, v := range vectors(t) {
		h, n, wrong := Parse(v.in)
		for how, reader := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader} {
			rest := bytes.NewReader(v.in)
			got, err := Read(reader(rest))
			switch {
			case wrong != nil:
				if err == nil || errors.Is(err, io.EOF) {
					t.Errorf("%s, %s: Read = %v, %v; want %v", v.name, how, got, err, wrong)
				}
			case n == 0:
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%s, %s: Read = %v, %v; want an unexpected end", v.name, how, got, err)
				}
			case got != h || err != nil || rest.Len() != len(v.in)-n:
				t.Errorf("%s, %s: Read = %v, %v, with %d bytes left; want %v, and %d bytes left", v.name, how, got, err, rest.Len(), h, len(v.in)-n)
			}
		}
	}
}

func TestAppend(t *testing.T) {
	addr := func(s string) netip.AddrPort {
		if s == "" {
			return netip.AddrPort{}
		}
		return netip.MustParseAddrPort(s)
	}
	for _, c := range []struct {
		v            Version
		source, dest string
		want, parsed string
	}{
		{None, "10.0.0.1:1", "10.0.0.2:2", "", "more"},
		{V1, "10.0.0.1:1", "10.0.0.2:2", "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", "10.0.0.1:1 10.0.0.2:2 0"},
		{V1, "[2001:db8::1]:1", "[2001:db8::2]:2", "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", "[2001:db8::1]:1 [2001:db8::2]:2 0"},
		{V1, "10.0.0.1:1", "[2001:db8::2]:2", "PROXY TCP6 ::ffff:10.0.0.1 2001:db8::2 1 2\r\n", "10.0.0.1:1 [2001:db8::2]:2 0"},
		{V1, "", "", "PROXY UNKNOWN\r\n", "own 0"},
		{V1, "10.0.0.1:1", "", "PROXY UNKNOWN\r\n", "own 0"},
		{V2, "10.0.0.1:1", "10.0.0.2:2", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x0a\x00\x00\x01\x0a\x00\x00\x02\x00\x01\x00\x02", "10.0.0.1:1 10.0.0.2:2 0"},
		{V2, "", "", "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", "own 0"},
	} {
		got := Append([]byte("x"), c.v, addr(c.source), addr(c.dest))
		if string(got) != "x"+c.want {
			t.Errorf("Append(%d, %q, %q) = %q; want %q behind what was there", c.v, c.source, c.dest, got, c.want)
		}
		if got := result(got[1:]); got != c.parsed {
			t.Errorf("Append(%d, %q, %q) is parsed as %s; want %s", c.v, c.source, c.dest, got, c.parsed)
		}
	}
}

// Whatever comes, it is found out within the longest header, alike in any pieces.
func FuzzParse(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		h, n, err := Parse(in)
		if n > len(in) || n > fixedV2+maxV2 || err != nil && n != 0 {
			t.Fatalf("Parse of %d bytes: %d, %v", len(in), n, err)
		}
		if n == 0 && err == nil && len(in) >= fixedV2+maxV2 {
			t.Fatalf("Parse of %d bytes wants more", len(in))
		}
		if h.Source.IsValid() != h.Destination.IsValid() || h.Source.Addr().Is4In6() {
			t.Fatalf("Parse = %v", h)
		}
		for i := range in {
			got, m, early := Parse(in[:i])
			switch {
			case early != nil && err == nil:
				t.Fatalf("%d of %d bytes are wrong (%v), and all are not", i, len(in), early)
			case m > 0 && (m != n || got != h):
				t.Fatalf("%d of %d bytes give %v of %d bytes; all give %v of %d", i, len(in), got, m, h, n)
			}
		}
		if h.Source.IsValid() {
			for _, v := range []Version{V1, V2} {
				again, m, err := Parse(Append(nil, v, h.Source, h.Destination))
				if m == 0 || again != h {
					t.Fatalf("%v was written and read as %v, %v", h, again, err)
				}
			}
		}
	})
}
