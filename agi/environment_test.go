package agi

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// parsed returns e as whoever is called gets it.
func parsed(t *testing.T, e *Environment) *Header {
	t.Helper()
	in := e.AppendTo(nil)
	h := NewHeader(len(in))
	if n, err := h.Feed(in); err != nil || n != len(in) || !h.Done() {
		t.Fatalf("Feed(%q) = %d, %v, Done() = %v; want a header and nothing else", in, n, err, h.Done())
	}
	return h
}

// names returns the names of a header's fields in their order.
func names(h *Header) (names []string) {
	for line := range bytes.Lines(h.Bytes()) {
		if name, _, ok := strings.Cut(string(line), ":"); ok {
			names = append(names, name)
		}
	}
	return names
}

func TestEnvironmentHasAsterisksFieldsInItsOrder(t *testing.T) {
	for _, c := range readCaptures(t) {
		if c.name == "newline_injection" {
			continue // has fields of the caller's
		}
		t.Run(c.name, func(t *testing.T) {
			recorded, _ := c.feedWhole(t)
			e := Environment{Host: string(recorded.Host()), Script: string(recorded.Field("agi_network_script"))}
			for i := 1; recorded.Field(fmt.Sprintf("agi_arg_%d", i)) != nil; i++ {
				e.Args = append(e.Args, "x")
			}
			if got, want := names(parsed(t, &e)), names(recorded); !slices.Equal(got, want) {
				t.Errorf("fields %q; want as Asterisk has them, %q", got, want)
			}
		})
	}
}

func TestEmptyEnvironmentIsACallThatNothingIsKnownOf(t *testing.T) {
	h := parsed(t, &Environment{})
	for name, want := range map[string]string{
		"agi_network": "yes", "agi_request": "agi://localhost", "agi_callerid": "unknown",
		"agi_calleridname": "unknown", "agi_dnid": "unknown", "agi_context": "default",
		"agi_extension": "s", "agi_accountcode": "",
	} {
		if got := h.Field(name); got == nil || string(got) != want {
			t.Errorf("Field(%q) = %q; want %q", name, got, want)
		}
	}
	if got := h.Field("agi_network_script"); got != nil {
		t.Errorf("agi_network_script = %q; want no such line", got)
	}
}

func TestEnvironmentParsesBackAsHeader(t *testing.T) {
	h := parsed(t, &Environment{
		Host: "pbx:4577", Script: "menu/main?x=1", Channel: "PJSIP/100-1", Type: "PJSIP", UniqueID: "1.2",
		CallerID: "100", CallerName: `"Eve": <x>`, Dialed: "108", Context: "in", Extension: "108",
		Version: "22.10.1", Args: []string{"one two", "", " lead"},
	})
	if script, host := h.Script(), h.Host(); string(script) != "menu/main" || string(host) != "pbx" {
		t.Errorf("script %q on host %q; want menu/main on pbx", script, host)
	}
	for name, want := range map[string]string{
		"agi_request": "agi://pbx:4577/menu/main?x=1", "agi_network_script": "menu/main?x=1",
		"agi_channel": "PJSIP/100-1", "agi_type": "PJSIP", "agi_uniqueid": "1.2", "agi_callerid": "100",
		"agi_calleridname": `"Eve": <x>`, "agi_dnid": "108", "agi_context": "in", "agi_extension": "108",
		"agi_version": "22.10.1", "agi_arg_1": "one two", "agi_arg_2": "", "agi_arg_3": " lead",
	} {
		if got := h.Field(name); got == nil || string(got) != want {
			t.Errorf("Field(%q) = %q; want %q", name, got, want)
		}
	}
}

func TestLineBreaksCannotForgeFields(t *testing.T) {
	const evil = "Eve\nagi_extension: 911\r\n\n200 result=1\x00"
	h := parsed(t, &Environment{
		Host: evil, Script: evil, Channel: evil, Type: evil, UniqueID: evil, CallerID: evil, CallerName: evil,
		Dialed: evil, Context: evil, Extension: evil, Version: evil, Args: []string{evil},
	})
	plain := parsed(t, &Environment{Script: "x", Args: []string{"x"}})
	if got, want := names(h), names(plain); !slices.Equal(got, want) {
		t.Errorf("fields %q; want %q", got, want)
	}
	if got, want := string(h.Field("agi_calleridname")), "Eve agi_extension: 911   200 result=1 "; got != want {
		t.Errorf("agi_calleridname = %q; want %q", got, want)
	}
}

func TestLastArgumentTakesTheRest(t *testing.T) {
	var args []string
	for i := range 300 {
		args = append(args, fmt.Sprint(i+1))
	}
	e := Environment{Args: args}
	h := parsed(t, &e)
	if got, want := string(h.Field("agi_arg_127")), strings.Join(args[126:], ","); got != want {
		t.Errorf("agi_arg_127 = %q; want %q", got, want)
	}
	if got := h.Field("agi_arg_128"); got != nil {
		t.Errorf("agi_arg_128 = %q; want none", got)
	}
	if e.Args[126] != "127" || len(e.Args) != 300 {
		t.Errorf("AppendTo has changed the arguments")
	}
	if got := h.Field("agi_arg_126"); string(got) != "126" {
		t.Errorf("agi_arg_126 = %q; want 126", got)
	}
}

func TestIsSent(t *testing.T) {
	e := Environment{Script: "x", Args: []string{"one", "two"}}
	sent := 0
	for line := range strings.Lines(string(e.AppendTo(nil))) {
		if name, _, ok := strings.Cut(line, ":"); ok {
			sent++
			if !IsSent(name) {
				t.Errorf("IsSent(%q) = false; want true: it is in the header", name)
			}
		}
	}
	if want := len(fields) + 2; sent != want {
		t.Errorf("a header with two arguments has %d fields; want %d", sent, want)
	}
	for _, name := range []string{"agi_arg_127", "agi_rdnis"} {
		if !IsSent(name) {
			t.Errorf("IsSent(%q) = false; want true", name)
		}
	}
	for _, name := range []string{"agi_arg_0", "agi_arg_128", "agi_arg_01", "agi_arg_", "agi_callerID", "agi_calleridnum", "script", ""} {
		if IsSent(name) {
			t.Errorf("IsSent(%q) = true; want false", name)
		}
	}
}
