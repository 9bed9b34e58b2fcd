package agi

import (
	"bytes"
	"strings"
	"testing"
)

func TestCutQuery(t *testing.T) {
	const tail = "agi_channel: SIP/1\nagi_arg_1: a?token=b\n\n"
	for _, c := range []struct {
		why, in, want string
		value         string // "none" for nil
	}{
		{"the only parameter takes the question mark along",
			"agi_network: yes\nagi_network_script: s?token=x\nagi_request: agi://h/s?token=x\n" + tail,
			"agi_network: yes\nagi_network_script: s\nagi_request: agi://h/s\n" + tail, "x"},
		{"the first of several",
			"agi_network_script: s?token=x&a=1&b\nagi_request: agi://h/s?token=x&a=1&b\n" + tail,
			"agi_network_script: s?a=1&b\nagi_request: agi://h/s?a=1&b\n" + tail, "x"},
		{"one in the middle",
			"agi_network_script: s?a=1&token=x&b=?\nagi_request: agi://h/s?a=1&token=x&b=?\n" + tail,
			"agi_network_script: s?a=1&b=?\nagi_request: agi://h/s?a=1&b=?\n" + tail, "x"},
		{"the last one",
			"agi_network_script: s?a&token=x\nagi_request: agi://h/s?a&token=x\n" + tail,
			"agi_network_script: s?a\nagi_request: agi://h/s?a\n" + tail, "x"},
		{"of two the first counts, and both go",
			"agi_network_script: s?token=x&token=y\nagi_request: agi://h/s?token=x&token=y\n" + tail,
			"agi_network_script: s\nagi_request: agi://h/s\n" + tail, "x"},
		{"no path, but a query",
			"agi_network_script: ?token=x\nagi_request: agi://h/?token=x\n" + tail,
			"agi_network_script: \nagi_request: agi://h/\n" + tail, "x"},
		{"a query begins at the first question mark",
			"agi_network_script: s?a=b?token=x\nagi_request: agi://h/s?a=b?token=x\n" + tail,
			"agi_network_script: s?a=b?token=x\nagi_request: agi://h/s?a=b?token=x\n" + tail, "none"},
		{"line ends with a carriage return stay",
			"agi_network_script: s?token=x\r\nagi_request: agi://h/s?token=x\r\n\r\n",
			"agi_network_script: s\r\nagi_request: agi://h/s\r\n\r\n", "x"},
		{"nothing is decoded",
			"agi_network_script: s?token=%78=&t%6Fken=y\nagi_request: agi://h/s?token=%78=&t%6Fken=y\n" + tail,
			"agi_network_script: s?t%6Fken=y\nagi_request: agi://h/s?t%6Fken=y\n" + tail, "%78="},
		{"a name is the whole name, in its case",
			"agi_network_script: s?Token=x&tokens=y&xtoken=z\nagi_request: agi://h/s\n" + tail,
			"agi_network_script: s?Token=x&tokens=y&xtoken=z\nagi_request: agi://h/s\n" + tail, "none"},
		{"without a value it is empty",
			"agi_network_script: s?token\nagi_request: agi://h/s?token=\n" + tail,
			"agi_network_script: s\nagi_request: agi://h/s\n" + tail, ""},
		{"a script behind agi_request is forged: it doesn't count, and goes",
			"agi_request: agi://h\nagi_network_script: s?token=x\n" + tail,
			"agi_request: agi://h\nagi_network_script: s\n" + tail, "none"},
		{"fields that come again",
			"agi_network_script: s?token=x\nagi_request: agi://h/s?token=x\nagi_request: b?token=x\nagi_network_script: t?token=y&z\n" + tail,
			"agi_network_script: s\nagi_request: agi://h/s\nagi_request: b\nagi_network_script: t?z\n" + tail, "x"},
		{"nothing to do",
			"agi_network_script: s?&&a=\nagi_request: agi://h/s?\n" + tail,
			"agi_network_script: s?&&a=\nagi_request: agi://h/s?\n" + tail, "none"},
	} {
		h, _, err := read(64<<10, [][]byte{[]byte(c.in)})
		if err != nil || !h.Done() {
			t.Fatalf("%s: no header: %v", c.why, err)
		}
		value := "none"
		if v := h.CutQuery("token"); v != nil {
			value = string(v)
		}
		if value != c.value {
			t.Errorf("%s: CutQuery = %q; want %q", c.why, value, c.value)
		}
		if string(h.Bytes()) != c.want {
			t.Errorf("%s: the header is\n%q; want\n%q", c.why, h.Bytes(), c.want)
		}
		if kept := h.Bytes()[len(h.Bytes()):cap(h.Bytes())]; bytes.ContainsAny(kept[:min(len(kept), len(c.in)-len(c.want))], "token") {
			t.Errorf("%s: what was cut is still there behind the header", c.why)
		}
	}
}

// What is cut is gone, and what is left is a header with the same lines but for
// those of the URL.
func FuzzCutQuery(f *testing.F) {
	for _, c := range readCaptures(f) {
		f.Add(c.asterisk)
	}
	f.Add([]byte("agi_network_script: s?a=1&token=x&b=?\r\nagi_request: agi://h/s?a=1&token&&token=\nagi_x: ?token=x\n\nrest"))
	f.Fuzz(func(t *testing.T, in []byte) {
		h, _, err := read(64<<10, [][]byte{in})
		if err != nil || !h.Done() {
			t.Skip()
		}
		before := string(h.Bytes())
		h.CutQuery("token")
		after := string(h.Bytes())
		if again := h.CutQuery("token"); again != nil || string(h.Bytes()) != after {
			t.Errorf("a second CutQuery of %q gives %q, %q; want nothing left to cut", before, again, h.Bytes())
		}
		was, is := strings.SplitAfter(before, "\n"), strings.SplitAfter(after, "\n")
		if len(was) != len(is) {
			t.Fatalf("%d lines became %d: %q, %q", len(was), len(is), before, after)
		}
		for i := range was {
			url := strings.HasPrefix(was[i], "agi_request:") || strings.HasPrefix(was[i], "agi_network_script:")
			if was[i] != is[i] && !(url && strings.Contains(was[i], "token")) {
				t.Errorf("line %q became %q; want it untouched", was[i], is[i])
			}
		}
		if other, _, err := read(64<<10, [][]byte{[]byte(after)}); err != nil || !other.Done() {
			t.Errorf("%q is no header any more: %v", after, err)
		}
	})
}
