package agisim

import "testing"

// FuzzNewCall asserts that a URL is refused or becomes a call with an address.
func FuzzNewCall(f *testing.F) {
	f.Add("agi://127.0.0.1:4577/welcome?a=1", "x")
	f.Add("agi://[::1]/", "")
	f.Add("hagi://h/s", "a,b")
	f.Fuzz(func(t *testing.T, url, arg string) {
		c, err := NewCall(url, arg)
		if err == nil && c.Address == "" {
			t.Errorf("NewCall(%q) = %+v; want an address or an error", url, c)
		}
	})
}
