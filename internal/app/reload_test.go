package app

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
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

// A backend with the same pool, name and address is the same after a reload.
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

// The same name in another pool, or with another address, is another server.
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

	probes := one.read(&one.probes)
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
	time.Sleep(200 * time.Millisecond) // four intervals
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

func TestReloadChangesListeners(t *testing.T) {
	s := startServer(t, "ivr1")
	// Addresses of their own, since port 0 wouldn't tell them apart.
	stays, goes, comes := freeAddress(t), freeAddress(t), freeAddress(t)
	p := serve(t, fileOn(stays+" "+goes, unprobed, s.entry("")))
	onStays, onGoes := hold(t, stays, "hold", s), hold(t, goes, "hold", s)
	if c, err := net.Dial("tcp", comes); err == nil {
		c.Close()
		t.Fatalf("somebody listens on %s before the reload", comes)
	}

	p.reload(fileOn(comes+" "+stays, unprobed, s.entry("")))
	place(t, stays, "menu").wantServed("ivr1")
	place(t, comes, "menu").wantServed("ivr1")
	if c, err := net.Dial("tcp", goes); err == nil {
		c.Close()
		t.Errorf("connected to %s after it was removed", goes)
	}
	if !onStays.running() || !onGoes.running() {
		t.Errorf("calls of before are running: %v on the listener that stays, %v on the removed one; want both", onStays.running(), onGoes.running())
	}
	p.reload(fileOn(goes, unprobed, s.entry(""))) // and back again
	place(t, goes, "menu").wantServed("ivr1")
	s.release()
	onStays.wantServed("ivr1")
	onGoes.wantServed("ivr1")
	p.wantOutcomes(map[string]uint64{"completed": 5})
}

// freeAddress returns an address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func TestReloadAppliesAListenersLimits(t *testing.T) {
	s := startServer(t, "ivr1")
	p := serve(t, file(unprobed, s.entry("")))
	limited := strings.Replace(file(unprobed, s.entry("")), `"127.0.0.1:0"`, "\"127.0.0.1:0\"\n    max_sessions: 1", 1)
	address := p.addr(0)
	held := hold(t, address, "hold", s)
	p.reload(limited)
	if got := p.addr(0); got != address {
		t.Fatalf("listener has moved from %s to %s", address, got)
	}
	place(t, address, "menu").wantFailure("")
	s.release()
	held.wantServed("ivr1")
	p.wantOutcomes(map[string]uint64{"completed": 1, "rejected": 1})
}

// Two listeners may leave their ports to the system, and stay two.
func TestReloadKeepsListenersOfEqualAddress(t *testing.T) {
	s := startServer(t, "ivr1")
	both := fileOn(`"127.0.0.1:0" "127.0.0.1:0"`, unprobed, s.entry(""))
	p := serve(t, both)
	one, two := p.addr(0), p.addr(1)
	p.reload(both)
	place(t, one, "menu").wantServed("ivr1")
	place(t, two, "menu").wantServed("ivr1")
}

// If one new listener can't be had, nothing of the reload comes into force.
func TestReloadIsAllOrNothing(t *testing.T) {
	s := startServer(t, "ivr1")
	p := serve(t, file(unprobed, s.entry("")))
	held := hold(t, p.addr(0), "hold", s)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, other := freeAddress(t), startServer(t, "ivr2")
	before := holdings()

	p.write(strings.Replace(fileOn(free+" "+taken.Addr().String(), quick, other.entry("")), "  ivr:", "  new:", 1))
	if err := p.Reload(); err == nil || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("Reload() = %v; want an error that names %s", err, taken.Addr())
	}
	p.wantSeries(0, "agiproxy_config_last_reload_successful")
	if left := before.left(); left != "" {
		t.Errorf("left by a reload that failed: %s", left)
	}
	place(t, p.addr(0), "menu").wantServed("ivr1")
	if c, err := net.Dial("tcp", free); err == nil {
		c.Close()
		t.Errorf("listening on %s after a reload that failed", free)
	}
	families, err := p.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if l.GetName() == "pool" && l.GetValue() == "new" {
					t.Errorf("%s has series of a pool that never was", f.GetName())
				}
			}
		}
	}
	s.release()
	held.wantServed("ivr1")
}

// Reloads in quick succession don't keep a backend from its verdict: a streak of
// failures goes on.
func TestReloadsDoNotDisturbProbes(t *testing.T) {
	s := startServer(t, "ivr1")
	settings := "health: {interval: 100ms, fast_interval: 100ms, timeout: 90ms, fall: 6}\n"
	p := serve(t, file(settings, s.entry("")))
	eventually(t, "a probe", func() bool { return s.read(&s.probes) > 0 })
	s.setSick(true)
	began, probes := time.Now(), s.read(&s.probes)
	for i := 0; p.backend("ivr1").Healthy(); i++ {
		if time.Since(began) > patience {
			t.Fatal("a backend whose probes fail has stayed up through the reloads")
		}
		p.reload(file(settings, s.entry(fmt.Sprintf(", weight: %d", 1+i%2))))
		time.Sleep(10 * time.Millisecond)
	}
	if n, most := s.read(&s.probes)-probes, int(time.Since(began)/(90*time.Millisecond))+2; n > most {
		t.Errorf("%d probes in %v; want one in 100ms", n, time.Since(began))
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

func TestReloadBeforeRun(t *testing.T) {
	one, two := startServer(t, "ivr1"), startServer(t, "ivr2")
	goes, comes := freeAddress(t), freeAddress(t)
	p := prepare(t, fileOn(goes, quick, one.entry("")))
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.reload(fileOn(comes, quick, two.entry("")))
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("Reload before Run hangs")
	}
	p.run()
	place(t, comes, "menu").wantServed("ivr2")
	if c, err := net.Dial("tcp", goes); err == nil {
		c.Close()
		t.Errorf("connected to %s, which was removed before Run", goes)
	}
	eventually(t, "a probe of ivr2", func() bool { return two.read(&two.probes) > 0 })
	if n := one.read(&one.probes); n > 0 {
		t.Errorf("%d probes of a backend that was removed before Run", n)
	}
}

func TestReloadAfterStop(t *testing.T) {
	comes := freeAddress(t)
	p := serve(t, file(unprobed, "127.0.0.1:1"))
	p.stop()
	p.ended()
	p.write(fileOn(comes, unprobed, "127.0.0.1:1"))
	if err := p.Reload(); !errors.Is(err, errStopping) {
		t.Errorf("Reload() after the end = %v; want %v", err, errStopping)
	}
	if c, err := net.Dial("tcp", comes); err == nil {
		c.Close()
		t.Error("listening after the end")
	}
}

// A reload that is slow doesn't hold up a stop, and finds out.
func TestStopDuringAReload(t *testing.T) {
	reading, read := make(chan struct{}), make(chan struct{})
	p := serve(t, file(unprobed, "127.0.0.1:1"), func(o *Options) {
		inner := o.Reload
		o.Reload = func() (*config.Config, error) {
			close(reading)
			<-read
			return inner()
		}
	})
	comes := freeAddress(t)
	p.write(fileOn(comes, unprobed, "127.0.0.1:1"))
	done := make(chan error, 1)
	go func() { done <- p.Reload() }()
	<-reading
	p.stop()
	p.ended()
	close(read)
	if err := <-done; !errors.Is(err, errStopping) {
		t.Errorf("Reload() through the end = %v; want %v", err, errStopping)
	}
}

// What was read last is in force in the end, whoever was slow.
func TestReloadsTakeTurns(t *testing.T) {
	var calls atomic.Int32
	first := make(chan struct{})
	p := serve(t, file(unprobed, "{name: ivr0, address: 127.0.0.1:1}"), func(o *Options) {
		inner := o.Reload
		o.Reload = func() (*config.Config, error) {
			cfg, err := inner()
			if calls.Add(1) == 1 {
				close(first)
				time.Sleep(100 * time.Millisecond)
			}
			return cfg, err
		}
	})
	var wg sync.WaitGroup
	p.write(file(unprobed, "{name: ivr1, address: 127.0.0.1:1}"))
	wg.Go(func() { p.Reload() })
	<-first
	p.write(file(unprobed, "{name: ivr2, address: 127.0.0.1:1}"))
	wg.Go(func() { p.Reload() })
	wg.Wait()
	if p.backend("ivr2") == nil {
		t.Error("the file that was read last isn't in force")
	}
}

// Reloads of all kinds while calls run and come: none is cut, none is refused.
func TestReloadsUnderCalls(t *testing.T) {
	one, two, three := startServer(t, "ivr1"), startServer(t, "ivr2"), startServer(t, "ivr3")
	stays, sometimes := freeAddress(t), freeAddress(t)
	files := []string{
		fileOn(stays, quick, one.entry(""), two.entry("")),
		fileOn(stays+" "+sometimes, quick+"balance: round-robin", two.entry(", weight: 3"), three.entry("")),
		fileOn(sometimes+" "+stays, unprobed, three.entry(""), one.entry(", max_sessions: 100")),
		"pools: {}", // a bad one
	}
	p := serve(t, files[0])
	var held []*caller
	for range 10 {
		held = append(held, hold(t, stays, "hold", one, two, three))
	}
	var callers, reloads sync.WaitGroup
	over := make(chan struct{})
	for i := range 3 {
		reloads.Go(func() {
			for n := i; ; n++ {
				select {
				case <-over:
					return
				default:
				}
				p.write(files[n%len(files)])
				p.Reload() // may fail: a bad file, or one that another goroutine wrote
				p.get("/metrics")
				p.Status()
			}
		})
	}
	for range 4 {
		callers.Go(func() {
			for range 50 {
				place(t, stays, "menu").wantServed("")
			}
		})
	}
	callers.Wait()
	close(over)
	reloads.Wait()
	for _, s := range []*server{one, two, three} {
		s.release()
	}
	for _, c := range held {
		c.wantServed("")
	}
	p.wantOutcomes(map[string]uint64{"completed": 210})
	if n := p.log.count("configuration reloaded"); n < 10 {
		t.Errorf("%d reloads went well; want at least 10, or this test is none", n)
	}
}
