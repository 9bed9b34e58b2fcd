package proxy

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"agiproxy/balancer"
	"agiproxy/internal/sim"
)

// handOver has another worker go on with the sessions of one that can move, and
// returns how many those are.
func handOver(t testing.TB, from, to *Worker, l *Listener) int {
	t.Helper()
	all := from.Freeze()
	var sent, got []*Moved
	for _, s := range all {
		sent = append(sent, s.Move())
	}
	var wire bytes.Buffer
	if err := gob.NewEncoder(&wire).Encode(sent); err != nil {
		t.Fatal(err)
	}
	if err := gob.NewDecoder(&wire).Decode(&got); err != nil {
		t.Fatal(err)
	}
	for i, s := range all {
		m := got[i]
		_, o, _ := s.PoolOptions()
		f, b := s.Conns()
		toFront, toBack, err := to.Restore(m, l, o, f, b)
		if err != nil {
			t.Fatalf("Restore(%+v): %v", m, err)
		}
		handle(f, toFront)
		if b != nil {
			handle(b, toBack)
		}
	}
	from.Release()
	to.Thaw()
	return len(all)
}

// handle has a connection of these tests tell another handler.
func handle(c Conn, h Handler) {
	switch c := c.(type) {
	case interface{ Handle(sim.Handler) }:
		c.Handle(h)
	case *slowConn:
		handle(c.Conn, h)
	case *fakeConn:
		c.handler = h
	default:
		panic(fmt.Sprintf("a %T has no handler", c))
	}
}

// TestDialoguesMove plays every dialogue with another process after each of its
// lines: nobody notices.
func TestDialoguesMove(t *testing.T) {
	files, err := filepath.Glob("testdata/*.dialogue")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".dialogue"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, late := range []bool{false, true} {
				p := newPlayer(t)
				p.late, p.moves = late, true
				p.run(string(text))
				p.finish()
			}
		})
	}
}

// A tape is what one connection was told to do.
type tape struct {
	fakeConn
	did bytes.Buffer
}

func (c *tape) Write(p []byte) { c.did.Write(p) }
func (c *tape) CloseWrite()    { c.did.WriteString("<end>") }
func (c *tape) Close()         { c.did.WriteString("<close>") }
func (c *tape) SetTimer(at time.Duration) {
	fmt.Fprintf(&c.did, "<timer %v>", at)
	c.fakeConn.SetTimer(at)
}

// tapeHost makes tapes.
type tapeHost struct {
	now  time.Duration
	back *tape
}

func (h *tapeHost) Now() time.Duration { return h.now }
func (h *tapeHost) Do(f func()) error  { f(); return nil }
func (h *tapeHost) Connect(addr netip.AddrPort, hd Handler) Conn {
	h.back = &tape{fakeConn: fakeConn{remote: addr, handler: hd}}
	return h.back
}

// A taping is a session over tapes, which may move.
type taping struct {
	host        tapeHost
	front       tape
	w           *Worker
	l           *Listener
	record      *Record
	make        func() *Worker
	wentThrough []string
}

func newTaping(opts PoolOptions) *taping {
	x := &taping{}
	opts.Attempts = max(opts.Attempts, 2)
	x.make = func() *Worker {
		var backends []*balancer.Backend
		for i := range 2 {
			b := balancer.NewBackend(fmt.Sprintf("ivr%d", i+1), backendAddr(i).String())
			b.SetAddr(backendAddr(i))
			backends = append(backends, b)
		}
		s := NewServer(Options{Ended: func(r Record) { x.record = &r }})
		pool := NewPool("ivr", opts, balancer.NewPool(inOrder{}, balancer.Options{Queue: 5}, backends))
		s.Swap(&Table{Pools: []*Pool{pool}, Routes: []Route{{Pool: "ivr"}}})
		return s.NewWorker(&x.host)
	}
	x.w, x.l = x.make(), NewListener(":4577", limits())
	x.host.now = time.Hour
	x.front.remote = asteriskAddr
	x.front.handler = x.w.Accept(x.l, &x.front)
	return x
}

// move has another process go on.
func (x *taping) move(t testing.TB) {
	before := x.w
	x.w = x.make()
	for s := range before.sessions.all() {
		x.wentThrough = append(x.wentThrough, fmt.Sprint(s.state))
	}
	all := before.Freeze()
	if len(all) == 0 {
		x.w = before
		return
	}
	for _, s := range all {
		f, b := s.Conns()
		_, o, _ := s.PoolOptions()
		m := s.Move()
		toF, toB, err := x.w.Restore(m, x.l, o, f, b)
		if err != nil {
			t.Fatalf("Restore(%+v): %v", m, err)
		}
		f.(*tape).handler = toF
		if b != nil {
			b.(*tape).handler = toB
		}
	}
	before.Release()
	x.w.Thaw()
}

// talk is a call's whole life, as bytes and ends of both sides.
var talk = []struct{ who, what string }{
	{"front", string(plainHeader)},
	{"back", "connected"},
	{"back", "ANSWER\n"},
	{"front", "200 result=0\n"},
	{"back", "GET VARIABLE x\nNOOP\n"},
	{"front", "200 result=1 (a\nHANGUP\nb)\n200 result=0\n"},
	{"back", "BOGUS\n"},
	{"front", "520-Invalid command syntax.  Proper usage follows:\nusage\n520 End of proper usage.\n"},
	{"back", "STREAM FILE a 5\n"},
	{"front", "200 result=-1 endpos=0\nHANGUP\n"},
	{"back", "VERBOSE bye\n"},
	{"front", "200 result=1\n"},
	{"back", "end"},
	{"front", "end"},
}

// play plays talk byte by byte, and moves the session after as many bytes as
// each says.
func (x *taping) play(t testing.TB, at ...int) {
	n := 0
	step := func() {
		if n++; slices.Contains(at, n) {
			x.move(t)
		}
		x.host.now += time.Millisecond
	}
	for _, line := range talk {
		side := func() Handler {
			if line.who == "front" {
				return x.front.handler
			}
			return x.host.back.handler
		}
		switch line.what {
		case "connected":
			side().Connected()
			step()
		case "end":
			side().Closed(nil)
			step()
		default:
			for _, c := range []byte(line.what) {
				side().Received([]byte{c})
				step()
			}
		}
	}
}

// TestMoveAnywhere moves a session after each byte of its life, once and
// again and again: what it tells both sides, its timers, and its record are those
// of one that stays.
func TestMoveAnywhere(t *testing.T) {
	for name, opts := range map[string]PoolOptions{
		"plain":  {HangupTimeout: time.Minute},
		"limits": {HangupTimeout: time.Minute, ThinkTimeout: time.Second, FirstCommandTimeout: time.Second, DispatchTimeout: 3 * time.Second},
		"resume": {HangupTimeout: time.Minute, OnLoss: LossResume},
	} {
		t.Run(name, func(t *testing.T) {
			stays := newTaping(opts)
			stays.play(t)
			all := 0
			for _, line := range talk {
				all += len(line.what)
			}
			var always []int
			through := map[string]bool{}
			compare := func(at ...int) {
				x := newTaping(opts)
				x.play(t, at...)
				for _, c := range []struct{ side, got, want string }{
					{"Asterisk", x.front.did.String(), stays.front.did.String()},
					{"the backend", x.host.back.did.String(), stays.host.back.did.String()},
				} {
					if c.got != c.want {
						t.Fatalf("moved after %v, %s was told\n%q; want\n%q", at, c.side, c.got, c.want)
					}
				}
				if x.record == nil || !reflect.DeepEqual(*x.record, *stays.record) {
					t.Fatalf("moved after %v, the record is\n%+v; want\n%+v", at, x.record, stays.record)
				}
				for _, s := range x.wentThrough {
					through[s] = true
				}
			}
			for i := 1; i <= all; i++ {
				compare(i)
				always = append(always, i)
			}
			compare(always...)
			if len(through) < 4 {
				t.Errorf("moved in states %v; want all of reading, awaiting, relaying, closing", through)
			}
		})
	}
}

// TestMovedWaits moves a session that waits for a slot, with and without music,
// and one before it: they are served in the order in which they came.
func TestMovedWaits(t *testing.T) {
	for _, music := range []string{"", "default"} {
		var served []string
		make := func(h Host) (*Worker, *balancer.Backend) {
			b := balancer.NewBackend("ivr1", backendAddr(0).String())
			b.SetAddr(backendAddr(0))
			b.Configure(1, 1, false)
			s := NewServer(Options{})
			pool := NewPool("ivr", PoolOptions{QueueTimeout: time.Minute, Attempts: 1, Music: music}, balancer.NewPool(inOrder{}, balancer.Options{Queue: 5}, []*balancer.Backend{b}))
			s.Swap(&Table{Pools: []*Pool{pool}, Routes: []Route{{Pool: "ivr"}}})
			return s.NewWorker(h), b
		}
		h := &tapeHost{now: time.Hour}
		w, _ := make(h)
		l := NewListener(":4577", limits())
		var fronts []*tape
		for range 3 {
			f := &tape{fakeConn: fakeConn{remote: asteriskAddr}}
			f.handler = w.Accept(l, f)
			f.handler.Received(plainHeader)
			fronts = append(fronts, f)
			h.now += time.Second
		}
		h.back.handler.Connected()
		h.back.handler.Received(noop)
		next, b := make(h)
		first := h.back
		handOverTapes(t, w, next, l)
		if got := next.server.Table().Pools[0].Backends().Waiting(); got != 2 || b.Sessions() != 1 {
			t.Errorf("%d wait and %d are served after the move; want 2 and 1", got, b.Sessions())
		}
		if w.server.Sessions() != 0 || next.server.Sessions() != 3 {
			t.Errorf("%d sessions are left, %d came; want 0 and 3", w.server.Sessions(), next.server.Sessions())
		}
		for _, f := range fronts[1:] {
			if music != "" {
				f.handler.Received(okReply) // to SET MUSIC ON
			}
		}
		first.handler.Received(noop)
		fronts[0].handler.Received([]byte("200 result=0\n200 result=0\n"))
		first.handler.Closed(nil)
		fronts[0].handler.Closed(nil)
		if music != "" {
			fronts[1].handler.Received(okReply) // to SET MUSIC OFF
			served = append(served, fronts[1].did.String())
			if !strings.Contains(served[0], "SET MUSIC ON default\n") || !strings.Contains(served[0], "SET MUSIC OFF\n") || strings.Contains(fronts[2].did.String(), "OFF") {
				t.Errorf("the two that wait were told %q and %q; want music on for both, and off for the first", served[0], fronts[2].did.String())
			}
		}
		if h.back == first || b.Sessions() != 1 {
			t.Fatal("nobody was given the slot")
		}
		h.back.handler.Connected()
		if !strings.Contains(h.back.did.String(), string(plainHeader)) {
			t.Errorf("the backend got %q; want the header", h.back.did.String())
		}
		for _, f := range fronts[1:] {
			f.handler.Closed(nil)
		}
		h.back.handler.Closed(nil)
	}
}

func handOverTapes(t *testing.T, from, to *Worker, l *Listener) {
	for _, s := range from.Freeze() {
		f, b := s.Conns()
		toF, toB, err := to.Restore(s.Move(), l, PoolOptions{}, f, b)
		if err != nil {
			t.Fatal(err)
		}
		f.(*tape).handler = toF
		if b != nil {
			b.(*tape).handler = toB
		}
	}
	from.Release()
	to.Thaw()
}

// TestThawIsAsIfNothingHadBeen freezes and goes on.
func TestThawIsAsIfNothingHadBeen(t *testing.T) {
	s := newStage(Options{}, limits())
	s.establish(plainHeader)
	if got := s.worker.Freeze(); len(got) != 1 {
		t.Fatalf("%d sessions are frozen; want 1", len(got))
	}
	s.worker.Stop() // knows nothing of it
	s.worker.Lose(s.server.Table().Pools[0].Backends().Backends()[0], ErrDown)
	s.worker.Thaw()
	s.exchange(noop, okReply)
	s.finish()
	if s.server.Sessions() != 0 || s.worker.counts.pool("ivr").ended[Completed] != 1 {
		t.Errorf("%d sessions left, ended %v; want one completed", s.server.Sessions(), s.worker.counts.pool("ivr").ended)
	}
}

// TestMovedToAnotherConfiguration has neither pool nor backend where the session
// moves: it goes on with its own.
func TestMovedToAnotherConfiguration(t *testing.T) {
	s := newStage(Options{}, limits())
	s.establish(plainHeader)
	var record Record
	next := NewServer(Options{Ended: func(r Record) { record = r }})
	w := next.NewWorker(&s.host)
	all := s.worker.Freeze()
	name, o, ok := all[0].PoolOptions()
	if name != "ivr" || !ok || o.HangupTimeout != time.Minute {
		t.Errorf("PoolOptions() = %q, %+v, %v", name, o, ok)
	}
	f, b := all[0].Conns()
	toF, toB, err := w.Restore(all[0].Move(), s.listener, o, f, b)
	if err != nil {
		t.Fatal(err)
	}
	s.handler, s.host.back.handler = toF, toB
	s.worker.Release()
	w.Thaw()
	if got := next.Retired(); len(got) != 1 || got[0].Pool != "ivr" || got[0].Backend.Sessions() != 1 {
		t.Errorf("draining %+v; want the backend that isn't there any more", got)
	}
	s.exchange(noop, okReply)
	s.host.back.handler.Closed(fmt.Errorf("x")) // so that the balancer is told
	s.handler.Received([]byte("200 result=1\n"))
	s.handler.Closed(nil)
	if record.Outcome != Lost || record.Pool != "ivr" || record.Backend != "ivr1" || next.Sessions() != 0 || len(next.Retired()) != 0 {
		t.Errorf("record %+v, %d sessions, draining %v", record, next.Sessions(), next.Retired())
	}
}

// TestRestoreChecks has descriptions that no session can have.
func TestRestoreChecks(t *testing.T) {
	s := newStage(Options{}, limits())
	s.establish(plainHeader)
	good := s.worker.Freeze()[0].Move()
	for name, spoil := range map[string]func(*Moved){
		"reading":      func(m *Moved) { m.State = uint8(reading) },
		"far state":    func(m *Moved) { m.State = 200 },
		"outcome":      func(m *Moved) { m.Outcome = 100 },
		"no pool":      func(m *Moved) { m.Pool = "" },
		"no backend":   func(m *Moved) { m.Backend.Name = "" },
		"no last":      func(m *Moved) { m.Last = "" },
		"no back":      func(m *Moved) { m.HasBack = false },
		"queued":       func(m *Moved) { m.State = uint8(queued) },
		"no dispatch":  func(m *Moved) { m.State = uint8(awaiting) },
		"bad header":   func(m *Moved) { m.Dispatch = &MovedDispatch{Header: []byte("GET /\n")} },
		"half header":  func(m *Moved) { m.Dispatch = &MovedDispatch{Header: []byte("agi_network: yes\n")} },
		"bad dialogue": func(m *Moved) { m.Dialogue.Reply = 9 },
	} {
		m := *good
		spoil(&m)
		next := NewServer(Options{})
		w := next.NewWorker(&s.host)
		if _, _, err := w.Restore(&m, s.listener, PoolOptions{}, s.front, &s.host.back); err == nil || next.Sessions() != 0 || w.frozen.first != nil {
			t.Errorf("%s: error %v, %d sessions; want an error and nothing", name, err, next.Sessions())
		}
	}
	s.worker.Thaw()
	s.finish()
}

// TestCountsMove takes the counts twice and gives them to another server.
func TestCountsMove(t *testing.T) {
	s := newStage(Options{}, limits())
	s.establish(plainHeader)
	s.worker.counts.reject(s.listener, "late")
	next := NewServer(Options{})
	next.NewWorker(&s.host)
	want := s.server.counts()
	for range 2 {
		var wire bytes.Buffer
		if err := gob.NewEncoder(&wire).Encode(s.server.TakeCounts()); err != nil {
			t.Fatal(err)
		}
		var c Counted
		if err := gob.NewDecoder(&wire).Decode(&c); err != nil {
			t.Fatal(err)
		}
		next.GiveCounts(&c)
		if got := next.counts(); !reflect.DeepEqual(got.export(), want.export()) {
			t.Errorf("counted\n%+v; want\n%+v", got.export(), want.export())
		}
		want.add(func() *counts { s.exchange(noop, okReply); return s.server.counts() }())
	}
	s.finish()
	if n := s.server.counts().pool("ivr").ended[Completed]; n != 1 {
		t.Errorf("%d sessions counted after the counts were taken; want 1", n)
	}
	x := CountedTimes{Bounds: []time.Duration{time.Second}, Buckets: []uint64{3, 2}, Sum: 5}
	h := newHistogram([]time.Duration{time.Millisecond, 2 * time.Second})
	if x.addTo(&h); !slices.Equal(h.buckets, []uint64{0, 3, 2}) || h.sum != 5 {
		t.Errorf("another version's histogram became %v; want 0, 3, 2", h.buckets)
	}
}
