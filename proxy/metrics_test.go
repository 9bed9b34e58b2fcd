package proxy

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"agiproxy/agi"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// count has a player's agiproxy count into a registry. It is told after the
// backends.
func (p *player) count() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	before := p.server.Table()
	p.server = NewServer(Options{Ended: p.server.opts.Ended})
	pool := NewPool("ivr", p.opts, before.Pools[0].Backends())
	p.server.Swap(&Table{Pools: []*Pool{pool}, Routes: before.Routes})
	reg.MustRegister(p.server.Collector())
	p.listen(1024)
	return reg
}

// values returns the series of a registry that are counters, or histograms by
// their number, and not 0; the names are without "agiproxy_".
func values(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.Metric {
			key := []string{strings.TrimPrefix(f.GetName(), "agiproxy_")}
			for _, l := range m.Label {
				key = append(key, l.GetValue())
			}
			n := m.GetCounter().GetValue()
			if m.Histogram != nil {
				n = float64(m.Histogram.GetSampleCount())
			}
			if n != 0 {
				all[strings.Join(key, " ")] = n
			}
		}
	}
	return all
}

// served is the dialogue of a call that a backend serves with one command.
const served = `
	NAME expects header
	NAME NOOP
	asterisk expects NOOP
	asterisk 200 result=0
	NAME expects 200 result=0
	NAME closes
	asterisk expects close
	asterisk closes`

func servedBy(name string) string { return strings.ReplaceAll(served, "NAME", name) }

// told is the dialogue of a call that ends with a reason and failure.
func told(status string) string {
	return "\nasterisk expects SET VARIABLE AGIPROXYSTATUS " + status + "\nasterisk 200 result=1\nasterisk expects failure\nasterisk closes"
}

// lostCall is the dialogue of a call whose first backend is lost between commands.
const lostCall = `
	ivr1 expects header
	ivr1 NOOP
	asterisk expects NOOP
	asterisk 200 result=0
	ivr1 expects 200 result=0
	ivr1 resets`

// outcomes are calls for every way that a session can end and an attempt can go,
// as in testdata/*.dialogue, with what they count of sessions, attempts and
// rejected connections.
var outcomes = []struct {
	name, pool, dialogue string
	want                 map[string]float64
}{
	{"completed", "", "asterisk header" + servedBy("ivr1"), map[string]float64{
		"sessions_total completed ivr": 1, "attempts_total ivr1 ivr served": 1,
	}},
	{"completed without a command", "", "asterisk header\nivr1 expects header\nivr1 closes\nasterisk expects close\nasterisk closes", map[string]float64{
		"sessions_total completed ivr": 1, "attempts_total ivr1 ivr completed": 1,
	}},
	{"completed by the second", "", "ivr1 refuses\nasterisk header" + servedBy("ivr2"), map[string]float64{
		"sessions_total completed ivr": 1, "attempts_total ivr1 ivr refused": 1, "attempts_total ivr2 ivr served": 1,
	}},
	{"first silent to the connect", "", "ivr1 is silent\nasterisk header" + servedBy("ivr2"), map[string]float64{
		"sessions_total completed ivr": 1, "attempts_total ivr1 ivr timeout": 1, "attempts_total ivr2 ivr served": 1,
	}},
	{"first resets", "", "asterisk header\nivr1 expects header\nivr1 resets" + servedBy("ivr2"), map[string]float64{
		"sessions_total completed ivr": 1, "attempts_total ivr1 ivr reset": 1, "attempts_total ivr2 ivr served": 1,
	}},
	{"first closes", "replay unanswered", "asterisk header\nivr1 expects header\nivr1 closes" + servedBy("ivr2"), map[string]float64{
		"sessions_total completed ivr": 1, "attempts_total ivr1 ivr closed": 1, "attempts_total ivr2 ivr served": 1,
	}},
	{"first silent", "replay unanswered first_command_timeout 1s", "asterisk header\nivr1 expects header" + servedBy("ivr2"), map[string]float64{
		"sessions_total completed ivr": 1, "attempts_total ivr1 ivr silent": 1, "attempts_total ivr2 ivr served": 1,
	}},
	{"no backend", "", "ivr1 refuses\nivr2 refuses\nasterisk header" + told("NOBACKEND"), map[string]float64{
		"sessions_total no_backend ivr": 1, "attempts_total ivr1 ivr refused": 1, "attempts_total ivr2 ivr refused": 1,
	}},
	{"hangup in the dialogue", "", "asterisk header\nivr1 expects header\nivr1 NOOP\nasterisk expects NOOP\nasterisk 200 result=0\nasterisk HANGUP\n" +
		"ivr1 expects 200 result=0\nivr1 expects HANGUP\nivr1 closes\nasterisk expects close\nasterisk closes", map[string]float64{
		"sessions_total hangup ivr": 1, "attempts_total ivr1 ivr served": 1,
	}},
	{"hangup before a command", "", "asterisk header\nivr1 expects header\nasterisk HANGUP\nivr1 expects HANGUP\nivr1 closes\nasterisk expects close\nasterisk closes", map[string]float64{
		"sessions_total hangup ivr": 1, "attempts_total ivr1 ivr abandoned": 1,
	}},
	{"closed before a command", "", "asterisk header\nivr1 expects header\nasterisk closes\nivr1 expects close\nivr1 closes", map[string]float64{
		"sessions_total hangup ivr": 1, "attempts_total ivr1 ivr abandoned": 1,
	}},
	{"lost in the dialogue", "", "asterisk header\nivr1 expects header\nivr1 NOOP\nasterisk expects NOOP\nasterisk 200 result=0\n" +
		"ivr1 expects 200 result=0\nivr1 resets" + told("BACKENDLOST"), map[string]float64{
		"sessions_total lost ivr": 1, "attempts_total ivr1 ivr served": 1,
	}},
	{"lost before a command", "first_command_timeout 1s", "asterisk header\nivr1 expects header" + told("BACKENDLOST"), map[string]float64{
		"sessions_total lost ivr": 1, "attempts_total ivr1 ivr lost": 1,
	}},
	{"second connected first", "hedge_delay 250ms", "ivr1 is slow\nasterisk header" + servedBy("ivr2"), map[string]float64{
		"sessions_total completed ivr": 1, "attempts_total ivr1 ivr outrun": 1, "attempts_total ivr2 ivr served": 1,
	}},
	{"first connected after all", "hedge_delay 250ms", "ivr1 is slow\nivr2 is slow\nasterisk header\nwait 300ms\nivr1 answers" + servedBy("ivr1"), map[string]float64{
		"sessions_total completed ivr": 1, "attempts_total ivr1 ivr served": 1, "attempts_total ivr2 ivr outrun": 1,
	}},
	{"hedge refused", "hedge_delay 250ms", "ivr1 is slow\nivr2 refuses\nasterisk header\nwait 300ms\nivr1 answers" + servedBy("ivr1"), map[string]float64{
		"sessions_total completed ivr": 1, "attempts_total ivr1 ivr served": 1, "attempts_total ivr2 ivr refused": 1,
	}},
	{"first refused beside a hedge", "hedge_delay 250ms", "ivr1 is slow\nivr2 is slow\nasterisk header\nwait 300ms\nivr1 fails refused\nivr2 answers" + servedBy("ivr2"), map[string]float64{
		"sessions_total completed ivr": 1, "attempts_total ivr1 ivr refused": 1, "attempts_total ivr2 ivr served": 1,
	}},
	{"neither connected in time", "hedge_delay 250ms", "ivr1 is slow\nivr2 is slow\nasterisk header" + told("NOBACKEND"), map[string]float64{
		"sessions_total no_backend ivr": 1, "attempts_total ivr1 ivr timeout": 1, "attempts_total ivr2 ivr timeout": 1,
	}},
	{"hangup while both are connected to", "hedge_delay 250ms", "ivr1 is slow\nivr2 is slow\nasterisk header\nwait 300ms\nasterisk HANGUP\nasterisk expects close\nasterisk closes", map[string]float64{
		"sessions_total hangup ivr": 1, "attempts_total ivr1 ivr abandoned": 1, "attempts_total ivr2 ivr abandoned": 1,
	}},
	{"closed while both are connected to", "hedge_delay 250ms", "ivr1 is slow\nivr2 is slow\nasterisk header\nwait 300ms\nasterisk closes", map[string]float64{
		"sessions_total hangup ivr": 1, "attempts_total ivr1 ivr abandoned": 1, "attempts_total ivr2 ivr abandoned": 1,
	}},
	{"shutdown while both are connected to", "hedge_delay 250ms", "ivr1 is slow\nivr2 is slow\nasterisk header\nwait 300ms\nstop" + told("SHUTDOWN"), map[string]float64{
		"sessions_total shutdown ivr": 1, "attempts_total ivr1 ivr abandoned": 1, "attempts_total ivr2 ivr abandoned": 1,
	}},
	{"hedge declared down", "hedge_delay 250ms", "ivr1 is slow\nivr2 is slow\nasterisk header\nwait 300ms\ndown ivr2\nivr1 answers" + servedBy("ivr1"), map[string]float64{
		"sessions_total completed ivr": 1, "attempts_total ivr1 ivr served": 1, "attempts_total ivr2 ivr lost": 1,
	}},
	{"unreachable", "", "ivr1 is slow\nasterisk header\nwait 10ms\nivr1 fails unreachable" + servedBy("ivr2"), map[string]float64{
		"sessions_total completed ivr": 1, "attempts_total ivr1 ivr unreachable": 1, "attempts_total ivr2 ivr served": 1,
	}},
	{"failed in a way that has no name", "", "ivr1 is slow\nasterisk header\nwait 10ms\nivr1 fails oddly" + servedBy("ivr2"), map[string]float64{
		"sessions_total completed ivr": 1, "attempts_total ivr1 ivr error": 1, "attempts_total ivr2 ivr served": 1,
	}},
	{"no means", "", "ivr1 is slow\nasterisk header\nwait 10ms\nivr1 fails local" + told("NOBACKEND"), map[string]float64{
		"sessions_total no_backend ivr": 1, "attempts_total ivr1 ivr local": 1,
	}},
	{"resumed", "on_backend_loss resume", "asterisk header" + lostCall + servedBy("ivr2"), map[string]float64{
		"sessions_total completed ivr": 1, "attempts_total ivr1 ivr served": 1, "attempts_total ivr2 ivr served": 1,
	}},
	{"hangup before it was resumed", "on_backend_loss resume", "asterisk header\nivr1 expects header\nivr1 EXEC Wait 1\nasterisk expects EXEC Wait 1\nivr1 resets\n" +
		"asterisk expects GET FULL VARIABLE agiproxy-*\nasterisk HANGUP\nasterisk expects close\nasterisk closes", map[string]float64{
		"sessions_total hangup ivr": 1, "attempts_total ivr1 ivr served": 1,
	}},
	{"declared down while connecting", "", "ivr1 is silent\nasterisk header\nwait 100ms\ndown ivr1" + servedBy("ivr2"), map[string]float64{
		"sessions_total completed ivr": 1, "attempts_total ivr1 ivr lost": 1, "attempts_total ivr2 ivr served": 1,
	}},
	{"no route", "", "asterisk header script: other" + told("NOROUTE"), map[string]float64{
		"sessions_total no_route ": 1,
	}},
	{"malformed", "", "asterisk connects\nasterisk GET / HTTP/1.1\nasterisk expects failure\nasterisk closes", map[string]float64{
		"sessions_total bad_header ": 1, "rejected_connections_total :4577 malformed": 1,
	}},
	{"too large", "", "asterisk connects\nasterisk agi_network: yes\nasterisk bytes 1100\nasterisk expects failure\nasterisk closes", map[string]float64{
		"sessions_total bad_header ": 1, "rejected_connections_total :4577 too_large": 1,
	}},
	{"too much behind the header", "", "ivr1 is silent\nasterisk header\nwait 100ms\nasterisk bytes 70000\nasterisk expects failure\nasterisk closes", map[string]float64{
		"sessions_total bad_header ivr": 1, "rejected_connections_total :4577 too_large": 1, "attempts_total ivr1 ivr abandoned": 1,
	}},
	{"cut", "", "asterisk connects\nasterisk agi_network: yes\nasterisk closes", map[string]float64{
		"sessions_total bad_header ": 1, "rejected_connections_total :4577 cut": 1,
	}},
	{"late", "", "asterisk connects\nasterisk agi_network: yes\nasterisk expects failure\nasterisk closes", map[string]float64{
		"sessions_total timeout ": 1, "rejected_connections_total :4577 late": 1,
	}},
	{"shutdown", "", "asterisk header\nivr1 expects header\nivr1 NOOP\nasterisk expects NOOP\nasterisk 200 result=0\nivr1 expects 200 result=0\nstop" + told("SHUTDOWN"), map[string]float64{
		"sessions_total shutdown ivr": 1, "attempts_total ivr1 ivr served": 1,
	}},
	{"shutdown before a command", "", "asterisk header\nivr1 expects header\nstop" + told("SHUTDOWN"), map[string]float64{
		"sessions_total shutdown ivr": 1, "attempts_total ivr1 ivr abandoned": 1,
	}},
}

func TestEveryOutcomeIsCounted(t *testing.T) {
	for _, c := range outcomes {
		t.Run(c.name, func(t *testing.T) {
			p := newPlayer(t)
			if c.pool != "" {
				p.step("pool", c.pool)
			}
			p.step("backends", "ivr1 ivr2")
			reg := p.count()
			p.run(c.dialogue)
			p.until("the record", func() bool { return p.record != nil })
			got := values(t, reg)
			var ended float64
			for name, n := range got {
				if strings.HasPrefix(name, "session_duration_seconds ") {
					ended += n
				}
			}
			if ended != 1 {
				t.Errorf("%v sessions in the histogram of durations; want 1", ended)
			}
			maps.DeleteFunc(got, func(name string, _ float64) bool {
				return !strings.HasPrefix(name, "sessions_total ") && !strings.HasPrefix(name, "attempts_total ") && !strings.HasPrefix(name, "rejected_")
			})
			if !maps.Equal(got, c.want) {
				t.Errorf("counted %v; want %v", got, c.want)
			}
			p.finish()
		})
	}
}

// TestMetricsPageHasTheValues compares the tables of docs/metrics.md with what
// the calls above count: no value is missing there, and none is made up.
func TestMetricsPageHasTheValues(t *testing.T) {
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	// What no simulated call brings about.
	counted := map[string][]string{
		"Outcomes":                        {Rejected.String(), Killed.String()},
		"Results of attempts":             {attemptHandshake.String()},
		"Reasons of rejected connections": {"not_allowed", "max_sessions", "source_max_sessions", "rate", "token", "proxy_protocol", "descriptors", "tls", "tls_handshakes"},
	}
	for _, c := range outcomes {
		for series := range c.want {
			f := strings.Split(series, " ")
			switch f[0] {
			case "sessions_total":
				counted["Outcomes"] = append(counted["Outcomes"], f[1])
			case "attempts_total":
				counted["Results of attempts"] = append(counted["Results of attempts"], f[3])
			case "rejected_connections_total":
				counted["Reasons of rejected connections"] = append(counted["Reasons of rejected connections"], f[2])
			}
		}
	}
	value := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|")
	for heading, want := range counted {
		_, section, ok := strings.Cut(string(page), "\n### "+heading+"\n")
		if !ok {
			t.Errorf("docs/metrics.md has no section %q", heading)
			continue
		}
		section, _, _ = strings.Cut(section, "\n#")
		var got []string
		for _, m := range value.FindAllStringSubmatch(section, -1) {
			got = append(got, m[1])
		}
		slices.Sort(got)
		slices.Sort(want)
		if want = slices.Compact(want); !slices.Equal(got, want) {
			t.Errorf("docs/metrics.md, %s: %q; want %q", heading, got, want)
		}
	}
}

// What passes is measured: bytes, commands, both sides' turns.
func TestDialogueIsMeasured(t *testing.T) {
	p := newPlayer(t)
	p.step("backends", "ivr1")
	reg := p.count()
	p.run(`
		asterisk header
		ivr1 expects header
		wait 200ms
		ivr1 stream file welcome ""
		asterisk expects stream file welcome ""
		wait 3s
		asterisk 200 result=0 endpos=1
		ivr1 expects 200 result=0 endpos=1
		wait 1s
		ivr1 FROBNICATE
		asterisk expects FROBNICATE
		asterisk 510 Invalid or unknown command
		ivr1 expects 510 Invalid or unknown command
		ivr1 closes
		asterisk expects close
		asterisk closes
		outcome completed`)
	got := values(t, reg)
	header := len(p.parts["ivr1"].header.Bytes())
	for name, want := range map[string]float64{
		"commands_total STREAM FILE ivr":           1,
		"commands_total other ivr":                 1,
		"command_duration_seconds STREAM FILE ivr": 1,
		"command_duration_seconds other ivr":       1,
		"think_duration_seconds ivr1 ivr":          2,
		"dispatch_duration_seconds ivr":            1,
		"session_duration_seconds ivr":             1,
		"relay_bytes_total to_asterisk":            float64(len("stream file welcome \"\"\nFROBNICATE\n")),
		"relay_bytes_total to_backend":             float64(header + len("200 result=0 endpos=1\n510 Invalid or unknown command\n")),
	} {
		if got[name] != want {
			t.Errorf("%s = %v; want %v", name, got[name], want)
		}
	}
	for name, want := range map[string]time.Duration{
		"agiproxy_think_duration_seconds ivr1 ivr":          1200 * time.Millisecond,
		"agiproxy_command_duration_seconds STREAM FILE ivr": 3 * time.Second,
		"agiproxy_dispatch_duration_seconds ivr":            200 * time.Millisecond,
		"agiproxy_session_duration_seconds ivr":             4200 * time.Millisecond,
	} {
		if sum := sumOf(t, reg, name); sum < want || sum > want+100*time.Millisecond {
			t.Errorf("%s: %v; want %v and a few round trips", name, sum, want)
		}
	}
	p.finish()
}

// sumOf returns the sum of a histogram, named as by values.
func sumOf(t *testing.T, reg *prometheus.Registry, name string) time.Duration {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			key := []string{f.GetName()}
			for _, l := range m.Label {
				key = append(key, l.GetValue())
			}
			if strings.Join(key, " ") == name {
				return time.Duration(m.Histogram.GetSampleSum() * float64(time.Second))
			}
		}
	}
	t.Fatalf("no series %s", name)
	return 0
}

func TestStateIsCollected(t *testing.T) {
	s := newStage(Options{}, limits())
	reg := prometheus.NewRegistry()
	reg.MustRegister(s.server.Collector())
	b := s.server.Table().Pools[0].Backends().Backends()[0]
	states := []string{"agiproxy_backend_up", "agiproxy_backend_state", "agiproxy_sessions_active"}
	check := func(what string, up, sessions int, state string) {
		t.Helper()
		want := strings.NewReplacer("UP", string('0'+rune(up)), "SESSIONS", string('0'+rune(sessions))).Replace(`
# HELP agiproxy_backend_up Whether the backend takes new sessions: 1 if it is up or busy.
# TYPE agiproxy_backend_up gauge
agiproxy_backend_up{backend="ivr1",pool="ivr"} UP
# HELP agiproxy_sessions_active Sessions under way, attempts included.
# TYPE agiproxy_sessions_active gauge
agiproxy_sessions_active{backend="ivr1",pool="ivr"} SESSIONS
# HELP agiproxy_backend_state 1 for the state that the backend is in.
# TYPE agiproxy_backend_state gauge
`)
		for _, st := range []string{"up", "busy", "down", "ejected", "drained"} {
			n := "0"
			if st == state {
				n = "1"
			}
			want += `agiproxy_backend_state{backend="ivr1",pool="ivr",state="` + st + `"} ` + n + "\n"
		}
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), states...); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("at rest", 1, 0, "up")
	s.establish(plainHeader)
	check("with a session", 1, 1, "up")
	b.SetBusy(true)
	check("busy", 1, 1, "busy")
	b.SetUp(false)
	check("down", 0, 1, "down")
	b.Drain(true)
	check("drained", 0, 1, "drained")
	s.finish()

	// A backend that a table lacks is gone, but for its sessions.
	b.Drain(false)
	b.SetUp(true)
	s.establish(plainHeader)
	s.server.Swap(&Table{})
	if n, err := testutil.GatherAndCount(reg, states...); err != nil || n != 1 {
		t.Errorf("%d series of a removed backend with a session (%v); want 1", n, err)
	}
	s.finish()
	if n, err := testutil.GatherAndCount(reg, states...); err != nil || n != 0 {
		t.Errorf("%d series of a removed backend (%v); want none", n, err)
	}
}

// Whatever callers and scripts say, it makes no series of its own.
func TestPeersMakeNoSeries(t *testing.T) {
	series := func(peers int) int {
		name := func(i int) string { return fmt.Sprintf("menu%d", i%peers) }
		s := ruled(Options{}, CommandRules{Deny: []string{"EXEC System"}, Strict: true})
		for i := range 200 {
			h := agi.Environment{Script: name(i), UniqueID: name(i), CallerID: name(i), Channel: name(i)}
			s.accept(asteriskAddr)
			s.handler.Received(h.AppendTo(nil))
			s.host.back.handler.Connected()
			for _, line := range []string{"NOOP " + name(i), "EXEC " + name(i), "EXEC System " + name(i), name(i)} {
				s.exchange([]byte(line+"\n"), okReply)
			}
			s.finish()
			s.accept(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i % peers)}), 1)) // refused by its header
			s.handler.Received([]byte(name(i) + "\n"))
			s.handler.Closed(nil)
		}
		reg := prometheus.NewRegistry()
		reg.MustRegister(s.server.Collector())
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, f := range families {
			n += len(f.Metric)
		}
		return n
	}
	one := series(1)
	if got := series(200); got != one {
		t.Errorf("200 peers, with names of their own, make %d series; want %d, as one does", got, one)
	}
}

func TestMetricsLint(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := newStage(Options{}, limits())
	reg.MustRegister(s.server.Collector())
	s.establish(plainHeader)
	s.finish()
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}
