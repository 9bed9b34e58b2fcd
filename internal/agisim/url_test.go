package agisim

import (
	"strings"
	"testing"
)

func TestNewCall(t *testing.T) {
	for _, test := range []struct{ url, address, host, script string }{
		{"agi://127.0.0.1:4577/welcome", "127.0.0.1:4577", "127.0.0.1:4577", "welcome"},
		{"agi://pbx.example.com/a/b.agi?x=1", "pbx.example.com:4573", "pbx.example.com", "a/b.agi?x=1"},
		{"AGI://[::1]:4577", "[::1]:4577", "[::1]:4577", ""},
		{"agi://[::1]/", "[::1]:4573", "[::1]", ""},
	} {
		call, err := NewCall(test.url, "one")
		if err != nil {
			t.Errorf("NewCall(%q): %v", test.url, err)
			continue
		}
		env := call.Environment
		if call.Address != test.address || env.Host != test.host || env.Script != test.script || len(env.Args) != 1 {
			t.Errorf("NewCall(%q) = %s, host %q, script %q; want %s, %q, %q", test.url, call.Address, env.Host, env.Script, test.address, test.host, test.script)
		}
	}
	for _, test := range []struct{ url, want string }{
		{"127.0.0.1:4577", "want agi://"},
		{"http://x/y", `scheme "http"`},
		{"hagi://x/y", "SRV"},
		{"agi:///y", "host is missing"},
		{"agi://:4577/y", "host is missing"},
		{"agi://::1/y", "brackets"},
		{"agi://x:70000/y", `port "70000"`},
		{"agi://x:/y", `port ""`},
	} {
		if _, err := NewCall(test.url); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("NewCall(%q): error %v; want one with %q", test.url, err, test.want)
		}
	}
}
