package app

import (
	"reflect"
	"testing"
)

func TestStatus(t *testing.T) {
	one, two := startServer(t, "ivr1"), startServer(t, "ivr2")
	p := serve(t, file(quick+"balance: round-robin", one.entry(", weight: 2"), two.entry(""), `{name: dead, address: "127.0.0.1:1"}`))
	p.state("dead", "down")
	for range 3 {
		place(t, p.addr(0), "menu").wantServed("")
	}
	p.wantOutcomes(map[string]uint64{"completed": 3})
	held := hold(t, p.addr(0), "hold", one, two)
	place(t, p.addr(0), "menu").wantServed("")
	eventually(t, "the end of the last call", func() bool { return p.server.Sessions() == 1 })

	want := Status{
		Sessions: 1,
		Outcomes: map[string]uint64{"completed": 4},
		Pools: []PoolStatus{{Name: "ivr", Backends: []BackendStatus{
			{Name: "ivr1", Address: one.Addr().String(), State: "up"},
			{Name: "ivr2", Address: two.Addr().String(), State: "up"},
			{Name: "dead", Address: "127.0.0.1:1", State: "down"},
		}}},
	}
	got := p.Status()
	var sessions int
	var served uint64
	for i := range got.Pools[0].Backends {
		b := &got.Pools[0].Backends[i]
		sessions += b.Sessions
		served += b.Served
		b.Sessions, b.Served = 0, 0 // which of the two has how many is the policy's choice
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Status() = %+v; want %+v", got, want)
	}
	if sessions != 1 || served != 4 {
		t.Errorf("backends have %d sessions and have served %d; want 1 and 4", sessions, served)
	}
	one.release()
	two.release()
	held.wantServed("")
}
