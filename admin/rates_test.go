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

// Rates are of what was counted since the look before.
func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &countingControl{fakeControl: newFakeControl()}
		c.totals.Commands = 1000 // before anybody looked
		w := newWatch(c)
		w.look()
		time.Sleep(2 * time.Second)
		c.totals.Commands += 30
		c.totals.Ended[proxy.Completed] += 4
		c.totals.Ended[proxy.Lost] += 2
		w.look()
		first, second := w.past[0], w.past[1]
		if first.Rates != (Rates{}) {
			t.Errorf("first look: %+v; want no rates", first.Rates)
		}
		if want := (Rates{Sessions: 3, Commands: 15, Failures: 1}); second.Rates != want {
			t.Errorf("after 30 commands and 6 sessions in 2s, 2 of them lost: %+v; want %+v", second.Rates, want)
		}
		if second.Latencies.P50 != nil {
			t.Errorf("latencies: %+v; want none of no dispatch", second.Latencies)
		}
		if passed := second.Time.Sub(first.Time); passed != 2*time.Second {
			t.Errorf("looks are %v apart; want 2s", passed)
		}
	})
}
