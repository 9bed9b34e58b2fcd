package netns

import (
	"testing"
	"time"

	"agiproxy/testbed/fastagi/fault"
)

// TestAsteriskVanishes takes Asterisk off the network without a FIN or a reset, at each
// moment of a call. Nobody is left to be told anything; agiproxy must end the session,
// and the backend its script.
func TestAsteriskVanishes(t *testing.T) {
	t.Parallel()
	t.Run("in its own turn", func(t *testing.T) {
		s := begin(t, "hangup_timeout: 2s", "ivr1")
		c := s.call(hold)
		s.underWay(s.backends[0], c, 2)
		s.asteriskVanishes()
		s.recorded(c, youth+userTimeout+slack, "hangup")
		s.mustEnd(c)
	})
	t.Run("in the backend's turn", func(t *testing.T) {
		s := begin(t, "hangup_timeout: 2s", "ivr1")
		s.backends[0].set(t, fault.Behaviour{Mode: fault.Slow, Delay: 3 * time.Second})
		c := s.call("NOOP")
		eventually(t, slack, "the header came", func() bool { return s.backends[0].Stats().Headers == 1 })
		s.asteriskVanishes() // and then comes a command, which nobody acknowledges
		s.recorded(c, 3*time.Second+youth+userTimeout+slack, "hangup")
		s.mustEnd(c)
	})
	t.Run("and the backend is mute", func(t *testing.T) {
		s := begin(t, "hangup_timeout: 2s", "ivr1")
		s.backends[0].set(t, fault.Behaviour{Mode: fault.Mute})
		c := s.call("NOOP")
		eventually(t, slack, "the header came", func() bool { return s.backends[0].Stats().Headers == 1 })
		s.asteriskVanishes()
		s.recorded(c, youth+userTimeout+2*time.Second+slack, "hangup")
		s.mustEnd(c)
	})
	t.Run("in the queue", func(t *testing.T) {
		s := begin(t, "queue: {timeout: 10m, limit: 10}\nhealth: {probe: tcp, interval: 500ms, timeout: 500ms, fall: 1}", "ivr1")
		s.backends[0].Close()
		eventually(t, slack, "probes find ivr1 down", func() bool { return s.proxy.metric("agiproxy_backend_up") == 0 })
		c := s.call("NOOP")
		eventually(t, slack, "the call waits", func() bool { return s.proxy.metric("agiproxy_queue_length") == 1 })
		s.asteriskVanishes()
		s.recorded(c, youth+userTimeout+slack, "hangup")
		s.mustRest(slack)
	})
	t.Run("within its header", func(t *testing.T) {
		s := begin(t, "", "ivr1")
		s.network.toward(s.pbx, s.proxy.host, trouble{largest: 70}) // the first lines are small
		s.call("NOOP")
		eventually(t, 30*time.Second+slack, "a session whose header is late", func() bool {
			return s.proxy.metric(`agiproxy_sessions_total{outcome="timeout"`)+s.proxy.metric(`agiproxy_sessions_total{outcome="bad_header"`) == 1
		})
		s.mustRest(slack)
	})
}

// asteriskVanishes cuts Asterisk off from agiproxy.
func (s *stage) asteriskVanishes() { s.network.between(s.pbx, s.proxy.host, cut) }

// set changes what sessions to come meet on a backend.
func (b *backend) set(t *testing.T, behaviour fault.Behaviour) {
	t.Helper()
	if err := b.Set(behaviour); err != nil {
		t.Fatal(err)
	}
}

// mustEnd waits until the backend's side of a call has ended, and agiproxy is at rest.
func (s *stage) mustEnd(c *call) {
	s.t.Helper()
	eventually(s.t, slack, "the script of "+c.id+" ends", func() bool { return s.backends[0].Stats().Active == 0 })
	s.mustRest(slack)
}
