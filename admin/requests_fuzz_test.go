package admin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// FuzzRequests asserts that no request is an error of the server's, and that what is
// refused is a problem in JSON.
func FuzzRequests(f *testing.F) {
	for _, seed := range []struct{ method, path, query, body string }{
		{"GET", "/", "", ""},
		{"GET", "/api/v1/sessions", "pool=ivr&limit=2&age=3s", ""},
		{"GET", "/api/v1/endings", "after=18446744073709551615&limit=-1", ""},
		{"GET", "/api/v1/backends/ivr/ivr%2F1", "", ""},
		{"PUT", "/api/v1/backends/ivr/ivr1/weight", "", `{"weight": 1e9}`},
		{"POST", "/api/v1/backends/ivr/ivr1/drain", "", `{"deadline": -1}`},
		{"POST", "/api/v1/backends/ivr/ivr1/eject", "", `{"duration": "x"}`},
		{"DELETE", "/api/v1/sessions/99999999999", "", ""},
	} {
		f.Add(seed.method, seed.path, seed.query, seed.body)
	}
	h := pages(Options{Registry: registry(), Control: newFakeControl(), Ready: func() error { return nil }})
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		// Streams end with their request.
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		r := &http.Request{Method: method, URL: &url.URL{Path: "/" + path, RawQuery: query}, Host: "localhost", Header: http.Header{}, Body: http.NoBody}
		if body != "" {
			r = httptest.NewRequest("POST", "/", strings.NewReader(body))
			r.Method, r.URL = method, &url.URL{Path: "/" + path, RawQuery: query}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r.WithContext(ctx))
		if w.Code >= 500 {
			t.Errorf("%s %q?%q with %q: %d %s", method, path, query, body, w.Code, w.Body)
		}
		if kind := w.Header().Get("Content-Type"); w.Code >= 400 && strings.HasPrefix(path, "/api/v1/") && kind != "application/problem+json" {
			t.Errorf("%s %q?%q with %q: %d as %q", method, path, query, body, w.Code, kind)
		}
	})
}
