package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"agiproxy/admin"
	"agiproxy/balancer"
	"agiproxy/config"
	"agiproxy/internal/agisim"
	"agiproxy/proxy"
)

// api asks the admin port's API, and takes the answer into v.
func (p *program) api(method, path, body string, v any) int {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, "http://"+p.AdminAddr()+"/api/v1"+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer response.Body.Close()
	if v != nil && response.StatusCode == 200 {
		d := json.NewDecoder(response.Body)
		d.DisallowUnknownFields()
		if err := d.Decode(v); err != nil {
			p.t.Fatalf("%s %s: %v", method, path, err)
		}
	}
	return response.StatusCode
}

// seen is a backend as the API tells of it.
func (p *program) seen(name string) (b admin.Backend) {
	p.t.Helper()
	if status := p.api("GET", "/backends/ivr/"+name, "", &b); status != 200 {
		p.t.Fatalf("backend %s: %d", name, status)
	}
	return b
}

// does has an operator do something to a backend.
func (p *program) does(name, action, body string) (b admin.Backend) {
	p.t.Helper()
	if status := p.api("POST", "/backends/ivr/"+name+"/"+action, body, &b); status != 200 {
		p.t.Fatalf("%s %s: %d", action, name, status)
	}
	return b
}

func TestDrainLetsCallsEnd(t *testing.T) {
	one, two := startServer(t, "ivr1"), startServer(t, "ivr2")
	p := serve(t, file(unprobed+"balance: first", one.entry(""), two.entry("")))
	held := hold(t, p.addr(0), "hold", one)
	b := p.does("ivr1", "drain", "")
	if b.State != "drained" || b.Reason != "by an operator" || b.Sessions != 1 || b.Draining == nil || b.Draining.Deadline != nil || !slices.Equal(b.Overridden, []string{"drain"}) {
		t.Errorf("drained: %+v; want it drained by an operator, one session left, without a deadline", b)
	}
	if b.OldestSession == nil || *b.OldestSession <= 0 || time.Since(b.Since) > time.Minute {
		t.Errorf("drained: its oldest session is %v old, since %v; want both to be told", b.OldestSession, b.Since)
	}
	for range 3 {
		place(t, p.addr(0), "menu").wantServed("ivr2")
	}
	one.release()
	held.wantServed("ivr1")
	eventually(t, "the end of the call", func() bool { return p.seen("ivr1").Sessions == 0 })
	if b := p.seen("ivr1"); b.OldestSession != nil {
		t.Errorf("with no session left the oldest is %v old", *b.OldestSession)
	}
	if b := p.does("ivr1", "enable", ""); b.State != "up" || b.Draining != nil || len(b.Overridden) > 0 {
		t.Errorf("enabled: %+v; want it up", b)
	}
	place(t, p.addr(0), "menu").wantServed("ivr1")
}

func TestDrainGivesUp(t *testing.T) {
	for _, test := range []struct{ name, policy, action, body string }{
		{"after its deadline", "failure", "drain", `{"deadline_seconds": 0.05}`},
		{"at once", "failure", "disable", ""},
		{"for another backend", "resume", "drain", `{"deadline_seconds": 0.05}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			one, two := startServer(t, "ivr1"), startServer(t, "ivr2")
			p := serve(t, file(unprobed+"balance: first\non_backend_loss: "+test.policy, one.entry(""), two.entry("")))
			held := hold(t, p.addr(0), "hold", one)
			b := p.does("ivr1", test.action, test.body)
			if b.Draining == nil || b.Draining.Deadline == nil {
				t.Errorf("draining: %+v; want a deadline", b.Draining)
			}
			if test.policy == "resume" {
				eventually(t, "the call on ivr2", func() bool { return two.read(&two.held) == 1 })
				two.release()
				held.wantServed("ivr2")
				return
			}
			held.wantFailure("BACKENDLOST")
			if got := p.seen("ivr1").State; got != "drained" {
				t.Errorf("afterwards it is %s; want drained", got)
			}
		})
	}
}

// A deadline that another drain has replaced, or that enable has forgotten, is
// none any more.
func TestDeadlineIsReplaced(t *testing.T) {
	one := startServer(t, "ivr1")
	p := serve(t, file(unprobed, one.entry("")))
	held := hold(t, p.addr(0), "hold", one)
	for _, step := range [][2]string{{"drain", `{"deadline_seconds": 7200}`}, {"drain", ""}, {"enable", ""}} {
		stale := *p.does("ivr1", "drain", `{"deadline_seconds": 3600}`).Draining.Deadline
		p.does("ivr1", step[0], step[1])
		p.giveUp(p.backend("ivr1"), stale)
		if b := p.seen("ivr1"); b.Sessions != 1 { // which asks the loop after giveUp would have
			t.Fatalf("after %s %s the deadline before it has ended the call", step[0], step[1])
		}
	}
	one.release()
	held.wantServed("ivr1")
}

// What an operator has changed outlives a reload, unless that changes the
// backend's own entry.
func TestOperatorsChangesAndReload(t *testing.T) {
	one, two := startServer(t, "ivr1"), startServer(t, "ivr2")
	p := serve(t, file(unprobed, one.entry(""), two.entry("")))
	for _, name := range []string{"ivr1", "ivr2"} {
		p.does(name, "weight", `{"weight": 7}`)
		p.does(name, "drain", `{"deadline_seconds": 3600}`)
	}
	want := func(name, state string, weight int, overridden ...string) {
		t.Helper()
		if b := p.seen(name); b.State != state || b.Weight != weight || !slices.Equal(b.Overridden, overridden) {
			t.Errorf("%s is %s, of weight %d, changed in %q; want %s, %d, %q", name, b.State, b.Weight, b.Overridden, state, weight, overridden)
		}
	}
	want("ivr1", "drained", 7, "drain", "weight")
	p.reload(file(unprobed+"attempts: 2", one.entry(""), two.entry("")))
	want("ivr1", "drained", 7, "drain", "weight")
	if p.seen("ivr1").Draining.Deadline == nil {
		t.Error("the reload has dropped the deadline")
	}
	p.reload(file(unprobed+"attempts: 2", one.entry(", weight: 3"), two.entry("")))
	want("ivr1", "up", 3, []string{}...)
	want("ivr2", "drained", 7, "drain", "weight")
	p.log.want("operator's changes end with a changed configuration: pool=ivr backend=ivr1")
}

func TestEjectByHand(t *testing.T) {
	one, two := startServer(t, "ivr1"), startServer(t, "ivr2")
	p := serve(t, file(unprobed+"balance: first", one.entry(""), two.entry("")))
	b := p.does("ivr1", "eject", `{"duration_seconds": 600}`)
	if b.State != "ejected" || b.Reason != "by an operator" || b.EjectedUntil == nil || b.Ejections != 0 {
		t.Errorf("ejected: %+v; want it ejected by an operator", b)
	}
	place(t, p.addr(0), "menu").wantServed("ivr2")
	if b := p.does("ivr1", "uneject", ""); b.State != "up" || b.EjectedUntil != nil {
		t.Errorf("unejected: %+v; want it up", b)
	}
	place(t, p.addr(0), "menu").wantServed("ivr1")
}

func TestBackendTellsWhy(t *testing.T) {
	one := startServer(t, "ivr1")
	p := serve(t, file(quick, one.entry(""), `{name: dead, address: "127.0.0.1:1"}`, `{name: lost, address: "no.invalid:1"}`))
	p.state("dead", "down")
	eventually(t, "a probe of ivr1", func() bool { return p.seen("ivr1").LastProbe != nil })
	b := p.seen("ivr1")
	if b.State != "up" || b.Reason != "" || !b.LastProbe.OK || b.LastProbe.Duration <= 0 || b.Resolved != one.Addr().String() {
		t.Errorf("ivr1: %+v, probe %+v; want it up, and its probe", b, b.LastProbe)
	}
	b = p.seen("dead")
	if b.State != "down" || !strings.HasPrefix(b.Reason, "refused: ") || b.LastProbe.OK || b.LastProbe.Reason != "refused" || !strings.Contains(b.LastProbe.Error, "connection refused") {
		t.Errorf("dead: %+v, probe %+v; want it down, refused", b, b.LastProbe)
	}
	if b := p.seen("lost"); b.State != "down" || b.Reason != "its name has no address" || b.Resolved != "" {
		t.Errorf("lost: %+v; want it down for want of an address", b)
	}
	one.setSick(true)
	p.state("ivr1", "down")
	if b := p.seen("ivr1"); !strings.HasPrefix(b.Reason, "unexpected: ") {
		t.Errorf("ivr1: %q; want unexpected", b.Reason)
	}
}

func TestSessionsAreSeenKilledAndTraced(t *testing.T) {
	one := startServer(t, "ivr1")
	p := serve(t, file(unprobed, one.entry("")))
	held := hold(t, p.addr(0), "exec", one)
	var sessions []admin.Session
	p.api("GET", "/sessions", "", &sessions)
	if len(sessions) != 1 {
		t.Fatalf("%d sessions; want 1", len(sessions))
	}
	s := sessions[0]
	if s.ID != 1 || s.State != "relaying" || s.Pool != "ivr" || s.Backend != "ivr1" || s.Script != "exec" || s.Turn != "asterisk" || s.Command != "WAIT FOR DIGIT" || s.Commands != 2 {
		t.Errorf("session: %+v; want number 1 of exec on ivr1, in Asterisk's second command", s)
	}
	trace, err := control{p.App}.Trace(1)
	if err != nil {
		t.Fatal(err)
	}
	defer trace.Close()
	if status := p.api("DELETE", "/sessions/1", "", nil); status != 200 {
		t.Errorf("kill: %d; want 200", status)
	}
	held.wantFailure("KILLED")
	var lines []string
	for l := range trace.Lines() {
		lines = append(lines, l.From.String()+" "+l.Text)
	}
	if !slices.Contains(lines, "agiproxy SET VARIABLE AGIPROXYSTATUS KILLED") || !slices.Contains(lines, "agiproxy failure") {
		t.Errorf("traced %q; want what agiproxy said", lines)
	}
	p.wantOutcomes(map[string]uint64{"killed": 1})
	if status := p.api("DELETE", "/sessions/1", "", nil); status != 404 {
		t.Errorf("kill of one that has ended: %d; want 404", status)
	}
	var endings []admin.Ending
	p.api("GET", "/endings", "", &endings)
	if len(endings) != 1 || endings[0].Outcome != "killed" || endings[0].Reason != "ended by an operator" || endings[0].ID != 1 || endings[0].Number != 1 {
		t.Errorf("endings: %+v; want one that was killed", endings)
	}
}

func TestRemovedBackendIsShownWhileItHasCalls(t *testing.T) {
	one, two := startServer(t, "ivr1"), startServer(t, "ivr2")
	p := serve(t, file(unprobed+"balance: first", one.entry(""), two.entry("")))
	held := hold(t, p.addr(0), "hold", one)
	p.reload(file(unprobed, two.entry("")))
	b := p.seen("ivr1")
	if !b.Removed || b.State != "drained" || b.Reason != "removed from the configuration" || b.Sessions != 1 || b.OldestSession == nil {
		t.Errorf("removed: %+v; want it drained, with its session", b)
	}
	if status := p.api("POST", "/backends/ivr/ivr1/enable", "", nil); status != 404 {
		t.Errorf("enabled: %d; want 404", status)
	}
	one.release()
	held.wantServed("ivr1")
	eventually(t, "its end", func() bool { return p.api("GET", "/backends/ivr/ivr1", "", nil) == 404 })
}

func TestStatusAndReloadByAPI(t *testing.T) {
	one := startServer(t, "ivr1")
	p := serve(t, file(unprobed, one.entry("")), func(o *Options) { o.Version, o.File = "1.2.3", "agiproxy.yaml" })
	place(t, p.addr(0), "menu").wantServed("ivr1")
	var s admin.Status
	p.api("GET", "/status", "", &s)
	if s.Version != "1.2.3" || s.ConfigFile != "agiproxy.yaml" || !s.Ready || s.NotReady != "" || s.Draining || s.Loops < 1 || s.Engine == "" || !s.LastReload.OK || time.Since(s.Started) > time.Hour {
		t.Errorf("status: %+v", s)
	}
	if b := p.seen("ivr1"); b.FirstCommand == nil || b.FirstCommand.P99 <= 0 || b.Total != 1 {
		t.Errorf("ivr1: %+v; want one session, and how long its first command took", b)
	}
	p.write("nonsense")
	if status := p.api("POST", "/reload", "", nil); status != 422 {
		t.Errorf("reload of nonsense: %d; want 422", status)
	}
	p.api("GET", "/status", "", &s)
	if s.LastReload.OK || s.LastReload.Error == "" {
		t.Errorf("last reload: %+v; want its error", s.LastReload)
	}
	p.write(file(unprobed, one.entry(""), `{name: ivr2, address: "127.0.0.1:1"}`))
	var r admin.Reload
	if status := p.api("POST", "/reload", "", &r); status != 200 || !r.OK {
		t.Errorf("reload: %d, %+v; want 200", status, r)
	}
	p.seen("ivr2")

	p = serve(t, file(unprobed, one.entry("")), func(o *Options) { o.Reload = nil })
	if status := p.api("POST", "/reload", "", nil); status != 409 {
		t.Errorf("reload without a file: %d; want 409", status)
	}
}

func TestStatusTellsWhoWaits(t *testing.T) {
	one := startServer(t, "ivr1")
	p := serve(t, file(unprobed+"queue: {timeout: 20s, limit: 10}", one.entry(", max_sessions: 1")))
	held := hold(t, p.addr(0), "hold", one)
	waiting := place(t, p.addr(0), "menu")
	var s admin.Status
	eventually(t, "one of two sessions is queued", func() bool {
		p.api("GET", "/status", "", &s)
		return s.Queued == 1 && s.Sessions == 2
	})
	one.release()
	held.wantServed("ivr1")
	waiting.wantServed("ivr1")
	if p.api("GET", "/status", "", &s); s.Queued != 0 {
		t.Errorf("%d sessions are queued; want none", s.Queued)
	}
}

func TestEndingsAreTheLast(t *testing.T) {
	var e endings
	for i := range 250 {
		e.add(proxy.Record{ID: uint32(i + 1)})
	}
	all := e.after(0)
	if len(all) != 100 || all[0].number != 250 || all[99].number != 151 || all[99].ID != 151 {
		t.Errorf("%d endings, from %d to %d; want the last 100 of 250", len(all), all[0].number, all[len(all)-1].number)
	}
	if newer := e.after(248); len(newer) != 2 || newer[1].number != 249 {
		t.Errorf("after 248: %d; want 2", len(newer))
	}
	if none := e.after(250); len(none) != 0 {
		t.Errorf("after the last: %d; want none", len(none))
	}
	var young endings
	young.add(proxy.Record{ID: 1})
	if all := young.after(0); len(all) != 1 || all[0].ID != 1 {
		t.Errorf("of one: %+v", all)
	}
}

func TestWindowForgets(t *testing.T) {
	var w window
	count := func(commands uint64) proxy.Totals { return proxy.Totals{Commands: commands} }
	if got := w.since(count(5)).Commands; got != 5 {
		t.Errorf("at first: %d; want all 5", got)
	}
	for i := range uint64(20) {
		w.add(count(100 * (i + 1)))
		if got, want := w.since(count(2050)).Commands, uint64(2050); i < windowSteps-1 && got != want {
			t.Errorf("after %d steps: %d; want all %d", i+1, got, want)
		}
	}
	if got := w.since(count(2050)).Commands; got != 2050-1100 {
		t.Errorf("after twenty steps: %d; want what came after the eleventh, 950", got)
	}
}

// The words of the API's document are those that there are.
func TestEnumsAreWhole(t *testing.T) {
	var document struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct{ Enum []string }
			}
		}
	}
	p := serve(t, file(unprobed, `"127.0.0.1:1"`))
	if status := p.apiAny("/openapi.json", &document); status != 200 {
		t.Fatalf("openapi.json: %d", status)
	}
	var outcomes, states []string
	for o := proxy.Completed; int(o) < proxy.NumOutcomes; o++ {
		outcomes = append(outcomes, o.String())
	}
	for s := range balancer.State(balancer.NumStates) {
		states = append(states, s.String())
	}
	for _, test := range []struct {
		schema, field string
		want          []string
	}{
		{"Ending", "outcome", outcomes},
		{"Backend", "state", states},
		{"Line", "from", []string{proxy.Asterisk.String(), proxy.Backend.String(), proxy.Agiproxy.String()}},
	} {
		if got := document.Components.Schemas[test.schema].Properties[test.field].Enum; !slices.Equal(got, test.want) {
			t.Errorf("%s.%s is one of %q; want %q", test.schema, test.field, got, test.want)
		}
	}
}

func (p *program) apiAny(path string, v any) int {
	p.t.Helper()
	status, body := p.get("/api/v1" + path)
	if err := json.Unmarshal([]byte(body), v); err != nil {
		p.t.Fatal(err)
	}
	return status
}

func TestCheckReadsTheWebConfigFile(t *testing.T) {
	cfg, err := config.Parse("agiproxy.yaml", []byte("pools: {ivr: {backends: [10.0.0.1:1]}}\nadmin: {web_config_file: /no/such.yml}"))
	if err != nil {
		t.Fatal(err)
	}
	want := "admin: web_config_file /no/such.yml: open /no/such.yml: no such file or directory"
	if _, err := Check(cfg); fmt.Sprint(err) != want {
		t.Errorf("Check() = %v; want %s", err, want)
	}
	cfg.Listeners[0].Address = "127.0.0.1:0"
	if _, err := New(Options{Config: cfg}); fmt.Sprint(err) != want {
		t.Errorf("New() = %v; want %s", err, want)
	}
}

// While agiproxy drains, its admin port says so, and how many are left.
func TestDrainOfTheProcessIsSeen(t *testing.T) {
	one := startServer(t, "ivr1")
	p := serve(t, file(unprobed, one.entry("")))
	held := hold(t, p.addr(0), "hold", one)
	p.stop()
	var s admin.Status
	eventually(t, "the drain", func() bool { p.api("GET", "/status", "", &s); return s.Draining })
	if s.Ready || s.NotReady != "draining" || s.Sessions != 1 {
		t.Errorf("status: %+v; want it draining, with one session", s)
	}
	one.release()
	if r := held.result(); r.Status != agisim.Success {
		t.Errorf("the call: %+v; want success", r)
	}
}
