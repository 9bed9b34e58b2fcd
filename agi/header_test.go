package agi

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// read feeds in to a new header in the given parts and returns what is left of
// it behind the header.
func read(max int, parts [][]byte) (h *Header, rest []byte, err error) {
	h = NewHeader(max)
	for i, p := range parts {
		n, err := h.Feed(p)
		if err != nil {
			return h, nil, err
		}
		if h.Done() {
			return h, slices.Concat(p[n:], bytes.Join(parts[i+1:], nil)), nil
		}
		if n != len(p) {
			return h, nil, fmt.Errorf("Feed took %d bytes of %d, and is not done", n, len(p))
		}
	}
	return h, nil, nil
}

// eachCut calls f with in cut in two at each place, and with its single bytes.
func eachCut(in []byte, f func(how string, parts [][]byte)) {
	for n := range len(in) + 1 {
		f(fmt.Sprintf("cut behind byte %d", n), cutAt(n)(in, 0))
	}
	f("byte by byte", byByte(in, 0))
}

func TestHeaderOfEachCaptureIsKeptToTheByte(t *testing.T) {
	for _, c := range readCaptures(t) {
		t.Run(c.name, func(t *testing.T) {
			_, rest := c.feedWhole(t)
			header := c.asterisk[:len(c.asterisk)-len(rest)]
			if !bytes.HasSuffix(header, []byte("\n\n")) || bytes.Contains(header[:len(header)-1], []byte("\n\n")) {
				t.Fatalf("the header ends with %q; want it to end with its first empty line", header[max(0, len(header)-20):])
			}
			eachCut(c.asterisk, func(how string, parts [][]byte) {
				h, r, err := read(64<<10, parts)
				if err != nil || !h.Done() {
					t.Fatalf("%s: error %v, Done() = %v; want a header", how, err, h.Done())
				}
				if !bytes.Equal(h.Bytes(), header) || h.Len() != len(header) || !bytes.Equal(r, rest) {
					t.Fatalf("%s: a header of %d bytes and %q; want %d and %q", how, h.Len(), r, len(header), rest)
				}
			})
		})
	}
}

func TestHeaderIsNotDoneBeforeItsEmptyLine(t *testing.T) {
	const in = "agi_network: yes\nagi_request: agi://pbx\n\n"
	for n := range len(in) {
		h := NewHeader(100)
		if _, err := h.Feed([]byte(in[:n])); err != nil || h.Done() {
			t.Errorf("Feed(%q): error %v, Done() = %v; want neither", in[:n], err, h.Done())
		}
	}
}

func TestHeaderLimits(t *testing.T) {
	field := "agi_arg_1: x\n"
	with := func(lines int) string { // and the empty one
		return "agi_network: yes\n" + strings.Repeat(field, lines-1) + "\n"
	}
	for _, test := range []struct {
		name string
		max  int
		in   string
		want error // nil for a whole header
		line int
	}{
		{"as large as it may be", 18, "agi_network: yes\n\n", nil, 0},
		{"one byte too large", 17, "agi_network: yes\n\n", ErrHeaderTooLarge, 2},
		{"too large within a line", 25, "agi_network: yes\nagi_request: agi://pbx\n\n", ErrHeaderTooLarge, 2},
		{"too large in one endless line", 1000, "agi_network: " + strings.Repeat("y", 2000), ErrHeaderTooLarge, 1},
		{"no room at all", 0, "agi_network: yes\n\n", ErrHeaderTooLarge, 1},
		{"as many lines as there may be", 64 << 10, with(MaxHeaderLines), nil, 0},
		{"one line too many", 64 << 10, with(MaxHeaderLines + 1), ErrTooManyLines, MaxHeaderLines + 1},
		{"NUL in a value", 1000, "agi_network: yes\nagi_arg_1: a\x00b\n\n", ErrMalformed, 2},
		{"NUL in a name", 1000, "agi_\x00network: yes\n\n", ErrMalformed, 1},
		{"line without a colon", 1000, "agi_network: yes\nagi_request\n\n", ErrMalformed, 2},
		{"line without a name", 1000, "agi_network: yes\n: x\n\n", ErrMalformed, 2},
		{"first line not agi_", 1000, "foo: bar\nagi_network: yes\n\n", ErrMalformed, 1},
		{"first line not agi_ and too large", 10, "GET / HTTP/1.1\r\nHost: pbx\r\n\r\n", ErrMalformed, 1},
		{"first line not agi_ and without an end", 1000, "\x16\x03\x01\x02\x00\x01", ErrMalformed, 1},
		{"first line begins like agi_", 1000, "agi\n\n", ErrMalformed, 1},
		{"first line in capitals", 1000, "AGI_NETWORK: yes\n\n", ErrMalformed, 1},
		{"empty line first", 1000, "\nagi_network: yes\n\n", ErrMalformed, 1},
		{"empty line first, with a carriage return", 1000, "\r\nagi_network: yes\r\n\r\n", ErrMalformed, 1},
		{"lines with carriage returns", 1000, "agi_network: yes\r\nagi_request: agi://pbx\r\n\r\n", nil, 0},
		{"carriage return at the empty line only", 1000, "agi_network: yes\n\r\n", nil, 0},
		{"two carriage returns are no empty line", 1000, "agi_network: yes\n\r\r\n\n", ErrMalformed, 2},
		{"field without a value", 1000, "agi_network:\n\n", nil, 0},
		{"field of nobody's", 1000, "agi_network: yes\nx-trace: 17\n\n", nil, 0},
		{"one byte that no terminal shows", 1000, "agi_network: \xff\n\n", nil, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachCut([]byte(test.in), func(how string, parts [][]byte) {
				h, _, err := read(test.max, parts)
				if test.want == nil {
					if err != nil || !h.Done() || string(h.Bytes()) != test.in {
						t.Fatalf("%s: %q, error %v, Done() = %v; want a whole header", how, h.Bytes(), err, h.Done())
					}
					return
				}
				herr, ok := errors.AsType[*HeaderError](err)
				if !ok || herr.Line != test.line || !errors.Is(err, test.want) {
					t.Fatalf("%s: error %v; want %q in line %d", how, err, test.want, test.line)
				}
				if h.Done() || h.Len() > test.max {
					t.Fatalf("%s: Done() = %v, Len() = %d; want false and at most %d: the header is bad", how, h.Done(), h.Len(), test.max)
				}
			})
		})
	}
}

func TestResetHeaderIsLikeANewOne(t *testing.T) {
	const in = "agi_network: yes\nagi_request: agi://pbx\n\n"
	for _, before := range []string{"", "agi_network: yes\nagi_re", "agi_network: yes\nagi_arg_1: x\n\n", "GET / HTTP/1.1", strings.Repeat("agi_", 100)} {
		h := NewHeader(100)
		h.Feed([]byte(before))
		h.Reset(len(in))
		if h.Done() || h.Len() != 0 {
			t.Errorf("reset after %q: Done() = %v, Len() = %d; want false, 0", before, h.Done(), h.Len())
		}
		if n, err := h.Feed([]byte(in + "HANGUP\n")); n != len(in) || err != nil || !h.Done() || string(h.Bytes()) != in {
			t.Errorf("reset after %q: Feed = %d, %v, and the header is %q; want %d, nil, %q", before, n, err, h.Bytes(), len(in), in)
		}
		h.Reset(len(in) - 1)
		if _, err := h.Feed([]byte(in)); !errors.Is(err, ErrHeaderTooLarge) {
			t.Errorf("reset to %d bytes: Feed: %v; want %v", len(in)-1, err, ErrHeaderTooLarge)
		}
	}
}

func TestHeaderError(t *testing.T) {
	_, err := NewHeader(100).Feed([]byte("agi_network: yes\nhello\n"))
	if got, want := fmt.Sprint(err), "header line 2: not a header line"; got != want {
		t.Errorf("error %q; want %q", got, want)
	}
}

func TestHeaderFields(t *testing.T) {
	h := header(t, "agi_network: yes\n"+
		"agi_request: agi://pbx/one:two\n"+
		"agi_callerid: \n"+
		"agi_dnid:\n"+
		"agi_arg_1:   lead and trail  \n"+
		"agi_arg_2:close\n"+
		"agi_arg_3: a: b\n"+
		"agi_arg_4: cr\r\n"+
		"agi_arg_3: forged\n")
	for _, test := range []struct {
		name, want string
		missing    bool
	}{
		{name: "agi_network", want: "yes"},
		{name: "agi_request", want: "agi://pbx/one:two"},
		{name: "agi_callerid", want: ""},
		{name: "agi_dnid", want: ""},
		{name: "agi_arg_1", want: "  lead and trail  "},
		{name: "agi_arg_2", want: "close"},
		{name: "agi_arg_3", want: "a: b"}, // the first of two
		{name: "agi_arg_4", want: "cr"},
		{name: "agi_arg", missing: true},
		{name: "arg_1", missing: true},
		{name: "AGI_NETWORK", missing: true},
		{name: "", missing: true},
	} {
		if got := h.Field(test.name); string(got) != test.want || (got == nil) != test.missing {
			t.Errorf("Field(%q) = %q, nil: %v; want %q, nil: %v", test.name, got, got == nil, test.want, test.missing)
		}
	}
	// A caller who appends to a field must not write into the next.
	_ = append(h.Field("agi_network"), "XXXXXXXX"...)
	if got := h.Field("agi_request"); string(got) != "agi://pbx/one:two" {
		t.Errorf("after an append to another field: agi_request = %q; want it untouched", got)
	}
}

func TestScriptAndHost(t *testing.T) {
	for _, test := range []struct {
		name         string
		in           string
		script, host string
	}{
		{"script with a query", "agi_network_script: menu/main.agi?x=1&y=?\nagi_request: agi://pbx/menu/main.agi?x=1&y=?\n", "menu/main.agi", "pbx"},
		{"script that is a query", "agi_network_script: ?x=1\nagi_request: agi://pbx/?x=1\n", "", "pbx"},
		{"no script", "agi_network: yes\nagi_request: agi://pbx\n", "", "pbx"},
		{"script that a caller's name has forged", "agi_request: agi://pbx\nagi_calleridname: Eve\nagi_network_script: admin\n", "", "pbx"},
		{"no request", "agi_network_script: menu\n", "menu", ""},
		{"port", "agi_request: agi://pbx:4577/menu\n", "", "pbx"},
		{"query without a path", "agi_request: agi://pbx?x=1:2\n", "", "pbx"},
		{"IPv6", "agi_request: agi://[::1]:4577/six\n", "", "::1"},
		{"IPv6 without a port", "agi_request: agi://[fe80::1]\n", "", "fe80::1"},
		{"IPv6 without an end", "agi_request: agi://[fe80::1\n", "", "fe80::1"},
		{"scheme in capitals", "agi_request: AGI://PBX/x\n", "", "PBX"},
		{"hagi", "agi_request: hagi://pbx.example.com\n", "", "pbx.example.com"},
		{"request that is no URL", "agi_request: async\n", "", ""},
		{"request without a host", "agi_request: agi:///x\n", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := header(t, test.in)
			if got := h.Script(); string(got) != test.script {
				t.Errorf("Script() = %q; want %q", got, test.script)
			}
			if got := h.Host(); string(got) != test.host {
				t.Errorf("Host() = %q; want %q", got, test.host)
			}
		})
	}
}

func header(t *testing.T, fields string) *Header {
	t.Helper()
	h := NewHeader(1 << 16)
	if _, err := h.Feed([]byte(fields + "\n")); err != nil || !h.Done() {
		t.Fatalf("Feed(%q): error %v, Done() = %v; want a whole header", fields, err, h.Done())
	}
	return h
}

func TestReplayAddsTheAttemptBeforeTheEmptyLine(t *testing.T) {
	for _, test := range []struct {
		name    string
		resumed bool
		in      string
		want    string
	}{
		{"line feeds", false, "agi_network: yes\nagi_arg_1: \n\n", "agi_network: yes\nagi_arg_1: \nagi_attempt: 12\n\n"},
		{"carriage returns", false, "agi_network: yes\r\n\r\n", "agi_network: yes\r\nagi_attempt: 12\r\n\r\n"},
		{"both", false, "agi_network: yes\n\r\n", "agi_network: yes\nagi_attempt: 12\r\n\r\n"},
		{"in mid-call", true, "agi_network: yes\n\n", "agi_network: yes\nagi_attempt: 12\nagi_resumed: yes\n\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := NewHeader(100)
			if _, err := h.Feed([]byte(test.in)); err != nil {
				t.Fatal(err)
			}
			if got := h.AppendReplay([]byte("before"), 12, test.resumed); string(got) != "before"+test.want {
				t.Errorf("AppendReplay = %q; want %q behind what was there", got, test.want)
			}
			if string(h.Bytes()) != test.in {
				t.Errorf("AppendReplay has changed the header to %q", h.Bytes())
			}
		})
	}
}

// FuzzHeader feeds a stream whole, in two parts and byte by byte. What it is
// taken for must not depend on that; a header and what follows it are the stream
// to the byte; and a replay is a header again.
func FuzzHeader(f *testing.F) {
	for _, c := range readCaptures(f) {
		f.Add(c.asterisk, uint16(64<<10-1), uint16(len(c.asterisk)/2))
	}
	f.Add([]byte("agi_network: yes\r\n\r\nHANGUP\r\n"), uint16(100), uint16(18))
	f.Add([]byte("agi_network: yes\nno colon\n\n"), uint16(100), uint16(3))
	f.Add([]byte("agi_network: yes\n\n"), uint16(17), uint16(17))
	f.Fuzz(func(t *testing.T, in []byte, max, cut uint16) {
		h, rest, err := read(int(max), [][]byte{in})
		for how, parts := range map[string][][]byte{
			"in two":       cutAt(int(cut))(in, 0),
			"byte by byte": byByte(in, 0),
		} {
			h2, rest2, err2 := read(int(max), parts)
			if fmt.Sprint(err2) != fmt.Sprint(err) || h2.Done() != h.Done() || !bytes.Equal(rest2, rest) {
				t.Fatalf("%s: error %v, Done() = %v, %d bytes left; want as whole %v, %v, %d", how, err2, h2.Done(), len(rest2), err, h.Done(), len(rest))
			}
			if err == nil && !bytes.Equal(h2.Bytes(), h.Bytes()) {
				t.Fatalf("%s: header %q; want as whole %q", how, h2.Bytes(), h.Bytes())
			}
		}
		if err != nil {
			if _, ok := errors.AsType[*HeaderError](err); !ok {
				t.Fatalf("error %T; want a *HeaderError", err)
			}
			return
		}
		if got := slices.Concat(h.Bytes(), rest); !bytes.Equal(got, in) {
			t.Fatalf("header and rest are %q; want the input %q", got, in)
		}
		if h.Len() > int(max) {
			t.Fatalf("a header of %d bytes; want at most %d", h.Len(), max)
		}
		_, _ = h.Script(), h.Host()
		if h.Done() {
			checkReplay(t, h)
		}
	})
}

func checkReplay(t *testing.T, h *Header) {
	t.Helper()
	replayed := h.AppendReplay(nil, 3, false)
	r := NewHeader(len(replayed))
	if n, err := r.Feed(replayed); err != nil && !errors.Is(err, ErrTooManyLines) || err == nil && (n != len(replayed) || !r.Done()) {
		t.Fatalf("Feed of a replay of %d bytes = %d, %v, Done() = %v; want all of it", len(replayed), n, err, r.Done())
	}
	eol := replayed[bytes.LastIndexByte(replayed[:len(replayed)-1], '\n')+1:] // of the empty line
	added := "agi_attempt: 3" + string(eol)
	before := len(replayed) - len(eol) - len(added)
	if string(replayed[before:before+len(added)]) != added ||
		!bytes.Equal(slices.Concat(replayed[:before], eol), h.Bytes()) {
		t.Fatalf("replay %q; want %q with %q before its empty line", replayed, h.Bytes(), added)
	}
}

func BenchmarkHeader(b *testing.B) {
	var in []byte
	for _, c := range readCaptures(b) {
		if c.name == "args" {
			h, _ := c.feedWhole(b)
			in = h.Bytes()
		}
	}
	segments := lines(in) // as Asterisk sends it
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		h := NewHeader(64 << 10)
		for _, p := range segments {
			if _, err := h.Feed(p); err != nil {
				b.Fatal(err)
			}
		}
		if !h.Done() || len(h.Script()) == 0 || len(h.Field("agi_uniqueid")) == 0 {
			b.Fatal("want a whole header with a script")
		}
	}
}
