package app

import "testing"

func TestServesAndFailsOver(t *testing.T) {
	good := startServer(t, "good")
	p := serve(t, file(unprobed+"balance: round-robin", good.entry(""), `{name: dead, address: "127.0.0.1:1"}`))
	for range 20 {
		place(t, p.addr(0), "menu").wantServed("good")
	}
	p.wantOutcomes(map[string]uint64{"completed": 20})
	if n, _ := p.series("agiproxy_attempts_total", "dead", "ivr", "refused"); n != 3 {
		t.Errorf("%v attempts on the dead backend; want three, after which it is ejected", n)
	}
	p.state("dead", "ejected")
	if n, _ := p.series("agiproxy_backend_ejections_total", "dead", "ivr"); n != 1 {
		t.Errorf("%v ejections of the dead backend; want 1", n)
	}
}

func TestTellsTheDialplanThatNobodyServes(t *testing.T) {
	p := serve(t, file(unprobed, `{name: dead, address: "127.0.0.1:1"}`))
	place(t, p.addr(0), "menu").wantFailure("NOBACKEND")
	p.wantOutcomes(map[string]uint64{"no_backend": 1})
}

func TestAddrIsTheFirstListeners(t *testing.T) {
	p := prepare(t, fileOn(`"127.0.0.1:0" "127.0.0.1:0"`, unprobed, `"127.0.0.1:1"`))
	p.run()
	if got := p.Addr().String(); got != p.addr(0) || got == p.addr(1) {
		t.Errorf("Addr() = %s; want the first of %s and %s", got, p.addr(0), p.addr(1))
	}
}

func TestNoAdminPort(t *testing.T) {
	p := serve(t, file(unprobed, `"127.0.0.1:1"`)+"\n", func(o *Options) { o.Config.Admin.Address = "" })
	if got := p.AdminAddr(); got != "" {
		t.Errorf("AdminAddr() = %q; want none", got)
	}
}
