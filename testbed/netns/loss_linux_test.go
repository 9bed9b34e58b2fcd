package netns

import (
	"slices"
	"testing"
	"time"

	"agiproxy/testbed/fastagi/fault"
)

// TestLoss has packets lost on all ways. A call takes longer, and no one is lost.
func TestLoss(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		loss     float64
		settings string
	}{
		// TCP asks for a connection again after 1s, and after 3s.
		{"5 percent", 0.05, "connect_timeout: 5s"},
		// Of two packets to and fro, a third of the pairs is lost. With 30 percent one call
		// in a few thousand has nothing acknowledged for the minute that TCP waits.
		{"20 percent", 0.2, "connect_timeout: 20s\ndispatch_timeout: 1m\nattempts: 4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := begin(t, c.settings, "ivr1", "ivr2", "ivr3", "ivr4")
			for _, b := range s.backends {
				s.network.between(s.proxy.host, b.host, trouble{loss: c.loss})
			}
			s.network.between(s.pbx, s.proxy.host, trouble{loss: min(c.loss, 0.1)})
			begun := time.Now()
			for _, call := range s.many(50) {
				s.served(call, begun, 2*time.Minute, "")
			}
			s.mustBeginOnce()
			for _, b := range s.backends {
				s.network.between(s.proxy.host, b.host, trouble{})
			}
			s.network.between(s.pbx, s.proxy.host, trouble{})
			s.mustRest(userTimeout + slack)
		})
	}
}

// TestDelay has each packet take 200ms. Then no connection is made within the
// hedge_delay of 250ms, so that each call asks two backends for one; only one of them
// gets its header.
func TestDelay(t *testing.T) {
	s := begin(t, "connect_timeout: 10s", "ivr1", "ivr2") // a busy machine is late as well
	far := trouble{delay: 200 * time.Millisecond}
	for _, b := range s.backends {
		s.network.between(s.proxy.host, b.host, far)
	}
	s.network.between(s.pbx, s.proxy.host, far)
	begun := time.Now()
	calls := s.many(50)
	for _, c := range calls {
		s.served(c, begun, slack, "")
	}
	s.mustBeginOnce()
	if n := s.proxy.metric(`agiproxy_attempts_total{backend=`); n <= 50 {
		t.Errorf("%v attempts for 50 calls; want more: the second backend is asked beside the first", n)
	}
	headers := 0
	for _, b := range s.backends {
		headers += b.Stats().Headers
	}
	if headers != len(calls) {
		t.Errorf("%d headers came to the backends; want %d, one for each call", headers, len(calls))
	}
	s.mustRest(slack)
}

// many places n calls at once, each a short dialogue.
func (s *stage) many(n int) []*call {
	calls := make([]*call, n)
	for i := range calls {
		calls[i] = s.call(slices.Repeat([]string{"NOOP"}, 3)...)
	}
	return calls
}

// TestResumeWithDelay has a backend die while Asterisk's reply is on its way from afar.
func TestResumeWithDelay(t *testing.T) {
	s := begin(t, "balance: first\non_backend_loss: resume", "ivr1", "ivr2")
	s.network.between(s.pbx, s.proxy.host, trouble{delay: 300 * time.Millisecond})
	// BEGUN is answered before; the command's reply is at agiproxy 1.6s after the command.
	s.backends[0].set(t, fault.Behaviour{Mode: fault.MidCommand, After: 1, Delay: 1300 * time.Millisecond})
	s.served(s.call("EXEC Wait 1"), time.Now(), slack, "ivr2")
	s.mustRest(slack)
}
