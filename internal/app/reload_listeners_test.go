package app

import (
	"net"
	"strings"
	"testing"
)

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

func TestReloadKeepsListenersOfEqualAddress(t *testing.T) {
	s := startServer(t, "ivr1")
	both := fileOn(`"127.0.0.1:0" "127.0.0.1:0"`, unprobed, s.entry(""))
	p := serve(t, both)
	one, two := p.addr(0), p.addr(1)
	p.reload(both)
	place(t, one, "menu").wantServed("ivr1")
	place(t, two, "menu").wantServed("ivr1")
}

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
