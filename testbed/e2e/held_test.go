package e2e

import (
	"testing"
	"time"
)

// A backend that accepts and closes has the fewest connections of all, and attracts
// every call of a balancer that counts them. None may be lost.
func TestHeldCallsBesideABackendThatAcceptsAndCloses(t *testing.T) {
	s := begin(t)
	for _, balance := range []string{"round-robin", "least-connections"} {
		for _, probe := range []string{"none", "tcp", "agi"} {
			t.Run(balance+", probe "+probe, func(t *testing.T) {
				good, bad := s.fault(t, "good", ""), s.fault(t, "bad", "fault=accept-close")
				p := s.proxy(t, s.pool("balance: "+balance+"\nhealth: {probe: "+probe+"}", good, bad))
				calls := s.place(t, 20, s.script("ivr", hold))
				eventually(t, 10*time.Second, "the good backend has begun to serve all 20 calls", func() bool { return good.begun() == 20 })
				time.Sleep(time.Second)
				if n := underWay(calls); n != 20 {
					t.Errorf("%d of 20 calls are held; want all", n)
				}
				release(t, calls...)
				results := wait(t, 10*time.Second, calls...)
				mustBeServed(t, results)
				mustNotRepeatFaults(t, good, bad)
				if n := bad.Stats().Accepted; probe == "none" && n == 0 {
					t.Error("the bad backend was never tried")
				}
				p.account(t, results, map[string]int{"completed": 20})
			})
		}
	}
}

// Nine calls on three pre-forking backends of three children each: they are full,
// which is no fault. A tenth call waits until a child is free, no call is touched,
// and no backend is ever called down.
func TestFullPreforkingBackendsAreBusy(t *testing.T) {
	s := begin(t)
	servers := s.perls(t, "prefork", []string{"perl1", "perl2", "perl3"},
		"FASTAGI_WAIT=0", "FASTAGI_MIN=3", "FASTAGI_MAX=3", "FASTAGI_SOUND=demo-instruct", "FASTAGI_DIGITS=#")
	p := s.proxy(t, s.pool(`
		balance: least-connections
		dispatch_timeout: 60s
		health: {interval: 500ms, fast_interval: 250ms, timeout: 500ms, rise: 2, fall: 2}`,
		servers[0], servers[1], servers[2]))
	full := time.Now()
	held := s.place(t, 9, s.script("ivr"))
	eventuallyPlaying(t, 9, servers...)
	for _, b := range servers {
		if n := len(b.playing()); n != 3 {
			t.Fatalf("%s has %d calls; want 3", b.name, n)
		}
	}
	tenth := s.placeOne(t, s.script("ivr"))
	time.Sleep(8 * time.Second) // of probes that nobody answers
	if n := underWay(held); n != 9 {
		t.Fatalf("%d of 9 calls are still held; want all", n)
	}
	playing := func() int { return len(servers[0].playing()) + len(servers[1].playing()) + len(servers[2].playing()) }
	if n := playing(); n != 9 || !tenth.underWay() {
		t.Fatalf("%d calls play and the tenth is under way: %v; want 9, and that it waits", n, tenth.underWay())
	}

	// callers leave one backend after the other, until the tenth call has its child
	var gone []*call
	for _, b := range servers {
		for _, c := range held {
			if b.playing()[c.uniqueID()] {
				release(t, c)
				gone = append(gone, c)
				break
			}
		}
		time.Sleep(time.Second)
		if playing() == 10-len(gone) {
			break
		}
	}
	if n := playing(); n != 10-len(gone) {
		t.Fatalf("%d callers have left, one on each backend, and %d calls play; want the tenth among them", len(gone), n)
	}
	if n := underWay(held); n != 9-len(gone) {
		t.Errorf("%d of the nine are held after %d have left", n, len(gone))
	}
	s.prometheus.scraped(t)
	for name, up := range s.prometheus.by(t, "min_over_time(agiproxy_backend_up["+time.Since(full).Round(time.Second).String()+"])", "backend") {
		if up != 1 {
			t.Errorf("agiproxy_backend_up of %s was 0 at times; want 1 all the time: it is full, not dead", name)
		}
	}
	all := append(held, tenth)
	release(t, all...)
	results := wait(t, 20*time.Second, all...)
	mustBeServed(t, results)
	mustNotRepeat(t, servers...)
	p.account(t, results, map[string]int{"completed": 10})
}

// A caller who hangs up in mid-session: the backend is told, and so is the dialplan.
func TestCallerHangsUp(t *testing.T) {
	s := begin(t)
	b := s.fault(t, "ivr1", "")
	p := s.proxy(t, s.pool(`health: {probe: none}`, b))
	d := s.script("ivr", hold)
	d.leave = 2 * time.Second
	calls := s.place(t, 50, d)
	results := wait(t, 20*time.Second, calls...)
	mustBe(t, results, "HANGUP", "")
	if st := b.Stats(); st.Begun != 50 || st.HungUp != 50 || st.Done != 0 {
		t.Errorf("the backend's sessions: %+v; want 50 begun, 50 hung up, none done", st)
	}
	p.account(t, results, map[string]int{"hangup": 50})
}

// A mute backend would keep Asterisk's channels for ever after the callers have gone,
// as "core show channels" would show; hangup_timeout frees them.
func TestMuteBackendFreesChannel(t *testing.T) {
	s := begin(t)
	const n = 10
	b := s.fault(t, "mute", "fault=mute")
	p := s.proxy(t, s.pool("hangup_timeout: 3s\nhealth: {probe: none}", b))
	atRest := p.atRest(t)
	s.eventuallyNoChannels(t, 10*time.Second)
	d := s.script("ivr")
	d.leave = time.Second
	calls := s.place(t, n, d)
	// the callers' own channels go when they leave, those that run AGI() stay
	eventually(t, 10*time.Second, "the callers have left, and their other channels are there", func() bool { return s.channels(t) == n })
	results := wait(t, 10*time.Second, calls...)
	for _, r := range results {
		if r.status != "HANGUP" || r.took() > 6*time.Second {
			t.Errorf("%v; want HANGUP within 6s", r)
		}
	}
	p.account(t, results, map[string]int{"hangup": n})
	p.mustLeakNothing(t, atRest)
}
