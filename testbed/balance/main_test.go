package main

import (
	"strings"
	"testing"
)

func mustSimulate(t *testing.T, s setup, sc scenario, seed uint64) result {
	t.Helper()
	r, err := simulate(s, sc, seed)
	if err != nil {
		t.Fatalf("%v, %+v: %v", s, sc, err)
	}
	return r
}

// The page would change with each run.
func TestASeedGivesTheSameFigures(t *testing.T) {
	for _, s := range []setup{{policy: "random", weight: children, limits: true}, {policy: "least-connections"}} {
		one, two := mustSimulate(t, s, scenarios[ejected], 1), mustSimulate(t, s, scenarios[ejected], 1)
		if one != two {
			t.Errorf("%v: %+v, then %+v; want the same", s, one, two)
		}
		if other := mustSimulate(t, s, scenarios[ejected], 2); other == one {
			t.Errorf("%v: %+v with two seeds; want other calls, so other figures", s, one)
		}
	}
}

// Round-robin without weights gives the smallest server more than it can do:
// queueing theory says so of any simulation that deserves trust.
func TestAServerBeyondItsMeansHasALineThatGrows(t *testing.T) {
	blind := mustSimulate(t, setup{policy: "round-robin"}, scenarios[at70], 1)
	if blind.p99 < observed.Seconds()/4 {
		t.Errorf("one in a hundred waits %.0f s; want a good part of the two hours", blind.p99)
	}
	queued := mustSimulate(t, setup{policy: "least-connections", limits: true}, scenarios[at70], 1)
	if queued.p99 > 1 {
		t.Errorf("with a queue one in a hundred waits %.1f s; want next to nothing: 45 places of 150 are free on average", queued.p99)
	}
}

func TestOnlyAServerThatFailsWastesAttempts(t *testing.T) {
	s := setup{policy: "round-robin"}
	if r := mustSimulate(t, s, scenarios[at70], 1); r.wasted != 0 {
		t.Errorf("%.3f failed attempts for each call where all servers work; want none", r.wasted)
	}
	if r := mustSimulate(t, s, scenarios[unejected], 1); r.wasted < 0.08 || r.wasted > 0.12 {
		t.Errorf("%.3f failed attempts for each call; want a tenth, the turn of one in ten", r.wasted)
	}
	if r := mustSimulate(t, s, scenarios[ejected], 1); r.wasted > 0.01 {
		t.Errorf("%.3f failed attempts for each call; want nearly none of one that is ejected", r.wasted)
	}
}

func TestFillIn(t *testing.T) {
	page := "a\n<!-- balance:x -->\nold\n<!-- /balance:x -->\nb\n<!-- balance:y -->\n<!-- /balance:y -->\nc\n"
	got, err := fillIn(page, map[string]string{"x": "$1\n", "y": "Y\n"})
	want := strings.NewReplacer("old", "$1", "-->\n<!-- /balance:y", "-->\nY\n<!-- /balance:y").Replace(page)
	if err != nil || got != want {
		t.Errorf("fillIn = %q, %v; want %q", got, err, want)
	}
	if _, err := fillIn(page, map[string]string{"z": ""}); err == nil {
		t.Error("fillIn of a section that the page lacks: no error")
	}
}
