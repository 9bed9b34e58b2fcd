package admin

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// registry has one metric.
func registry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	calls := prometheus.NewCounter(prometheus.CounterOpts{Name: "calls_total", Help: "Calls."})
	reg.MustRegister(calls)
	calls.Add(3)
	return reg
}

// pages is the admin port without a server, where nobody looks each second.
func pages(o Options) http.Handler { return handler(o, newWatch(o.Control)) }

func TestPages(t *testing.T) {
	var why error
	h := pages(Options{Registry: registry(), Ready: func() error { return why }})
	down := errors.New("pool ivr: no backend can serve")
	for _, c := range []struct {
		method, path string
		why          error
		status       int
		want         string // in the body
	}{
		{"GET", "/metrics", nil, 200, "\ncalls_total 3\n"},
		{"GET", "/metrics", down, 200, "\ncalls_total 3\n"},
		{"HEAD", "/metrics", nil, 200, ""},
		{"GET", "/-/healthy", nil, 200, "agiproxy is healthy.\n"},
		{"GET", "/-/healthy", down, 200, "agiproxy is healthy.\n"},
		{"GET", "/-/ready", nil, 200, "agiproxy is ready.\n"},
		{"GET", "/-/ready", down, 503, "agiproxy is not ready: pool ivr: no backend can serve\n"},
		{"GET", "/", nil, 200, `<a href="metrics">`},

		{"GET", "/metric", nil, 404, ""},
		{"GET", "/metrics/", nil, 404, ""},
		{"GET", "/-/", nil, 404, ""},
		{"GET", "/-/reload", nil, 404, ""},
		{"GET", "/index.html", nil, 404, ""},
		{"GET", "/page/index.html", nil, 404, ""},
		{"GET", "/page/", nil, 404, ""},

		{"POST", "/metrics", nil, 405, ""},
		{"POST", "/", nil, 405, ""},
		{"PUT", "/-/healthy", nil, 405, ""},
		{"DELETE", "/-/ready", nil, 405, ""},
	} {
		why = c.why
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s (ready: %v): %d %q; want %d and %q", c.method, c.path, c.why, w.Code, w.Body, c.status, c.want)
		}
		if allow := w.Header().Get("Allow"); c.status == 405 && allow != "GET, HEAD" {
			t.Errorf("%s %s: Allow: %q; want GET, HEAD", c.method, c.path, allow)
		}
	}
}

// A client may ask for compression, as Prometheus does.
func TestMetricsAreNotCompressed(t *testing.T) {
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.Header.Set("Accept-Encoding", "gzip, zstd")
	w := httptest.NewRecorder()
	pages(Options{Registry: registry()}).ServeHTTP(w, r)
	if encoding := w.Header().Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		t.Errorf("Content-Encoding: %s; want none", encoding)
	}
}

// What the handler itself counts is as well-formed as all the rest.
func TestMetricsLint(t *testing.T) {
	reg := registry()
	h := pages(Options{Registry: reg, Ready: func() error { return nil }})
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil))
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

func TestServer(t *testing.T) {
	s, err := Listen(t.Context(), "127.0.0.1:0", Options{Registry: registry(), Ready: func() error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve()
	}()
	resp, err := http.Get("http://" + s.Addr().String() + "/-/ready")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 || string(body) != "agiproxy is ready.\n" {
		t.Errorf("/-/ready: %d %q", resp.StatusCode, body)
	}
	s.Close()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("Serve goes on after Close")
	}
	if c, err := net.Dial("tcp", s.Addr().String()); err == nil {
		c.Close()
		t.Error("the port is open after Close")
	}
}

// Close doesn't wait for a client that stands in the middle of a request.
func TestCloseIsBounded(t *testing.T) {
	s, err := Listen(t.Context(), "127.0.0.1:0", Options{Registry: registry(), Ready: func() error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve()
	}()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: x\r\nX: ")
	time.Sleep(20 * time.Millisecond)
	began := time.Now()
	s.Close()
	<-done
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("Close took %v; want about a second", took)
	}
	c.SetReadDeadline(time.Now().Add(2 * time.Second)) // before ReadHeaderTimeout closes it anyway
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the client's connection is open after Close")
	}
}

// An upgrade closes the port on which it was ordered, and is answered all the same.
func TestUpgradeIsAnsweredDuringClose(t *testing.T) {
	c := newFakeControl()
	s, err := Listen(t.Context(), "127.0.0.1:0", Options{Registry: registry(), Control: c})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	defer all.Wait()
	defer s.Close()
	c.upgrade = func() {
		all.Go(s.Close)
		for { // until it has begun to
			other, err := net.Dial("tcp", s.Addr().String())
			if err != nil {
				return
			}
			other.Close()
		}
	}
	all.Go(s.Serve)
	resp, err := http.Post("http://"+s.Addr().String()+"/api/v1/upgrade", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.HasPrefix(string(body), `{"pid":77,`) {
		t.Errorf("the answer is %s, %v", body, err)
	}
}

func TestCloseWithoutServe(t *testing.T) {
	s, err := Listen(t.Context(), "127.0.0.1:0", Options{Registry: registry(), Ready: func() error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if c, err := net.Dial("tcp", s.Addr().String()); err == nil {
		c.Close()
		t.Error("the port is open after Close")
	}
	s.Serve() // returns at once
}

func TestListenTellsWhatIsTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s, err := Listen(t.Context(), ln.Addr().String(), Options{Registry: registry()})
	if err == nil {
		s.Close()
		t.Fatal("Listen() on an address that is taken = nil; want an error")
	}
	if !strings.Contains(err.Error(), ln.Addr().String()) {
		t.Errorf("Listen() = %v; want an error that names %s", err, ln.Addr())
	}
}
