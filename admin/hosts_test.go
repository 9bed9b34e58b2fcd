package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A page of another site whose name has come to mean this machine is, for its
// browser, of the same site as the admin port.
func TestReboundNamesOperateNothing(t *testing.T) {
	c := newFakeControl()
	h := knownHosts(func() []string { return []string{"ops.example.org"} }, pages(Options{Registry: registry(), Control: c, Ready: func() error { return nil }}))
	for host, want := range map[string]int{
		"127.0.0.1:9577": 200, "127.0.0.1": 200, "[::1]:9577": 200, "[::1]": 200, "10.1.2.3:80": 200,
		"localhost:9577": 200, "LOCALHOST": 200, "localhost.": 200, "agiproxy.localhost:9577": 200,
		"ops.example.org": 200, "OPS.example.org.:8443": 200,
		"":                 200, // no browser
		"evil.example.org": 421, "evil.example.org:9577": 421, "localhost.evil.example.org": 421,
		"127.0.0.1.evil.example.org": 421, "notlocalhost": 421, "ops.example.org.evil.example.org": 421,
	} {
		for path, method := range map[string]string{
			"/": "GET", "/page/status.js": "GET", "/api/v1/status": "GET", "/api/v1/sessions": "GET",
			"/api/v1/backends/ivr/ivr1/drain": "POST", "/-/reload": "POST", "/api/v1/upgrade": "POST", "/api/v1/sessions/7": "DELETE",
			"/metrics": "", "/-/healthy": "", "/-/ready": "",
		} {
			r := httptest.NewRequest("GET", path, nil)
			if method != "" {
				r.Method = method
			}
			r.Host = host
			r.Header.Set("Sec-Fetch-Site", "same-origin")
			did := len(c.did)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			expected := want
			if method == "" {
				expected = 200
			}
			if w.Code != expected {
				t.Errorf("%s %s asked for as %q: %d; want %d", r.Method, path, host, w.Code, expected)
			}
			if w.Code != 421 {
				continue
			}
			var p Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || !strings.Contains(p.Detail, "admin.hosts") {
				t.Errorf("%s as %q: %s; want a problem that names admin.hosts", path, host, w.Body)
			}
			if len(c.did) != did {
				t.Errorf("%s as %q: did %q; want nothing done", path, host, c.did[did:])
			}
		}
	}
}

// Where TLS or passwords keep others out, a name is as good as another.
func TestHostsAreForPlainPorts(t *testing.T) {
	for text, want := range map[string]int{
		"": 421, "http_server_config: {http2: false}\n": 421, "basic_auth_users: {}\n": 421,
		"basic_auth_users: {ops: '" + hash + "'}\n": 200,
	} {
		file := filepath.Join(t.TempDir(), "web.yml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, file, nil)
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.Addr().String()+"/api/v1/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "proxy1"
		r.SetBasicAuth("ops", "secret")
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("asked for as proxy1, with web_config_file %q: %d; want %d", text, response.StatusCode, want)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// The page works below any path of a reverse proxy: all it refers to is relative.
func TestPageBehindAPath(t *testing.T) {
	behind := httptest.NewServer(knownHosts(func() []string { return []string{"ops.example.org"} },
		pages(Options{Registry: registry(), Control: newFakeControl(), Ready: func() error { return nil }})))
	defer behind.Close()
	to, err := url.Parse(behind.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(http.StripPrefix("/agiproxy", &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
	}}))
	defer proxy.Close()
	get := func(method, path string, want int) string {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, proxy.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "ops.example.org"
		r.Header.Set("Origin", "http://ops.example.org")
		response, err := proxy.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var body strings.Builder
		_ = response.Write(&body)
		if response.StatusCode != want {
			t.Errorf("%s %s by the proxy: %d; want %d", method, path, response.StatusCode, want)
		}
		return body.String()
	}
	page := get("GET", "/agiproxy/", 200)
	links := regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(page, -1)
	if len(links) < 5 {
		t.Fatalf("the page refers to %q; want its parts", links)
	}
	for _, l := range links {
		get("GET", "/agiproxy/"+l[1], 200)
	}
	get("POST", "/agiproxy/api/v1/backends/ivr/ivr1/drain", 200)
}

func TestProblemsHaveTheirStatus(t *testing.T) {
	for err, want := range map[error]int{ErrNotFound: 404, ErrConflict: 409, ErrTooMany: 429} {
		w := httptest.NewRecorder()
		if problem(w, fmt.Errorf("what was asked: %w", err)); w.Code != want {
			t.Errorf("a problem by %q has status %d; want %d", err, w.Code, want)
		}
	}
}
