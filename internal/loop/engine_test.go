package loop

import (
	"strings"
	"testing"
)

// TestEngines has a loop tell how it works.
func TestEngines(t *testing.T) {
	for _, name := range []Engine{Auto, "", Epoll, IOURing} {
		l, err := New(Options{Engine: name})
		if err != nil {
			if name == IOURing && testEngine() != IOURing {
				t.Logf("the kernel doesn't allow it: %v", err)
				continue
			}
			t.Fatalf("New(Engine: %q): %v", name, err)
		}
		switch got := l.Engine(); {
		case got != name && (name == Epoll || name == IOURing):
			t.Errorf("Engine() = %q; want %q", got, name)
		case got != Epoll && got != IOURing:
			t.Errorf("Engine() = %q for %q; want one of the two", got, name)
		}
		l.Stop()
		if err := l.Run(); err != nil {
			t.Errorf("Run() = %v", err)
		}
	}
}

// TestUnknownEngine has the error say what was asked for.
func TestUnknownEngine(t *testing.T) {
	if l, err := New(Options{Engine: "magic"}); err == nil || !strings.Contains(err.Error(), "magic") {
		t.Errorf("New(Engine: magic) = %v, %v; want an error that names it", l, err)
	}
}
