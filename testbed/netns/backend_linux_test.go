package netns

import (
	"strings"
	"testing"
	"time"
)

var cut = trouble{cut: true}

// TestBackendVanishes takes a backend off the network without a FIN or a reset, at
// each moment of a call.
func TestBackendVanishes(t *testing.T) {
	t.Parallel()
	t.Run("before it is asked", func(t *testing.T) {
		s := begin(t, "balance: first\nhedge_delay: 0s\nconnect_timeout: 1s", "ivr1", "ivr2")
		s.vanishes(s.backends[0])
		begun := time.Now()
		s.served(s.call("NOOP"), begun, time.Second+slack, "ivr2")
		s.mustRest(slack)
	})
	t.Run("before it is asked, hedged", func(t *testing.T) {
		s := begin(t, "balance: first\nconnect_timeout: 20s", "ivr1", "ivr2")
		s.vanishes(s.backends[0])
		begun := time.Now()
		s.served(s.call("NOOP"), begun, slack, "ivr2")
		s.mustRest(slack)
	})
	t.Run("idle, and probes tell", func(t *testing.T) {
		s := begin(t, "balance: first\nhealth: {probe: agi, interval: 1s, fast_interval: 500ms, timeout: 3s, rise: 2, fall: 3}", "ivr1", "ivr2")
		up := func() bool { return s.proxy.metric(`agiproxy_backend_up{backend="ivr1"`) == 1 }
		eventually(t, slack, "probes find ivr1 up", up)
		s.vanishes(s.backends[0])
		eventually(t, 11*time.Second+slack, "probes find ivr1 down", func() bool { return !up() })
		s.served(s.call("NOOP"), time.Now(), slack, "ivr2")
		s.network.between(s.proxy.host, s.backends[0].host, trouble{})
		eventually(t, slack, "probes find ivr1 up again", up)
	})

	// The fault server reads the header and is silent: it is its turn for the first command.
	t.Run("before the first command", func(t *testing.T) {
		s := begin(t, "", "ivr1")
		begun := s.vanishesUnanswered()
		s.failed(s.call("NOOP"), begun, youth+userTimeout+slack, "BACKENDLOST", "lost")
		s.mustRest(slack)
	})
	t.Run("before the first command, which has a limit", func(t *testing.T) {
		s := begin(t, "first_command_timeout: 2s", "ivr1")
		begun := s.vanishesUnanswered()
		s.failed(s.call("NOOP"), begun, 2*time.Second+slack, "BACKENDLOST", "lost")
		s.mustRest(slack)
	})
	t.Run("before the first command, and scripts may be asked twice", func(t *testing.T) {
		s := begin(t, "balance: first\nreplay: unanswered\nfirst_command_timeout: 2s", "ivr1", "ivr2")
		begun := s.vanishesUnanswered()
		s.served(s.call("NOOP"), begun, 2*time.Second+slack, "ivr2")
		s.mustRest(slack)
	})

	// Asterisk's turn has no limit. Nothing is sent to the backend, so that only
	// keepalive finds out.
	t.Run("in Asterisk's turn", func(t *testing.T) {
		s := begin(t, "think_timeout: 2s", "ivr1")
		c := s.call(hold)
		s.underWay(s.backends[0], c, 2)
		begun := s.vanishes(s.backends[0])
		s.failed(c, begun, youth+userTimeout+slack, "BACKENDLOST", "lost")
		s.mustRest(slack)
	})
	t.Run("in Asterisk's turn, resumed", func(t *testing.T) {
		s := begin(t, "balance: first\non_backend_loss: resume", "ivr1", "ivr2")
		c := s.call(hold)
		s.underWay(s.backends[0], c, 2)
		begun := s.vanishes(s.backends[0])
		s.resumedByOther(c, begun, youth+userTimeout+slack)
	})
	t.Run("in Asterisk's turn, resumed when probes tell", func(t *testing.T) {
		s := begin(t, "balance: first\non_backend_loss: resume\nhealth: {interval: 1s, timeout: 3s, fall: 3, on_down: lose}", "ivr1", "ivr2")
		eventually(t, slack, "probes find both up", func() bool { return s.proxy.metric("agiproxy_backend_up") == 2 })
		c := s.call(hold)
		s.underWay(s.backends[0], c, 2)
		begun := s.vanishes(s.backends[0])
		s.resumedByOther(c, begun, 11*time.Second+slack)
	})
	t.Run("in its own turn", func(t *testing.T) {
		s := begin(t, "", "ivr1")
		c := s.call("EXEC Wait 3") // Asterisk's reply goes into the void
		s.underWay(s.backends[0], c, 2)
		begun := s.vanishes(s.backends[0])
		s.failed(c, begun, youth+userTimeout+slack, "BACKENDLOST", "lost")
		s.mustRest(slack)
	})
	t.Run("in its own turn, which has a limit", func(t *testing.T) {
		s := begin(t, "think_timeout: 2s", "ivr1")
		c := s.call("EXEC Wait 3")
		s.underWay(s.backends[0], c, 2)
		begun := s.vanishes(s.backends[0])
		s.failed(c, begun, 5*time.Second+slack, "BACKENDLOST", "lost")
		s.mustRest(slack)
	})
}

// vanishes cuts a backend off from agiproxy, and returns when that was.
func (s *stage) vanishes(b *backend) time.Time {
	s.network.between(s.proxy.host, b.host, cut)
	return time.Now()
}

// vanishesUnanswered has the first backend vanish once it has taken a connection: it
// acknowledges nothing that comes then.
func (s *stage) vanishesUnanswered() time.Time {
	// What is larger than the handshake's packets is the header, and the rest is an
	// acknowledgement of it.
	s.network.toward(s.proxy.host, s.backends[0].host, trouble{largest: 60})
	return time.Now()
}

// resumedByOther waits until the second backend holds a call that the first one has
// lost.
func (s *stage) resumedByOther(c *call, since time.Time, limit time.Duration) {
	s.t.Helper()
	b := s.backends[1]
	eventually(s.t, limit-time.Since(since), c.id+" goes on with "+b.name, func() bool {
		for _, session := range b.Calls() {
			if session.UniqueID == c.id && session.Resumed == "yes" && session.Commands == 1 {
				return true
			}
		}
		return false
	})
	s.t.Logf("%s goes on after %v", c.id, time.Since(since).Round(100*time.Millisecond))
	c.pull()
	s.recorded(c, slack, "hangup")
	s.network.between(s.proxy.host, s.backends[0].host, trouble{}) // a probe that isn't answered has a descriptor
	s.mustRest(slack)
}

// TestPartitionHeals has everybody cut off from everybody for 3s in the middle of calls.
// TCP sends again what was lost, and nobody notices.
func TestPartitionHeals(t *testing.T) {
	s := begin(t, "think_timeout: 30s", "ivr1", "ivr2")
	begun := time.Now()
	var calls []*call
	for range 5 {
		calls = append(calls, s.call("EXEC Wait 1", "EXEC Wait 1"), s.call("EXEC Wait 6"))
	}
	for _, c := range calls {
		eventually(t, slack, c.id+" has begun", func() bool { return s.backends[0].began(c) || s.backends[1].began(c) })
	}
	s.cutAll(cut)
	time.Sleep(3 * time.Second)
	s.cutAll(trouble{})
	for _, c := range calls {
		s.served(c, begun, time.Minute, "")
	}
	s.mustBeginOnce()
	s.mustRest(slack)
}

// began reports whether the backend has begun with a call.
func (b *backend) began(c *call) bool {
	for _, session := range b.Calls() {
		if session.UniqueID == c.id && session.Begun {
			return true
		}
	}
	return false
}

// TestReboot has a backend's machine lose its power and come back: its kernel answers
// whatever belongs to a connection from before by a reset.
func TestReboot(t *testing.T) {
	t.Parallel()
	t.Run("in Asterisk's turn", func(t *testing.T) {
		s := begin(t, "", "ivr1")
		c := s.call(hold)
		s.underWay(s.backends[0], c, 2)
		s.backends[0].reboot(t)
		s.failed(c, time.Now(), youth+keepIdle+slack, "BACKENDLOST", "lost")
		s.mustRest(slack)
	})
	t.Run("before Asterisk's reply", func(t *testing.T) {
		s := begin(t, "", "ivr1")
		c := s.call("EXEC Wait 4")
		s.underWay(s.backends[0], c, 2)
		s.backends[0].reboot(t)
		s.failed(c, time.Now(), slack, "BACKENDLOST", "lost")
		s.backends[0].serve(t)
		s.served(s.call("NOOP"), time.Now(), slack, "ivr1")
		s.mustRest(slack)
	})
	t.Run("before Asterisk's reply, resumed", func(t *testing.T) {
		s := begin(t, "balance: first\non_backend_loss: resume", "ivr1", "ivr2")
		c := s.call("EXEC Wait 4")
		s.underWay(s.backends[0], c, 2)
		s.backends[0].reboot(t)
		s.served(c, time.Now(), slack, "ivr2")
		s.mustRest(slack)
	})
	t.Run("before the first command", func(t *testing.T) {
		s := begin(t, "balance: first", "ivr1", "ivr2")
		s.vanishesUnanswered()
		c := s.call("NOOP")
		begun := time.Now()
		time.Sleep(time.Second)
		s.backends[0].reboot(t)
		s.network.between(s.proxy.host, s.backends[0].host, trouble{})
		s.served(c, begun, slack, "ivr2") // the reset tells that the header was not read
		s.mustRest(slack)
	})
}

// TestLargePacketsAreLost has a path on which only small packets get through, and
// nobody says so: a tunnel whose ICMP is filtered.
func TestLargePacketsAreLost(t *testing.T) {
	t.Parallel()
	small := trouble{largest: 1000}
	argument := strings.Repeat("x", 2000)
	large := []string{argument}

	t.Run("to the backend", func(t *testing.T) {
		s := begin(t, "", "ivr1")
		s.network.toward(s.proxy.host, s.backends[0].host, small)
		begun := time.Now()
		c := s.callWith(large, "NOOP")
		s.served(s.call("NOOP"), begun, slack, "ivr1") // a small header
		s.failed(c, begun, youth+userTimeout+slack, "BACKENDLOST", "lost")
		s.mustRest(slack)
	})
	t.Run("to the backend, and scripts may be asked twice", func(t *testing.T) {
		s := begin(t, "balance: first\nreplay: unanswered\nfirst_command_timeout: 2s", "ivr1", "ivr2")
		s.network.toward(s.proxy.host, s.backends[0].host, small)
		s.served(s.callWith(large, "NOOP"), time.Now(), 2*time.Second+slack, "ivr2")
		s.mustRest(slack)
	})
	t.Run("to the backend, and the kernel looks for a size", func(t *testing.T) {
		s := begin(t, "", "ivr1")
		s.proxy.sysctl(t, "net/ipv4/tcp_mtu_probing", "1")
		s.network.toward(s.proxy.host, s.backends[0].host, small)
		s.served(s.callWith(large, "NOOP"), time.Now(), userTimeout, "ivr1")
		s.mustRest(slack)
	})
	// The kernels of both ends answer each other, so that keepalive sees nothing.
	t.Run("from the backend", func(t *testing.T) {
		s := begin(t, "think_timeout: 2s", "ivr1")
		s.network.toward(s.backends[0].host, s.proxy.host, small)
		s.failed(s.call("VERBOSE "+argument), time.Now(), 2*time.Second+slack, "BACKENDLOST", "lost")
		s.mustRest(slack)
	})
	t.Run("from the backend, and the kernel looks for a size", func(t *testing.T) {
		s := begin(t, "", "ivr1")
		s.backends[0].sysctl(t, "net/ipv4/tcp_mtu_probing", "1")
		s.network.toward(s.backends[0].host, s.proxy.host, small)
		s.served(s.call("VERBOSE "+argument), time.Now(), userTimeout, "ivr1")
		s.mustRest(slack)
	})
}
