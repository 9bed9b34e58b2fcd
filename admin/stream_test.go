package admin

import (
	"testing"
	"testing/synctest"
	"time"

	"agiproxy/proxy"
)

// countingControl has totals that a test sets.
type countingControl struct {
	*fakeControl
	totals proxy.Totals
}

func (c *countingControl) Totals() proxy.Totals { return c.totals }

// Each snapshot tells what is new since the one before.
func TestSnapshots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &countingControl{fakeControl: newFakeControl()}
		c.totals.Commands = 1000 // before anybody looked
		look := looker{controller: c, totals: c.totals, at: time.Now()}
		first := look.next()
		if first.Rates != (Rates{}) || len(first.Endings) != 1 || first.Status.Version != "1.2.3" || len(first.Pools) != 2 {
			t.Errorf("first snapshot: %+v; want no rates, the last endings, the status and the pools", first)
		}
		time.Sleep(2 * time.Second)
		c.totals.Commands += 30
		c.totals.Ended[proxy.Completed] += 4
		c.totals.Ended[proxy.Lost] += 2
		second := look.next()
		if want := (Rates{Sessions: 3, Commands: 15, Failures: 1}); second.Rates != want {
			t.Errorf("after 30 commands and 6 sessions in 2s, 2 of them lost: %+v; want %+v", second.Rates, want)
		}
		if len(second.Endings) != 0 || second.Latencies.P50 != nil {
			t.Errorf("second snapshot: %+v, %+v; want no ending that was told already, and no latency of none", second.Endings, second.Latencies)
		}
		if passed := second.Time.Sub(first.Time); passed != 2*time.Second {
			t.Errorf("snapshots are %v apart; want 2s", passed)
		}
	})
}
