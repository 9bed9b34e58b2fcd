package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"agiproxy/proxy"
)

// A Controller is what the API asks and commands. Its methods are safe for
// concurrent use. Those that name a backend or a session return [ErrNotFound] if
// there is none.
type Controller interface {
	Status() Status
	Pools() []Pool
	// Sessions fails with [ErrConflict] where another process has them now.
	Sessions(f proxy.Filter) ([]Session, error)
	Endings(after uint64) []Ending // the last ones with a greater number, newest first
	Totals() proxy.Totals

	// Drain stops new sessions; after the deadline, if it isn't 0, those that are
	// left get what on_backend_loss says. Disable is Drain with a deadline that
	// has passed, Enable takes both back.
	Drain(pool, backend string, deadline time.Duration) error
	Enable(pool, backend string) error
	Disable(pool, backend string) error
	SetWeight(pool, backend string, weight int) error
	Eject(pool, backend string, d time.Duration) error
	Uneject(pool, backend string) error

	Kill(session uint32) error
	// Trace fails with [ErrTooMany] where there are too many already.
	Trace(session uint32) (Trace, error)
	Reload() error
	// Upgrade returns when another process has taken this one's place.
	Upgrade() (Upgrade, error)
}

// A Trace is a dialogue that is read along, see [proxy.Trace].
type Trace interface {
	Lines() <-chan proxy.Line
	Lost() uint64
	Close()
}

const prefix = "/api/v1"

// How many sessions are listed.
const (
	defaultLimit = 1000
	mostLimit    = 10000
)

// A route is one call of the API: what it is for, and what it takes and gives.
// The OpenAPI document is made from it.
type route struct {
	method, path string
	summary      string
	query        []param
	body         any  // an example of what the request may bring; nil: nothing
	optional     bool // the body
	result       any  // an example of the answer; nil: none
	stream       bool // of such, as server-sent events
	errors       []int
	handle       func(*api, http.ResponseWriter, *http.Request) (any, error)
}

type param struct{ name, doc string }

var sessionQuery = []param{
	{"pool", "only sessions of that pool"},
	{"backend", "only sessions on that backend"},
	{"script", "only sessions of that script"},
	{"uniqueid", "only the session of the channel with that uniqueid"},
	{"caller", "only sessions of the caller with that number"},
	{"limit", fmt.Sprintf("the most sessions that are listed, the latest first; %d unless given, %d at most", defaultLimit, mostLimit)},
}

// routes are all calls of the API.
func routes() []route {
	const backend = "/backends/{pool}/{backend}"
	return []route{
		{method: "GET", path: "/status", summary: "The process as a whole", result: Status{}, handle: (*api).status},
		{method: "GET", path: "/pools", summary: "All pools, with their backends", result: []Pool{}, handle: (*api).pools},
		{method: "GET", path: "/pools/{pool}", summary: "One pool", result: Pool{}, errors: []int{404}, handle: (*api).pool},
		{
			method: "GET", path: "/backends", summary: "All backends, or those of one pool", query: []param{{"pool", "only backends of that pool"}},
			result: []Backend{}, errors: []int{400, 404}, handle: (*api).backends,
		},
		{method: "GET", path: backend, summary: "One backend", result: Backend{}, errors: []int{404}, handle: (*api).backend},
		{
			method: "POST", path: backend + "/drain", summary: "Send it no new sessions; those under way go on",
			body: drainRequest{}, optional: true, result: Backend{}, errors: []int{400, 404}, handle: (*api).drain,
		},
		{method: "POST", path: backend + "/enable", summary: "End its drain", result: Backend{}, errors: []int{404}, handle: (*api).enable},
		{
			method: "POST", path: backend + "/disable", summary: "Drain it, and give its sessions at once what on_backend_loss says",
			result: Backend{}, errors: []int{404}, handle: (*api).disable,
		},
		{
			method: "POST", path: backend + "/weight", summary: "Change its share", body: weightRequest{},
			result: Backend{}, errors: []int{400, 404}, handle: (*api).weight,
		},
		{
			method: "POST", path: backend + "/eject", summary: "Send it no new sessions for a while", body: ejectRequest{},
			result: Backend{}, errors: []int{400, 404}, handle: (*api).eject,
		},
		{method: "POST", path: backend + "/uneject", summary: "End its ejection", result: Backend{}, errors: []int{404}, handle: (*api).uneject},
		{
			method: "GET", path: "/sessions", summary: "Sessions under way, the latest first", query: sessionQuery,
			result: []Session{}, errors: []int{400, 409}, handle: (*api).sessions,
		},
		{
			method: "GET", path: "/sessions/{id}", summary: "One session: its number, uniqueid:UNIQUEID or caller:NUMBER",
			result: Session{}, errors: []int{400, 404, 409}, handle: (*api).session,
		},
		{
			method: "DELETE", path: "/sessions/{id}", summary: "Kill it: AGISTATUS=FAILURE, AGIPROXYSTATUS=KILLED once Asterisk's command has ended; twice, and it ends now",
			result: Session{}, errors: []int{400, 404, 409}, handle: (*api).kill,
		},
		{
			method: "GET", path: "/sessions/{id}/trace", summary: "Its dialogue from now on, line by line, to its end",
			result: Line{}, stream: true, errors: []int{400, 404, 409, 429}, handle: (*api).trace,
		},
		{
			method: "GET", path: "/endings", summary: "The last hundred sessions that have ended, newest first",
			query: []param{{"after", "only endings with a greater number"}}, result: []Ending{}, errors: []int{400}, handle: (*api).endings,
		},
		{
			method: "POST", path: "/reload", summary: "Read the configuration again; if something is wrong with it nothing changes",
			result: Reload{}, errors: []int{409, 422}, handle: (*api).reload,
		},
		{
			method: "POST", path: "/upgrade",
			summary: "Start the program anew and hand over to it with all sessions that can move; if it doesn't come to that nothing changes",
			result:  Upgrade{}, errors: []int{409, 422}, handle: (*api).upgrade,
		},
		{method: "GET", path: "/events", summary: "A snapshot each second", result: Snapshot{}, stream: true, errors: []int{503}, handle: (*api).events},
		{method: "GET", path: "/openapi.json", summary: "This document", result: map[string]any{}, handle: (*api).openAPI},
	}
}

// An api answers for a controller.
type api struct {
	Controller
	watch    *watch
	document json.RawMessage
}

// register adds the API's routes to mux. What isn't there, or not by that method,
// is answered by a problem too.
func register(mux *http.ServeMux, c Controller, w *watch) {
	a := &api{c, w, document(routes())}
	methods := map[string][]string{}
	for _, rt := range routes() {
		mux.HandleFunc(rt.method+" "+prefix+rt.path, a.serve(rt.handle))
		methods[rt.path] = append(methods[rt.path], rt.method)
		if rt.method == "GET" {
			methods[rt.path] = append(methods[rt.path], "HEAD")
		}
	}
	for path, allowed := range methods {
		slices.Sort(allowed)
		mux.HandleFunc(prefix+path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			problem(w, refuse(http.StatusMethodNotAllowed, "%s is not for %s; want %s", r.URL.Path, r.Method, strings.Join(allowed, " or ")))
		})
	}
	mux.HandleFunc(prefix+"/", func(w http.ResponseWriter, r *http.Request) {
		problem(w, refuse(http.StatusNotFound, "the API has no %s; see %s/openapi.json", r.URL.Path, prefix))
	})
}

// serve makes a handler of a route's: what it returns is the answer, and nil says
// that it has answered already.
func (a *api) serve(handle func(*api, http.ResponseWriter, *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch answer, err := handle(a, w, r); {
		case err != nil:
			problem(w, err)
		case answer != nil:
			send(w, http.StatusOK, "application/json", answer)
		}
	}
}

func (a *api) status(http.ResponseWriter, *http.Request) (any, error) { return a.Status(), nil }
func (a *api) pools(http.ResponseWriter, *http.Request) (any, error)  { return a.Pools(), nil }
func (a *api) openAPI(http.ResponseWriter, *http.Request) (any, error) {
	return a.document, nil
}

func (a *api) pool(_ http.ResponseWriter, r *http.Request) (any, error) {
	return a.findPool(r.PathValue("pool"))
}

func (a *api) findPool(name string) (*Pool, error) {
	for _, p := range a.Pools() {
		if p.Name == name {
			return &p, nil
		}
	}
	return nil, fmt.Errorf("pool %q: %w", name, ErrNotFound)
}

func (a *api) backends(_ http.ResponseWriter, r *http.Request) (any, error) {
	q, err := query(r, "pool")
	if err != nil {
		return nil, err
	}
	pools := a.Pools()
	if name := q["pool"]; name != "" {
		p, err := a.findPool(name)
		if err != nil {
			return nil, err
		}
		pools = []Pool{*p}
	}
	all := []Backend{}
	for _, p := range pools {
		all = append(all, p.Backends...)
	}
	return all, nil
}

// backend returns the backend that a path names.
func (a *api) backend(_ http.ResponseWriter, r *http.Request) (any, error) {
	p, err := a.findPool(r.PathValue("pool"))
	if err != nil {
		return nil, err
	}
	for _, b := range p.Backends {
		if b.Name == r.PathValue("backend") {
			return b, nil
		}
	}
	return nil, fmt.Errorf("pool %s: backend %q: %w", p.Name, r.PathValue("backend"), ErrNotFound)
}

// change has do change the backend that a path names, and returns it as it is
// then.
func (a *api) change(r *http.Request, do func(pool, backend string) error) (any, error) {
	if err := do(r.PathValue("pool"), r.PathValue("backend")); err != nil {
		return nil, err
	}
	return a.backend(nil, r)
}

func (a *api) enable(_ http.ResponseWriter, r *http.Request) (any, error) {
	return a.change(r, a.Enable)
}
func (a *api) disable(_ http.ResponseWriter, r *http.Request) (any, error) {
	return a.change(r, a.Disable)
}
func (a *api) uneject(_ http.ResponseWriter, r *http.Request) (any, error) {
	return a.change(r, a.Uneject)
}

func (a *api) drain(_ http.ResponseWriter, r *http.Request) (any, error) {
	var body drainRequest
	if err := read(r, &body, true); err != nil {
		return nil, err
	}
	var deadline time.Duration
	if body.Deadline != nil {
		var err error
		if deadline, err = seconds("deadline_seconds", *body.Deadline); err != nil {
			return nil, err
		}
	}
	return a.change(r, func(pool, backend string) error { return a.Drain(pool, backend, deadline) })
}

func (a *api) weight(_ http.ResponseWriter, r *http.Request) (any, error) {
	var body weightRequest
	if err := read(r, &body, false); err != nil {
		return nil, err
	}
	if body.Weight < 1 || body.Weight > 256 {
		return nil, refuse(http.StatusBadRequest, "weight: %d; want 1 to 256, or drain the backend", body.Weight)
	}
	return a.change(r, func(pool, backend string) error { return a.SetWeight(pool, backend, body.Weight) })
}

func (a *api) eject(_ http.ResponseWriter, r *http.Request) (any, error) {
	var body ejectRequest
	if err := read(r, &body, false); err != nil {
		return nil, err
	}
	d, err := seconds("duration_seconds", body.Duration)
	if err != nil {
		return nil, err
	}
	return a.change(r, func(pool, backend string) error { return a.Eject(pool, backend, d) })
}

// longest is the most that an operator may ask to wait for.
const longest = 30 * 24 * time.Hour

// seconds returns a time that a request has given.
func seconds(key string, s float64) (time.Duration, error) {
	if !(s >= 0.001 && s <= longest.Seconds()) { // NaN too
		return 0, refuse(http.StatusBadRequest, "%s: %v; want more than 0, and at most %v", key, s, longest.Seconds())
	}
	return time.Duration(s * float64(time.Second)), nil
}

func (a *api) sessions(_ http.ResponseWriter, r *http.Request) (any, error) {
	q, err := query(r, "pool", "backend", "script", "uniqueid", "caller", "limit")
	if err != nil {
		return nil, err
	}
	f := proxy.Filter{
		Pool: q["pool"], Backend: q["backend"], Script: q["script"],
		UniqueID: q["uniqueid"], Caller: q["caller"], Limit: defaultLimit,
	}
	if s := q["limit"]; s != "" {
		if f.Limit, err = strconv.Atoi(s); err != nil || f.Limit < 1 || f.Limit > mostLimit {
			return nil, refuse(http.StatusBadRequest, "limit: %q; want 1 to %d", s, mostLimit)
		}
	}
	found, err := a.Sessions(f)
	if err != nil {
		return nil, err
	}
	return found, nil
}

func (a *api) session(_ http.ResponseWriter, r *http.Request) (any, error) {
	return a.findSession(r.PathValue("id"))
}

// findSession returns the one session that a path names.
func (a *api) findSession(name string) (*Session, error) {
	f := proxy.Filter{Limit: mostLimit}
	key, value, _ := strings.Cut(name, ":")
	switch id, err := strconv.ParseUint(name, 10, 32); {
	case err == nil && id > 0:
		f.ID = uint32(id)
	case key == "uniqueid" && value != "":
		f.UniqueID = value
	case key == "caller" && value != "":
		f.Caller = value
	default:
		return nil, refuse(http.StatusBadRequest, "session %q; want its number, uniqueid:UNIQUEID or caller:NUMBER", name)
	}
	found, err := a.Sessions(f)
	if err != nil {
		return nil, err
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("session %s: %w", name, ErrNotFound)
	case 1:
		return &found[0], nil
	}
	var ids []string
	for _, s := range found[:min(len(found), 10)] {
		ids = append(ids, fmt.Sprint(s.ID))
	}
	return nil, refuse(http.StatusConflict, "%d sessions are %s; want one of their numbers: %s", len(found), name, strings.Join(ids, ", "))
}

// kill answers with what the session was doing.
func (a *api) kill(_ http.ResponseWriter, r *http.Request) (any, error) {
	s, err := a.findSession(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return s, a.Kill(s.ID)
}

func (a *api) endings(_ http.ResponseWriter, r *http.Request) (any, error) {
	q, err := query(r, "after")
	if err != nil {
		return nil, err
	}
	var after uint64
	if s := q["after"]; s != "" {
		if after, err = strconv.ParseUint(s, 10, 64); err != nil {
			return nil, refuse(http.StatusBadRequest, "after: %q; want the number of an ending", s)
		}
	}
	return a.Endings(after), nil
}

func (a *api) reload(http.ResponseWriter, *http.Request) (any, error) {
	if err := a.Reload(); err != nil {
		return nil, err
	}
	return a.Status().LastReload, nil
}

func (a *api) upgrade(http.ResponseWriter, *http.Request) (any, error) {
	u, err := a.Upgrade()
	if err != nil {
		return nil, err
	}
	return u, nil
}

// query returns a request's parameters, of which only these are known: one that
// is misspelt must not list, or match, all sessions.
func query(r *http.Request, known ...string) (map[string]string, error) {
	q := make(map[string]string)
	for key, values := range r.URL.Query() {
		if !slices.Contains(known, key) {
			return nil, refuse(http.StatusBadRequest, "unknown parameter %q; want one of %s", key, strings.Join(known, ", "))
		}
		if len(values) > 1 {
			return nil, refuse(http.StatusBadRequest, "%s is given twice", key)
		}
		q[key] = values[0]
	}
	return q, nil
}

// mostBody is more than any request needs.
const mostBody = 4 << 10

// read reads a request's body, in which only known fields may be.
func read(r *http.Request, into any, optional bool) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, mostBody+1))
	switch {
	case err != nil:
		return refuse(http.StatusBadRequest, "body: %v", err)
	case len(body) > mostBody:
		return refuse(http.StatusRequestEntityTooLarge, "body: more than %d bytes", mostBody)
	case len(bytes.TrimSpace(body)) == 0 && optional:
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return refuse(http.StatusBadRequest, "body: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return refuse(http.StatusBadRequest, "body: more than one JSON value")
	}
	return nil
}
