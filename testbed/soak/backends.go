//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"agiproxy/testbed/fastagi/fault"
)

// servers is how many FastAGI servers there are.
const servers = 4

// A backend is a FastAGI server that is killed and started again.
type backend struct {
	name, addr string
	server     *fault.Server // nil while it is down
	faults     *faults
	calls      *calls
}

func newBackend(i int, c *calls, f *faults) (*backend, error) {
	b := &backend{calls: c, name: fmt.Sprintf("ivr%d", i+1), addr: fmt.Sprintf("127.0.0.1:%d", 4573+10*i), faults: f}
	return b, b.start()
}

func (b *backend) start() (err error) {
	b.server, err = fault.Listen(b.addr, fault.Options{Name: b.name})
	return err
}

// stop kills it: the kernel closes its connections, by a reset where it had not read
// everything. Then what it was told is looked through.
func (b *backend) stop() {
	if b.server == nil {
		return
	}
	_ = b.server.Close() // which never fails
	for _, s := range b.server.Calls() {
		b.check(s)
	}
	b.server = nil
}

// check sees that a session got the replies to its own commands, and all of them in
// order: each tells the call and the command that it belongs to.
func (b *backend) check(s fault.Session) {
	if !s.Done && s.Begun {
		b.calls.kill(s.UniqueID, len(s.Replies))
	}
	for i, reply := range s.Replies {
		if want := answer(s.UniqueID, i); reply != want && reply != hangupReply && reply != deadReply {
			b.faults.add("%s got %q as reply %d of call %s; want %q", b.name, reply, i, s.UniqueID, want)
			return
		}
	}
}

// killBackends kills one server after the other, sometimes two at once, never all.
func (s *soak) killBackends(ctx context.Context) {
	random := rand.New(rand.NewPCG(s.seed, 2))
	var down []*backend
	pause := min(10*time.Second, s.length/60)
	for wait(ctx, pause/2+time.Duration(random.Int64N(int64(pause)))) {
		for range 1 + random.IntN(2) {
			if b := s.backends[random.IntN(len(s.backends))]; b.server != nil {
				b.stop()
				s.kills++
				down = append(down, b)
			}
		}
		wait(ctx, pause/4)
		for _, b := range down {
			if err := b.start(); err != nil {
				s.faults.add("start %s again: %v", b.name, err)
			}
		}
		down = nil
	}
}

// wait lets d pass, and reports whether ctx goes on.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
