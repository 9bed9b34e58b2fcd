package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"agiproxy/agi"
	"agiproxy/balancer"
)

// A loopHost is a loop of its own goroutine, with connections that a backend of
// no substance answers at once.
type loopHost struct {
	mu     sync.Mutex
	posted []func()
	ended  bool
	wake   chan struct{}
	done   chan struct{}
	talks  func(*talker) // what each backend's connection does, on the loop
}

var errEnded = errors.New("loop has ended")

func newLoopHost() *loopHost {
	h := &loopHost{wake: make(chan struct{}, 1), done: make(chan struct{})}
	go h.run()
	return h
}

func (h *loopHost) run() {
	defer close(h.done)
	for range h.wake {
		h.mu.Lock()
		fs, ended := h.posted, h.ended
		h.posted = nil
		h.mu.Unlock()
		for _, f := range fs {
			f()
		}
		if ended {
			return
		}
	}
}

// stop ends the loop, after what it was given before.
func (h *loopHost) stop() {
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	h.poke()
	<-h.done
}

func (h *loopHost) poke() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *loopHost) Do(f func()) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return errEnded
	}
	h.posted = append(h.posted, f)
	h.poke()
	return nil
}

// wait has f run on the loop, and waits for it.
func (h *loopHost) wait(f func()) {
	done := make(chan struct{})
	if h.Do(func() { f(); close(done) }) == nil {
		<-done
	}
}

func (h *loopHost) Now() time.Duration { return time.Second }

func (h *loopHost) Connect(addr netip.AddrPort, hd Handler) Conn {
	c := &talker{fakeConn: fakeConn{remote: addr, handler: hd}, host: h}
	h.Do(func() {
		if !c.closed {
			h.talks(c)
		}
	})
	return c
}

// A talker is the connection to a backend.
type talker struct {
	fakeConn
	host *loopHost
}

// serve connects, and has a script of one command run.
func serve(c *talker) {
	c.handler.Connected()
	c.handler.Received(noop)
	c.host.Do(func() {
		if !c.closed {
			c.handler.Closed(nil)
		}
	})
}

// An answerer is a connection to an Asterisk that answers each line, and closes
// after agiproxy.
type answerer struct {
	fakeConn
	host *loopHost
}

func (c *answerer) Write(p []byte) {
	if agi.IsFailure(p) {
		return
	}
	c.host.Do(func() {
		if !c.closed {
			c.handler.Received(okReply)
		}
	})
}

func (c *answerer) CloseWrite() {
	c.host.Do(func() {
		if !c.closed {
			c.handler.Closed(nil)
		}
	})
}

// A crowd is several workers, each with its loop, over one pool.
type crowd struct {
	server   *Server
	pool     *balancer.Pool
	listener *Listener
	hosts    []*loopHost
	workers  []*Worker
	mu       sync.Mutex
	outcomes map[Outcome]int
	ended    sync.WaitGroup
}

// newCrowd returns a crowd over backends with one slot each.
func newCrowd(workers, backends, queue int, music string) *crowd {
	c := &crowd{listener: NewListener(":4577", limits()), outcomes: map[Outcome]int{}}
	c.server = NewServer(Options{Ended: func(r Record) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.outcomes[r.Outcome]++
		c.ended.Done()
	}})
	var all []*balancer.Backend
	for i := range backends {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 4573)
		b := balancer.NewBackend(fmt.Sprintf("ivr%d", i+1), addr.String())
		b.SetAddr(addr)
		b.Configure(1, 1, false)
		all = append(all, b)
	}
	c.pool = balancer.NewPool(balancer.RoundRobin{}, balancer.Options{Queue: queue}, all)
	opts := PoolOptions{Attempts: 3, QueueTimeout: time.Hour, Music: music}
	c.server.Swap(&Table{Pools: []*Pool{NewPool("ivr", opts, c.pool)}, Routes: []Route{{Pool: "ivr"}}})
	for range workers {
		h := newLoopHost()
		h.talks = serve
		c.hosts = append(c.hosts, h)
		c.workers = append(c.workers, c.server.NewWorker(h))
	}
	return c
}

// call brings a call to a worker, and returns its connection to Asterisk.
func (c *crowd) call(worker int) *answerer {
	a := &answerer{fakeConn: fakeConn{remote: asteriskAddr}, host: c.hosts[worker]}
	c.ended.Add(1)
	c.hosts[worker].wait(func() {
		a.handler = c.workers[worker].Accept(c.listener, a)
		a.handler.Received(plainHeader)
	})
	return a
}

func (c *crowd) check(t *testing.T, sessions int) {
	t.Helper()
	if n := c.server.Sessions(); n != sessions {
		t.Errorf("%d sessions are left; want %d", n, sessions)
	}
	if n := c.pool.Waiting(); n != 0 {
		t.Errorf("%d wait at the end; want none", n)
	}
	for _, b := range c.pool.Backends() {
		if b.Sessions() != 0 {
			t.Errorf("%s counts %d sessions at the end; want none", b.Name(), b.Sessions())
		}
	}
}

// Slots go from the sessions of one loop to those of another, with and without
// music to stop first.
func TestQueueOverSeveralLoops(t *testing.T) {
	for _, music := range []string{"", "calm"} {
		const workers, calls = 4, 100
		c := newCrowd(workers, 2, workers*calls, music)
		var callers sync.WaitGroup
		for w := range workers {
			callers.Go(func() {
				for range calls {
					c.call(w)
				}
			})
		}
		callers.Wait()
		c.ended.Wait()
		if c.outcomes[Completed] != workers*calls {
			t.Errorf("music %q: outcomes %v; want %d completed", music, c.outcomes, workers*calls)
		}
		for _, h := range c.hosts {
			h.stop()
		}
		c.check(t, 0)
	}
}

// Callers leave while slots are on their way to them: each slot comes back.
func TestQueueIsLeftWhileSlotsCome(t *testing.T) {
	const workers, calls = 4, 100
	c := newCrowd(workers, 1, workers*calls, "")
	var callers sync.WaitGroup
	for w := range workers {
		callers.Go(func() {
			for i := range calls {
				a := c.call(w)
				if i%2 == 0 {
					a.CloseWrite() // Asterisk's, as its handler sees it
				}
			}
		})
	}
	callers.Wait()
	c.ended.Wait()
	if got := c.outcomes[Completed] + c.outcomes[Hangup]; got != workers*calls {
		t.Errorf("outcomes %v; want %d completed or hung up", c.outcomes, workers*calls)
	}
	for _, h := range c.hosts {
		h.stop()
	}
	c.check(t, 0)
}

// A slot that comes to a session whose loop has ended is the next one's.
func TestSlotOfAnEndedLoopIsGivenBack(t *testing.T) {
	c := newCrowd(3, 1, 10, "")
	var busy *talker
	c.hosts[0].talks = func(k *talker) {
		busy = k
		k.handler.Connected()
		k.handler.Received(noop)
	}
	c.call(0)
	c.hosts[0].wait(func() {}) // the backend is connected
	c.call(1)                  // waits
	c.call(2)                  // and so does this one
	if n := c.pool.Waiting(); n != 2 {
		t.Fatalf("%d wait; want 2", n)
	}
	c.hosts[1].stop()
	c.ended.Done() // that session is nobody's any more
	c.hosts[0].wait(func() { busy.handler.Closed(nil) })
	c.ended.Wait()
	if c.outcomes[Completed] != 2 {
		t.Errorf("outcomes %v; want 2 completed: the first, and the one behind that of the ended loop", c.outcomes)
	}
	c.hosts[0].stop()
	c.hosts[2].stop()
	c.check(t, 1)
}

// heldHost gives what it is given to run when the test says so.
type heldHost struct {
	*fakeHost
	held []func()
}

func (h *heldHost) Do(f func()) error {
	h.held = append(h.held, f)
	return nil
}

// A slot and the caller's hangup come in the same moment. The hangup is seen
// first: the slot is given back.
func TestSlotThatComesWithAHangup(t *testing.T) {
	for name, leave := range map[string]func(Handler){
		"hangup":          func(h Handler) { h.Received(goodbye) },
		"close":           func(h Handler) { h.Closed(nil) },
		"timeout":         func(h Handler) { h.TimedOut() },
		"hangup to music": func(h Handler) { h.Received(goodbye) },
	} {
		s := newStage(Options{}, limits())
		b := s.server.Table().Pools[0].Backends().Backends()[0]
		b.Configure(1, 1, false)
		opts := s.server.Table().Pools[0].opts
		opts.QueueTimeout = time.Minute
		if name == "hangup to music" {
			opts.Music = "calm"
		}
		pool := balancer.NewPool(balancer.RoundRobin{}, balancer.Options{Queue: 2}, []*balancer.Backend{b})
		pool.Inherit(s.server.Table().Pools[0].Backends())
		s.server.Swap(&Table{Pools: []*Pool{NewPool("ivr", opts, pool)}, Routes: []Route{{Pool: "ivr"}}})
		host := &heldHost{fakeHost: &s.host}
		s.worker = s.server.NewWorker(host)

		s.establish(plainHeader)
		first, firstBack := s.handler, s.host.back.handler
		s.accept(asteriskAddr)
		s.handler.Received(plainHeader)
		if pool.Waiting() != 1 {
			t.Fatalf("%s: %d wait; want 1", name, pool.Waiting())
		}
		firstBack.Closed(nil) // the slot goes to the second
		if pool.Waiting() != 0 || b.Sessions() != 1 || len(host.held) != 1 {
			t.Fatalf("%s: %d wait, %d sessions, %d on their way; want the slot on its way", name, pool.Waiting(), b.Sessions(), len(host.held))
		}
		leave(s.handler)
		host.held[0]()
		if b.Sessions() != 0 {
			t.Errorf("%s: %d sessions on the backend; want the slot given back", name, b.Sessions())
		}
		// It is worth as much as before.
		second := s.handler
		s.establish(plainHeader)
		if b.Sessions() != 1 {
			t.Errorf("%s: %d sessions of a third caller; want 1", name, b.Sessions())
		}
		s.finish()
		for _, h := range []Handler{first, second} {
			if !s.ended(h) {
				h.Closed(nil)
			}
		}
		if n := s.server.Sessions(); n != 0 {
			t.Errorf("%s: %d sessions are left", name, n)
		}
	}
}

func (s *stage) ended(h Handler) bool { return (*Session)(h.(*frontSide)).state == ended }
