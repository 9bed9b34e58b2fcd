package admin

import (
	"io/fs"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func TestPageIsServed(t *testing.T) {
	h := pages(Options{Registry: registry()})
	for path, kind := range map[string]string{
		"/":                "text/html; charset=utf-8",
		"/page/status.css": "text/css; charset=utf-8",
		"/page/status.js":  "text/javascript; charset=utf-8",
		"/page/icon.svg":   "image/svg+xml",
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if got := w.Header().Get("Content-Type"); w.Code != 200 || got != kind {
			t.Errorf("%s: %d as %q; want 200 as %q", path, w.Code, got, kind)
		}
		if policy := w.Header().Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; script-src 'self';") {
			t.Errorf("%s: the policy is %q", path, policy)
		} else if !strings.HasSuffix(policy, "; frame-ancestors 'none'") {
			t.Errorf("%s: the policy is %q; want that no page of others shows it in a frame", path, policy)
		}
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("If-None-Match", w.Header().Get("ETag"))
		w = httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 304 {
			t.Errorf("%s again: %d; want 304", path, w.Code)
		}
	}
}

// The page works under its policy only if it has nothing inline, and is safe with
// what callers say only if it makes no HTML of it.
func TestPageKeepsToItsPolicy(t *testing.T) {
	for _, ban := range []struct{ files, pattern, why string }{
		{"*.html", `(?i)<style|\sstyle=|\son[a-z]+=|javascript:`, "is inline"},
		{"*.html", `<script[^>]*>[^<]`, "is an inline script"},
		{"*.js", `innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|setHTML`, "makes HTML or code of a string"},
		{"*.js", `'style'|cssText`, "sets an inline style"},
		{"*.html", `(?:src|href|action)="(?:https?:)?/`, "refers to elsewhere, or doesn't work below another path"},
		{"*.css", `url\(|@import`, "loads something"},
		{"*.js", `https?://[^w]`, "refers to elsewhere"}, // but to what www.w3.org calls SVG
	} {
		names, err := fs.Glob(pageFiles, "page/"+ban.files)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v, %v", ban.files, names, err)
		}
		for _, name := range names {
			text, err := pageFiles.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if found := regexp.MustCompile(ban.pattern).Find(text); found != nil {
				t.Errorf("%s: %q %s", name, found, ban.why)
			}
		}
	}
}

// Whatever the page refers to is there.
func TestPageIsWhole(t *testing.T) {
	h := pages(Options{Registry: registry(), Control: newFakeControl(), Ready: func() error { return nil }})
	names, err := fs.Glob(pageFiles, "page/*")
	if err != nil {
		t.Fatal(err)
	}
	reference := regexp.MustCompile(`(?:(?:href|src)="|from '\.)([^"']+)["']`)
	seen := 0
	for _, name := range names {
		text, err := pageFiles.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range reference.FindAllStringSubmatch(string(text), -1) {
			path := "/" + m[1]
			if strings.HasSuffix(name, ".js") {
				path = "/page" + m[1]
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
			if w.Code != 200 {
				t.Errorf("%s refers to %s: %d; want 200", name, path, w.Code)
			}
			seen++
		}
	}
	if seen < 10 {
		t.Errorf("%d references found; want more", seen)
	}
}
