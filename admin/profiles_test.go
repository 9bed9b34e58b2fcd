package admin

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestProfiles(t *testing.T) {
	on := false
	h := pages(Options{Registry: registry(), Profiling: func() bool { return on }})
	for _, c := range []struct {
		method, path string
		status       int    // while on; else 404
		want         string // in the body, while on
	}{
		{"GET", "/debug/pprof/", 200, "Types of profiles available"},
		{"GET", "/debug/pprof/goroutine?debug=1", 200, "goroutine profile: total "},
		{"GET", "/debug/pprof/heap", 200, "\x1f\x8b"},
		{"GET", "/debug/pprof/cmdline", 200, "admin.test"},
		{"GET", "/debug/pprof/profile?seconds=1", 200, "\x1f\x8b"},
		{"GET", "/debug/pprof/trace?seconds=0.01", 200, "go 1."},
		{"GET", "/debug/pprof/symbol", 200, "num_symbols: 1"},
		{"POST", "/debug/pprof/symbol", 200, "num_symbols: 1"},
		{"GET", "/debug/pprof/bogus", 404, "Unknown profile"},
		{"POST", "/debug/pprof/profile", 405, ""},
	} {
		for _, on = range []bool{false, true} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
			status, want := c.status, c.want
			if !on {
				status, want = 404, "404 page not found"
			}
			if w.Code != status || !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s %s (on: %v): %d %.200q; want %d and %q", c.method, c.path, on, w.Code, w.Body, status, want)
			}
		}
	}
}

func TestNoProfilesUnlessAskedFor(t *testing.T) {
	w := httptest.NewRecorder()
	pages(Options{Registry: registry()}).ServeHTTP(w, httptest.NewRequest("GET", "/debug/pprof/", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("/debug/pprof/: %d; want 404", w.Code)
	}
}
