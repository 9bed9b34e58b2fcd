package client

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// answers is a server that says what it was asked, or refuses.
func answers(t *testing.T, start func(*httptest.Server)) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		switch r.URL.Path {
		case "/api/v1/refused":
			w.WriteHeader(404)
			fmt.Fprint(w, `{"detail": "pool x: not found"}`)
		case "/api/v1/odd":
			http.Error(w, "odd", 500)
		case "/api/v1/stream", "/api/v1/cut":
			fmt.Fprint(w, ": hello\n\ndata: 1\n\ndata: 2\n\n")
			if r.URL.Path == "/api/v1/stream" {
				fmt.Fprint(w, "event: end\ndata: {}\n\n")
			}
		default:
			body := make([]byte, 100)
			n, _ := r.Body.Read(body)
			json.NewEncoder(w).Encode([]string{r.Method, r.URL.String(), string(body[:n]), user, password})
		}
	}))
	start(s)
	t.Cleanup(s.Close)
	return s
}

func TestCall(t *testing.T) {
	s := answers(t, (*httptest.Server).Start)
	for _, url := range []string{s.URL, s.URL + "/", strings.TrimPrefix(s.URL, "http://")} {
		c, err := New(Options{URL: url, User: "ops", Password: "secret"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var got []string
		if err := c.Call(t.Context(), "POST", "/backends/ivr/10.0.0.1:4573/drain?x=1%202", map[string]int{"a": 1}, &got); err != nil {
			t.Fatal(err)
		}
		if want := `["POST" "/api/v1/backends/ivr/10.0.0.1:4573/drain?x=1%202" "{\"a\":1}" "ops" "secret"]`; fmt.Sprintf("%q", got) != want {
			t.Errorf("at %s: asked %q; want %s", url, got, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	s := answers(t, (*httptest.Server).Start)
	c, err := New(Options{URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for path, want := range map[string]Refusal{"/refused": {404, "pool x: not found"}, "/odd": {500, "500 Internal Server Error"}} {
		err := c.Call(t.Context(), "GET", path, nil, nil)
		if r, ok := errors.AsType[*Refusal](err); !ok || *r != want {
			t.Errorf("%s: %v; want %v", path, err, want)
		}
	}
	s.Close()
	want := "dial tcp " + s.Listener.Addr().String() + ": connect: connection refused"
	if err := c.Call(t.Context(), "GET", "/x", nil, nil); fmt.Sprint(err) != want {
		t.Errorf("with nobody there: %v; want %s", err, want)
	}
}

func TestStream(t *testing.T) {
	s := answers(t, (*httptest.Server).Start)
	c, err := New(Options{URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	stop := errors.New("enough")
	for _, test := range []struct {
		path string
		stop bool
		got  string
		want string
	}{
		{"/stream", false, "12", "<nil>"},
		{"/stream", true, "1", "enough"},
		{"/cut", false, "12", "the stream was cut: EOF"},
		{"/refused", false, "", "pool x: not found"},
	} {
		got := ""
		err := c.Stream(t.Context(), test.path, func(data []byte) error {
			got += string(data)
			if test.stop {
				return stop
			}
			return nil
		})
		if got != test.got || fmt.Sprint(err) != test.want {
			t.Errorf("%s: %q, %v; want %q, %s", test.path, got, err, test.got, test.want)
		}
	}
}

func TestTLS(t *testing.T) {
	s := answers(t, (*httptest.Server).StartTLS)
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]bool{ca: true, "": false} {
		c, err := New(Options{URL: s.URL, CAFile: file})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Call(t.Context(), "GET", "/x", nil, nil); (err == nil) != want {
			t.Errorf("with CA %q: %v; want it answered: %v", file, err, want)
		}
		c.Close()
	}
}

func TestBadOptions(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		o    Options
		want string
	}{
		{Options{URL: "ftp://x"}, `"ftp://x"; want http://HOST:PORT or https://HOST:PORT`},
		{Options{URL: ""}, `want http://HOST:PORT`},
		{Options{URL: "x:1", CAFile: "/no/such"}, "no such file"},
		{Options{URL: "x:1", CAFile: empty}, "has no certificate"},
		{Options{URL: "x:1", CertFile: "/no/such"}, "no such file"},
	} {
		if _, err := New(test.o); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("New(%+v) = %v; want %s", test.o, err, test.want)
		}
	}
}
