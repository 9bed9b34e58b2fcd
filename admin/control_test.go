package admin

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agiproxy/proxy"
)

// A fakeControl has one pool of one backend, and notes what it is told to do.
type fakeControl struct {
	mu       sync.Mutex
	did      []string
	sessions []Session
	trace    fakeTrace
	err      error  // of a reload and an upgrade
	upgrade  func() // what comes of an upgrade before it is answered; nil: nothing
}

var noon = time.Date(2026, 2, 3, 12, 0, 0, 0, time.UTC)

// wholeBackend has something in each field.
func wholeBackend() Backend {
	age, until := 3.5, noon.Add(time.Minute)
	return Backend{
		Pool: "ivr", Name: "ivr1", Address: "ivr1.example.com:4573", Resolved: "10.0.0.1:4573", State: "drained", Reason: "by an operator", Since: noon,
		Weight: 2, MaxSessions: 16, Backup: true, Sessions: 4, OldestSession: &age, Total: 100, Ejections: 1, EjectedUntil: &until,
		LastProbe:    &Probe{Time: noon, OK: false, Reason: "refused", Error: "connection refused", Duration: .001},
		FirstCommand: &Quantiles{.01, .05}, Draining: &Drain{Deadline: &until}, Overridden: []string{"drain", "weight"}, Removed: true,
	}
}

func newFakeControl() *fakeControl {
	return &fakeControl{
		sessions: []Session{
			{ID: 7, State: "relaying", Pool: "ivr", Backend: "ivr1", Script: "menu", UniqueID: "1.7", Channel: "PJSIP/1", Caller: "100", Client: "10.0.0.5:4", Started: noon, Turn: "backend", Command: "NOOP", Resumed: true},
			{ID: 8, State: "queued", Pool: "ivr", Script: "menu", UniqueID: "1.8", Caller: "100", Turn: "asterisk"},
		},
		trace: fakeTrace{lines: make(chan proxy.Line, 10)},
	}
}

func (c *fakeControl) do(format string, args ...any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.did = append(c.did, fmt.Sprintf(format, args...))
	return nil
}

func (c *fakeControl) on(pool, backend, format string, args ...any) error {
	if pool != "ivr" || backend != "ivr1" {
		return fmt.Errorf("pool %s: backend %q: %w", pool, backend, ErrNotFound)
	}
	return c.do(format, args...)
}

func (c *fakeControl) Status() Status {
	return Status{Version: "1.2.3", Started: noon, Ready: true, Sessions: 2, LastReload: Reload{Time: noon, OK: c.err == nil, NeedRestart: []string{}}}
}
func (c *fakeControl) Pools() []Pool {
	b := wholeBackend()
	empty := Backend{Pool: "night", Name: "10.0.0.9:4573", State: "up", Overridden: []string{}}
	return []Pool{{Name: "ivr", Balance: "first", Backends: []Backend{b}}, {Name: "night", Balance: "hash", Backends: []Backend{empty}}}
}
func (c *fakeControl) Sessions(f proxy.Filter) ([]Session, error) {
	c.do("list %+v", f)
	found := []Session{}
	for _, s := range c.sessions {
		if (f.ID == 0 || f.ID == s.ID) && (f.UniqueID == "" || f.UniqueID == s.UniqueID) && (f.Caller == "" || f.Caller == s.Caller) {
			found = append(found, s)
		}
	}
	return found, c.err
}
func (c *fakeControl) Endings(after uint64) []Ending {
	if after >= 41 {
		return []Ending{}
	}
	return []Ending{{Number: 41, Time: noon, ID: 6, Outcome: "lost", Reason: "connection reset", Pool: "ivr"}}
}
func (c *fakeControl) Totals() proxy.Totals { return proxy.Totals{} }
func (c *fakeControl) Drain(p, b string, d time.Duration) error {
	return c.on(p, b, "drain %v", d)
}
func (c *fakeControl) Enable(p, b string) error  { return c.on(p, b, "enable") }
func (c *fakeControl) Disable(p, b string) error { return c.on(p, b, "disable") }
func (c *fakeControl) SetWeight(p, b string, w int) error {
	return c.on(p, b, "weight %d", w)
}
func (c *fakeControl) Eject(p, b string, d time.Duration) error { return c.on(p, b, "eject %v", d) }
func (c *fakeControl) Uneject(p, b string) error                { return c.on(p, b, "uneject") }
func (c *fakeControl) Kill(id uint32) error                     { return c.do("kill %d", id) }
func (c *fakeControl) Trace(id uint32) (Trace, error) {
	c.do("trace %d", id)
	return &c.trace, nil
}
func (c *fakeControl) Reload() error {
	c.do("reload")
	return c.err
}
func (c *fakeControl) Upgrade() (Upgrade, error) {
	c.do("upgrade")
	if c.upgrade != nil {
		c.upgrade()
	}
	return Upgrade{PID: 77, Version: "1.2.4", Moved: 5, Left: 1, Frozen: .05, Duration: .08}, c.err
}

type fakeTrace struct {
	lines  chan proxy.Line
	closed bool
}

func (t *fakeTrace) Lines() <-chan proxy.Line { return t.lines }
func (t *fakeTrace) Lost() uint64             { return 3 }
func (t *fakeTrace) Close()                   { t.closed = true }

// ask has a handler answer a request, whose header is set by pairs.
func ask(c *fakeControl, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	pages(Options{Registry: registry(), Control: c, Ready: func() error { return nil }}).ServeHTTP(w, r)
	return w
}

func TestAPI(t *testing.T) {
	bad := errors.New("agiproxy.yaml:3:5: unknown key")
	for _, test := range []struct {
		method, path, body string
		err                error // the controller's
		status             int
		want               string // in the answer
		did                string // by the controller, listing apart
	}{
		{"GET", "/status", "", nil, 200, `"version":"1.2.3"`, ""},
		{"GET", "/pools", "", nil, 200, `[{"name":"ivr"`, ""},
		{"GET", "/pools/night", "", nil, 200, `{"name":"night"`, ""},
		{"GET", "/pools/x", "", nil, 404, `"detail":"pool \"x\": not found"`, ""},
		{"GET", "/backends", "", nil, 200, `"pool":"night"`, ""},
		{"GET", "/backends?pool=ivr", "", nil, 200, `[{"pool":"ivr"`, ""},
		{"GET", "/backends?pool=x", "", nil, 404, "", ""},
		{"GET", "/backends?pol=x", "", nil, 400, `unknown parameter \"pol\"; want one of pool`, ""},
		{"GET", "/backends/ivr/ivr1", "", nil, 200, `"oldest_session_seconds":3.5`, ""},
		{"GET", "/backends/night/10.0.0.9:4573", "", nil, 200, `"oldest_session_seconds":null`, ""},
		{"GET", "/backends/ivr/x", "", nil, 404, `pool ivr: backend \"x\": not found`, ""},

		{"POST", "/backends/ivr/ivr1/drain", "", nil, 200, `"name":"ivr1"`, "drain 0s"},
		{"POST", "/backends/ivr/ivr1/drain", "{}", nil, 200, "", "drain 0s"},
		{"POST", "/backends/ivr/ivr1/drain", `{"deadline_seconds": 1.5}`, nil, 200, "", "drain 1.5s"},
		{"POST", "/backends/ivr/ivr1/drain", `{"deadline_seconds": 0}`, nil, 400, "deadline_seconds: 0; want more than 0", ""},
		{"POST", "/backends/ivr/ivr1/drain", `{"deadline_seconds": 1e99}`, nil, 400, "deadline_seconds", ""},
		{"POST", "/backends/ivr/ivr1/drain", `{"deadline": 5}`, nil, 400, `unknown field \"deadline\"`, ""},
		{"POST", "/backends/ivr/ivr1/drain", `{} {}`, nil, 400, "more than one", ""},
		{"POST", "/backends/ivr/ivr1/drain", `{"deadline_seconds": "5"}`, nil, 400, "body: ", ""},
		{"POST", "/backends/ivr/ivr1/drain", strings.Repeat(" ", 5000), nil, 413, "", ""},
		{"POST", "/backends/ivr/x/drain", "", nil, 404, "", ""},
		{"POST", "/backends/ivr/ivr1/enable", "", nil, 200, "", "enable"},
		{"POST", "/backends/ivr/ivr1/disable", "", nil, 200, "", "disable"},
		{"POST", "/backends/ivr/ivr1/weight", `{"weight": 5}`, nil, 200, "", "weight 5"},
		{"POST", "/backends/ivr/ivr1/weight", `{"weight": 0}`, nil, 400, "want 1 to 256, or drain", ""},
		{"POST", "/backends/ivr/ivr1/weight", `{"weight": 257}`, nil, 400, "", ""},
		{"POST", "/backends/ivr/ivr1/weight", ``, nil, 400, "", ""},
		{"POST", "/backends/ivr/ivr1/eject", `{"duration_seconds": 60}`, nil, 200, "", "eject 1m0s"},
		{"POST", "/backends/ivr/ivr1/eject", `{}`, nil, 400, "duration_seconds", ""},
		{"POST", "/backends/ivr/ivr1/uneject", ``, nil, 200, "", "uneject"},

		{"GET", "/sessions", "", nil, 200, `[{"id":7`, ""},
		{"GET", "/sessions?limit=0", "", nil, 400, `limit: \"0\"`, ""},
		{"GET", "/sessions?limit=10001", "", nil, 400, "", ""},
		{"GET", "/sessions?caller=1&caller=2", "", nil, 400, "caller is given twice", ""},
		{"GET", "/sessions/7", "", nil, 200, `{"id":7`, ""},
		{"GET", "/sessions/uniqueid:1.8", "", nil, 200, `{"id":8`, ""},
		{"GET", "/sessions/caller:100", "", nil, 409, "2 sessions are caller:100; want one of their numbers: 7, 8", ""},
		{"GET", "/sessions/9", "", nil, 404, "session 9: not found", ""},
		{"GET", "/sessions/0", "", nil, 400, "", ""},
		{"GET", "/sessions/channel:x", "", nil, 400, "want its number, uniqueid:UNIQUEID or caller:NUMBER", ""},
		{"DELETE", "/sessions/7", "", nil, 200, `{"id":7`, "kill 7"},
		{"DELETE", "/sessions/uniqueid:1.8", "", nil, 200, `{"id":8`, "kill 8"},
		{"DELETE", "/sessions/9", "", nil, 404, "", ""},
		{"DELETE", "/sessions", "", nil, 405, "want GET or HEAD", ""},

		{"GET", "/endings", "", nil, 200, `"reason":"connection reset"`, ""},
		{"GET", "/endings?after=41", "", nil, 200, "[]\n", ""},
		{"GET", "/endings?after=x", "", nil, 400, "", ""},
		{"POST", "/reload", "", nil, 200, `"ok":true`, "reload"},
		{"POST", "/reload", "", bad, 422, "agiproxy.yaml:3:5: unknown key", "reload"},
		{"POST", "/reload", "", fmt.Errorf("started without a file: %w", ErrConflict), 409, "started without a file", "reload"},
		{"POST", "/upgrade", "", nil, 200, `{"pid":77,"version":"1.2.4","moved":5,"left":1,"frozen_seconds":0.05,"duration_seconds":0.08}`, "upgrade"},
		{"POST", "/upgrade", "", errors.New("new process: refused"), 422, `"detail":"new process: refused"`, "upgrade"},
		{"POST", "/upgrade", "", fmt.Errorf("%w: an upgrade is under way", ErrConflict), 409, "not possible now: an upgrade is under way", "upgrade"},
		{"GET", "/upgrade", "", nil, 405, "want POST", ""},
		{"GET", "/reload", "", nil, 405, "want POST", ""},
		{"GET", "/nothing", "", nil, 404, "the API has no /api/v1/nothing; see /api/v1/openapi.json", ""},
		{"GET", "/", "", nil, 404, "", ""},
	} {
		c := newFakeControl()
		c.err = test.err
		w := ask(c, test.method, "/api/v1"+test.path, test.body)
		if w.Code != test.status || !strings.Contains(w.Body.String(), test.want) {
			t.Errorf("%s %s %s: %d %s; want %d and %s", test.method, test.path, test.body, w.Code, w.Body, test.status, test.want)
		}
		want := "application/json"
		if test.status >= 400 {
			want = "application/problem+json"
		}
		if got := w.Header().Get("Content-Type"); got != want {
			t.Errorf("%s %s: %d as %s; want %s", test.method, test.path, w.Code, got, want)
		}
		did := slices.DeleteFunc(c.did, func(s string) bool { return strings.HasPrefix(s, "list") })
		if got := strings.Join(did, ", "); got != test.did {
			t.Errorf("%s %s: did %q; want %q", test.method, test.path, got, test.did)
		}
	}
}

func TestSessionsAreFiltered(t *testing.T) {
	c := newFakeControl()
	ask(c, "GET", "/api/v1/sessions?pool=a&backend=b&script=c/d&uniqueid=1.1&caller=%2B49&limit=5", "")
	ask(c, "GET", "/api/v1/sessions", "")
	want := []string{
		fmt.Sprintf("list %+v", proxy.Filter{Pool: "a", Backend: "b", Script: "c/d", UniqueID: "1.1", Caller: "+49", Limit: 5}),
		fmt.Sprintf("list %+v", proxy.Filter{Limit: defaultLimit}),
	}
	if !slices.Equal(c.did, want) {
		t.Errorf("listed %q; want %q", c.did, want)
	}
}

// A page of another site that an operator looks at may not drain his backends.
func TestOtherSitesChangeNothing(t *testing.T) {
	for _, test := range []struct {
		header []string
		want   int
	}{
		{nil, 200}, // curl
		{[]string{"Origin", "http://example.com"}, 200}, // what httptest asks for
		{[]string{"Sec-Fetch-Site", "same-origin"}, 200},
		{[]string{"Origin", "http://evil.example.org"}, 403},
		{[]string{"Origin", "null"}, 403},
		{[]string{"Sec-Fetch-Site", "cross-site"}, 403},
		{[]string{"Sec-Fetch-Site", "same-site"}, 403},
	} {
		for _, path := range []string{"/api/v1/backends/ivr/ivr1/drain", "/api/v1/reload", "/api/v1/upgrade", "/-/reload"} {
			if w := ask(newFakeControl(), "POST", path, "", test.header...); w.Code != test.want {
				t.Errorf("POST %s with %q: %d; want %d", path, test.header, w.Code, test.want)
			}
		}
		if w := ask(newFakeControl(), "GET", "/api/v1/status", "", test.header...); w.Code != 200 {
			t.Errorf("GET with %q: %d; want 200", test.header, w.Code)
		}
	}
}

func TestTraceIsStreamed(t *testing.T) {
	c := newFakeControl()
	c.trace.lines <- proxy.Line{Time: noon, From: proxy.Backend, Text: `SAY "<x>"`}
	c.trace.lines <- proxy.Line{Time: noon, From: proxy.Asterisk, Text: "200 result=0"}
	close(c.trace.lines)
	w := ask(c, "GET", "/api/v1/sessions/uniqueid:1.7/trace", "")
	const want = ": agiproxy\n\n" +
		`data: {"time":"2026-02-03T12:00:00Z","from":"backend","line":"SAY \"\u003cx\u003e\"","lost":3}` + "\n\n" +
		`data: {"time":"2026-02-03T12:00:00Z","from":"asterisk","line":"200 result=0","lost":3}` + "\n\n" +
		"event: end\ndata: {}\n\n"
	if w.Code != 200 || w.Header().Get("Content-Type") != "text/event-stream" || w.Body.String() != want {
		t.Errorf("%d %s\n%s\nwant\n%s", w.Code, w.Header().Get("Content-Type"), w.Body, want)
	}
	if !c.trace.closed {
		t.Error("the trace isn't closed")
	}
	if w := ask(c, "GET", "/api/v1/sessions/9/trace", ""); w.Code != 404 {
		t.Errorf("of no session: %d; want 404", w.Code)
	}
}

func TestNoAPIWithoutController(t *testing.T) {
	for _, path := range []string{"/api/v1/status", "/-/reload"} {
		w := httptest.NewRecorder()
		pages(Options{Registry: registry()}).ServeHTTP(w, httptest.NewRequest("POST", path, nil))
		if w.Code != 404 {
			t.Errorf("%s: %d; want 404", path, w.Code)
		}
	}
}
