package netns

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestHandOverWhileCutOff has another agiproxy take over while nobody can reach anybody.
func TestHandOverWhileCutOff(t *testing.T) {
	t.Parallel()
	t.Run("for 3s", func(t *testing.T) {
		s := begin(t, "think_timeout: 30s", "ivr1")
		begun := time.Now()
		calls := []*call{s.call("EXEC Wait 1", "EXEC Wait 1"), s.call("EXEC Wait 6")}
		for _, c := range calls {
			s.underWay(s.backends[0], c, 2)
		}
		s.cutAll(cut)
		time.Sleep(time.Second) // a reply to the first is on its way then, and nobody acknowledges it
		s.handOver()
		time.Sleep(time.Second)
		s.cutAll(trouble{})
		for _, c := range calls {
			s.served(c, begun, time.Minute, "ivr1")
		}
		s.mustBeginOnce()
		s.mustRest(slack)
	})
	// The connection is too young to have keepalive when it is handed over.
	t.Run("for good", func(t *testing.T) {
		s := begin(t, "", "ivr1")
		c := s.call(hold)
		s.underWay(s.backends[0], c, 2)
		begun := s.vanishes(s.backends[0])
		s.handOver()
		s.failed(c, begun, youth+userTimeout+slack, "BACKENDLOST", "lost")
		s.mustRest(slack)
	})
}

// TestReloadWhileCutOff has another configuration come while nobody can reach anybody.
func TestReloadWhileCutOff(t *testing.T) {
	s := begin(t, "think_timeout: 30s", "ivr1", "ivr2")
	begun := time.Now()
	c := s.call("EXEC Wait 1", "EXEC Wait 5")
	eventually(t, slack, "the call has begun", func() bool { return s.backends[0].began(c) || s.backends[1].began(c) })
	s.cutAll(cut)
	s.proxy.write(s.pool("think_timeout: 20s"))
	s.proxy.signal(syscall.SIGHUP)
	eventually(t, slack, "the other configuration is in force", func() bool { return strings.Contains(s.proxy.log(), "configuration reloaded") })
	time.Sleep(2 * time.Second)
	s.cutAll(trouble{})
	s.served(c, begun, time.Minute, "")
	s.served(s.call("NOOP"), time.Now(), slack, "")
	s.mustBeginOnce()
	s.mustRest(slack)
}

// TestNoRoute has agiproxy's own machine be at fault.
func TestNoRoute(t *testing.T) {
	t.Parallel()
	t.Run("to the backends", func(t *testing.T) {
		s := begin(t, "", "ivr1", "ivr2")
		underWay := s.call("EXEC Wait 5")
		eventually(t, slack, "the call has begun", func() bool { return s.backends[0].began(underWay) || s.backends[1].began(underWay) })
		begun := time.Now()
		s.proxy.setReach(t, 29) // Asterisk, and nobody else
		for range 5 {
			s.failed(s.call("NOOP"), time.Now(), slack, "NOBACKEND", "no_backend")
		}
		s.proxy.setReach(t, 24)
		s.served(s.call("NOOP"), time.Now(), slack, "")
		s.served(underWay, begun, 5*time.Second+slack, "")
		s.mustBeginOnce()
		s.mustRest(slack)
	})
	t.Run("to anybody", func(t *testing.T) {
		s := begin(t, "think_timeout: 30s", "ivr1")
		begun := time.Now()
		calls := []*call{s.call("EXEC Wait 1", "EXEC Wait 1"), s.call("EXEC Wait 6")}
		for _, c := range calls {
			s.underWay(s.backends[0], c, 2)
		}
		s.proxy.setLink(t, false)
		time.Sleep(3 * time.Second)
		s.proxy.setLink(t, true)
		for _, c := range calls {
			s.served(c, begun, time.Minute, "ivr1")
		}
		s.mustBeginOnce()
		s.mustRest(slack)
	})
}

// cutAll has the same happen to all packets from and to agiproxy.
func (s *stage) cutAll(tr trouble) {
	s.network.between(s.pbx, s.proxy.host, tr)
	for _, b := range s.backends {
		s.network.between(s.proxy.host, b.host, tr)
	}
}

// handOver has another agiproxy take this one's place, and waits until it has.
func (s *stage) handOver() {
	s.t.Helper()
	s.proxy.signal(syscall.SIGUSR2)
	select {
	case <-s.proxy.ended:
	case <-time.After(slack):
		s.t.Fatalf("agiproxy has not ended %v after USR2", slack)
	}
	eventually(s.t, slack, "the other agiproxy answers", func() bool {
		_, err := s.proxy.get("/metrics")
		return err == nil
	})
	s.proxy.atRest++ // it keeps a socket from the hand-over
}
