package app

import (
	"errors"
	"strings"
	"testing"
	"time"

	"agiproxy/config"
)

func TestReloadOfABadFileChangesNothing(t *testing.T) {
	s := startServer(t, "ivr1")
	good := file(quick, s.entry(""))
	p := serve(t, good)
	p.wantSeries(1, "agiproxy_config_last_reload_successful")
	read, _ := p.series("agiproxy_config_last_reload_success_timestamp_seconds")
	if age := float64(time.Now().Unix()) - read; age < -2 || age > 60 {
		t.Errorf("the first file was read %v s ago, it is said", age)
	}
	held := hold(t, p.addr(0), "hold", s)
	before := p.backend("ivr1")

	p.write(strings.Replace(good, "backends", "backend", 1))
	err := p.Reload()
	if _, ok := errors.AsType[config.Faults](err); !ok || !strings.Contains(err.Error(), "agiproxy.yaml:") {
		t.Fatalf("Reload() of a bad file = %v; want the file's faults", err)
	}
	p.log.want("configuration not reloaded")
	p.log.want("unknown key")
	p.wantSeries(0, "agiproxy_config_last_reload_successful")
	p.wantSeries(read, "agiproxy_config_last_reload_success_timestamp_seconds")
	if after := p.backend("ivr1"); after != before {
		t.Errorf("backend after a bad reload: %+v; want that of before, %+v", after, before)
	}
	place(t, p.addr(0), "menu").wantServed("ivr1")

	p.reload(good)
	p.wantSeries(1, "agiproxy_config_last_reload_successful")
	if again, _ := p.series("agiproxy_config_last_reload_success_timestamp_seconds"); again <= read {
		t.Errorf("time of the last good reload: %v; want later than %v", again, read)
	}
	s.release()
	held.wantServed("ivr1")
}

func TestReloadWithoutAFile(t *testing.T) {
	p := serve(t, file(unprobed, "127.0.0.1:1"), func(o *Options) { o.Reload = nil })
	if err := p.Reload(); !errors.Is(err, ErrNoFile) {
		t.Errorf("Reload() without a file = %v; want %v", err, ErrNoFile)
	}
}

func TestReloadKeepsABackend(t *testing.T) {
	s := startServer(t, "ivr1")
	p := serve(t, file(quick, s.entry(""), `{name: dead, address: "127.0.0.1:1"}`))
	p.state("dead", "down")
	held := hold(t, p.addr(0), "hold", s)
	kept, dead := p.backend("ivr1").Backend, p.backend("dead").Backend
	total := kept.Total()

	p.reload(file(quick+"balance: round-robin\nattempts: 2", `{name: dead, address: "127.0.0.1:1"}`, s.entry(", weight: 7")))
	if now := p.backend("ivr1").Backend; now != kept {
		t.Error("ivr1 is another backend after the reload; want the same")
	}
	if now := p.backend("dead").Backend; now != dead || now.Healthy() {
		t.Errorf("dead: the same %v, up %v; want the same, with its verdict", now == dead, now.Healthy())
	}
	p.wantSeries(1, "agiproxy_sessions_active", "ivr1", "ivr")
	if got := kept.Total(); got != total {
		t.Errorf("ivr1 was picked %d times; want %d, as before", got, total)
	}
	place(t, p.addr(0), "menu").wantServed("ivr1")
	s.release()
	held.wantServed("ivr1")
	p.wantOutcomes(map[string]uint64{"completed": 2})
	p.wantSeries(0, "agiproxy_sessions_active", "ivr1", "ivr")
	p.wantSeries(2, "agiproxy_attempts_total", "ivr1", "ivr", "served")
}

func TestReloadReplacesABackend(t *testing.T) {
	one, two := startServer(t, "ivr1"), startServer(t, "ivr1")
	p := serve(t, file(quick, one.entry("")))
	before := p.backend("ivr1").Backend
	held := hold(t, p.addr(0), "hold", one)
	p.reload(file(quick, two.entry("")))
	if p.backend("ivr1").Backend == before {
		t.Error("ivr1 with another address is the same backend")
	}
	moved := place(t, p.addr(0), "menu")
	moved.wantServed("ivr1")
	if n := two.read(&two.begun); n != 1 {
		t.Errorf("%d calls on the new address; want 1", n)
	}
	one.release()
	held.wantServed("ivr1")
	if _, ok := p.series("agiproxy_probe_duration_seconds", "ivr1", "ivr"); !ok {
		t.Error("the series of ivr1's probes are gone; want them to go on")
	}
	p.reload(strings.Replace(file(quick, two.entry("")), "  ivr:", "  menu:", 1))
	place(t, p.addr(0), "menu").wantServed("ivr1")
	if _, ok := p.series("agiproxy_probe_duration_seconds", "ivr1", "ivr"); ok {
		t.Error("the series of ivr1's probes in pool ivr are still there; the pool isn't")
	}
}

func TestReloadAppliesLimitsToKeptBackends(t *testing.T) {
	one, two := startServer(t, "ivr1"), startServer(t, "ivr2")
	p := serve(t, file(unprobed+"balance: round-robin", one.entry(", max_sessions: 1")))
	held := hold(t, p.addr(0), "hold", one)
	place(t, p.addr(0), "menu").wantFailure("NOBACKEND")

	p.reload(file(unprobed+"balance: round-robin", one.entry(", max_sessions: 2")))
	place(t, p.addr(0), "menu").wantServed("ivr1")

	p.reload(file(unprobed+"balance: round-robin", one.entry(", weight: 3"), two.entry("")))
	begun := one.read(&one.begun)
	for range 8 {
		place(t, p.addr(0), "menu").wantServed("")
	}
	if n := one.read(&one.begun) - begun; n != 6 {
		t.Errorf("%d of 8 calls on ivr1 of weight 3 of 4; want 6", n)
	}
	p.reload(file(unprobed, one.entry(", backup: true"), two.entry("")))
	for range 4 {
		place(t, p.addr(0), "menu").wantServed("ivr2")
	}
	one.release()
	held.wantServed("ivr1")
}

func TestReloadDrainsARemovedBackend(t *testing.T) {
	one, two := startServer(t, "ivr1"), startServer(t, "ivr2")
	p := serve(t, file(quick+"balance: round-robin", one.entry("")))
	held := hold(t, p.addr(0), "hold", one)
	begun := one.read(&one.begun)
	p.reload(file(quick+"balance: round-robin", two.entry("")))
	p.log.want("removed backend drains")

	for range 10 {
		place(t, p.addr(0), "menu").wantServed("ivr2")
	}
	if n := one.read(&one.begun) - begun; n != 0 {
		t.Errorf("%d calls on a removed backend", n)
	}
	p.wantSeries(1, "agiproxy_sessions_active", "ivr1", "ivr") // the drain can be watched
	for _, name := range []string{"agiproxy_backend_up", "agiproxy_probe_duration_seconds"} {
		if v, ok := p.series(name, "ivr1", "ivr"); ok {
			t.Errorf("%s of the removed backend is still there: %v", name, v)
		}
	}
	if v, ok := p.series("agiproxy_probe_failures_total", "ivr1", "ivr", "refused"); ok {
		t.Errorf("probe failures of the removed backend are still there: %v", v)
	}
	// One may have been under way at the reload, which its server counts when it has read it.
	const interval = 50 * time.Millisecond
	time.Sleep(4 * interval)
	probes := one.read(&one.probes)
	time.Sleep(4 * interval)
	if n := one.read(&one.probes); n != probes {
		t.Errorf("%d probes of a removed backend; want none", n-probes)
	}
	if !held.running() {
		t.Error("the call on the removed backend has ended; want it to go on")
	}
	one.release()
	held.wantServed("ivr1")
	p.wantOutcomes(map[string]uint64{"completed": 11})
	if v, ok := p.series("agiproxy_sessions_active", "ivr1", "ivr"); ok {
		t.Errorf("agiproxy_sessions_active of the removed backend after its last session: %v; want no series", v)
	}
}

func TestReloadChangesHealthChecks(t *testing.T) {
	s := startServer(t, "ivr1")
	s.setSick(true)
	p := serve(t, file(quick, s.entry("")))
	p.state("ivr1", "down")
	p.reload(file(unprobed, s.entry(""))) // nobody can say that it is down
	p.state("ivr1", "up")
	if _, ok := p.series("agiproxy_probe_duration_seconds", "ivr1", "ivr"); ok {
		t.Error("probes have series though there are none any more")
	}
	place(t, p.addr(0), "menu").wantServed("ivr1")
	probes := s.read(&s.probes)
	p.reload(file(strings.Replace(quick, "fall: 2", "fall: 50", 1), s.entry("")))
	p.state("ivr1", "down")
	if n := s.read(&s.probes) - probes; n > 5 {
		t.Errorf("down after %d probes; want the first to decide, since nothing was known", n)
	}
	p.reload(file(strings.Replace(quick, "{", "{probe: tcp, ", 1), s.entry("")))
	p.state("ivr1", "up")
}

func TestReloadTellsWhatNeedsARestart(t *testing.T) {
	p := serve(t, file(unprobed, "127.0.0.1:1"))
	other := strings.Replace(file(unprobed, "127.0.0.1:1"), "admin: {address: \"127.0.0.1:0\"}", "admin: {address: \"\"}\nloops: 3\nlog: {level: warn, format: json}", 1)
	for n := 1; n <= 2; n++ {
		p.reload(other)
		for _, key := range []string{"admin.address", "loops", "log.format"} {
			if got := p.log.count("key=" + key); got != n {
				t.Errorf("after %d reloads: %d warnings of %s; want as many: it isn't in force", n, got, key)
			}
		}
	}
	if got := p.log.count("configuration reloaded"); got != 0 {
		t.Errorf("%d records at info; want none: log.level is warn now", got)
	}
	p.reload(file(unprobed, "127.0.0.1:1"))
	if got := p.log.count("key="); got != 6 {
		t.Errorf("%d warnings; want no more than 6: the file is what is in force again", got)
	}
}

func TestReloadTurnsProfilingOnAndOff(t *testing.T) {
	off := file(unprobed, "127.0.0.1:1")
	on := strings.Replace(off, "admin: {", "admin: {profiling: true, ", 1)
	p := serve(t, off)
	for _, c := range []struct {
		file string
		want int
	}{{off, 404}, {on, 200}, {off, 404}} {
		p.reload(c.file)
		if status, _ := p.get("/debug/pprof/"); status != c.want {
			t.Errorf("/debug/pprof/: %d; want %d with\n%s", status, c.want, c.file)
		}
	}
	if got := p.log.count("key="); got != 0 {
		t.Errorf("%d warnings that a change needs a restart; want none", got)
	}
}
