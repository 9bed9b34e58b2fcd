package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"agiproxy/agi"
)

// header is one of a caller and a script.
func header(script, uniqueID, caller string) []byte {
	return (&agi.Environment{Script: script, UniqueID: uniqueID, CallerID: caller}).AppendTo(nil)
}

func TestListTellsWhatASessionDoes(t *testing.T) {
	s := newStage(Options{}, limits())
	s.accept(netip.MustParseAddrPort("10.0.0.5:41822"))
	s.host.now += time.Second
	only := func() Info {
		t.Helper()
		all := s.server.List(Filter{})
		if len(all) != 1 {
			t.Fatalf("%d sessions are listed; want 1", len(all))
		}
		return all[0]
	}
	want := Info{
		ID: 1, State: "reading", Listener: ":4577", Client: netip.MustParseAddrPort("10.0.0.5:41822"),
		Age: time.Second, Turn: agi.AsterisksTurn, TurnFor: time.Second,
	}
	if got := only(); got != want {
		t.Errorf("in its header: %+v; want %+v", got, want)
	}

	s.handler.Received(header("menu", "1.7", "5551234"))
	s.host.back.handler.Connected()
	s.host.now += 2 * time.Second
	want.State, want.Age, want.Turn, want.TurnFor = "awaiting", 3*time.Second, agi.BackendsTurn, 2*time.Second
	want.Pool, want.Backend, want.Script, want.UniqueID, want.Caller, want.Attempts = "ivr", "ivr1", "menu", "1.7", "5551234", 1
	got := only()
	want.Bytes, want.Channel = got.Bytes, got.Channel
	if got != want || got.Bytes == 0 {
		t.Errorf("before the first command: %+v; want %+v", got, want)
	}

	s.host.back.handler.Received([]byte("GET DATA beep 5000\n"))
	s.host.now += time.Minute
	want.State, want.Age, want.Turn, want.TurnFor, want.Command, want.Commands = "relaying", 63*time.Second, agi.AsterisksTurn, time.Minute, "GET DATA", 1
	want.Bytes += uint64(len("GET DATA beep 5000\n"))
	if got := only(); got != want {
		t.Errorf("in a command: %+v; want %+v", got, want)
	}
	s.handler.Received(okReply)
	want.Turn, want.TurnFor = agi.BackendsTurn, 0
	want.Bytes += uint64(len(okReply))
	if got := only(); got != want {
		t.Errorf("after a reply: %+v; want %+v", got, want)
	}
	if oldest := s.server.Oldest()[s.server.Table().Pools[0].Backends().Backends()[0]]; oldest != 63*time.Second {
		t.Errorf("the oldest session is %v old; want 63s", oldest)
	}
	s.finish()
	if all, oldest := s.server.List(Filter{}), s.server.Oldest(); len(all) > 0 || len(oldest) > 0 {
		t.Errorf("after its end: %+v, %v; want none", all, oldest)
	}
}

func TestListFilters(t *testing.T) {
	s := newStage(Options{}, limits())
	for _, h := range [][]byte{header("menu", "1.1", "100"), header("menu", "1.2", "200"), header("pin", "1.3", "100")} {
		s.accept(asteriskAddr)
		s.handler.Received(h)
		s.host.now += time.Second
	}
	s.accept(asteriskAddr) // in its header
	for _, c := range []struct {
		f    Filter
		want []uint32
	}{
		{Filter{}, []uint32{4, 3, 2, 1}},
		{Filter{ID: 2}, []uint32{2}},
		{Filter{ID: 9}, nil},
		{Filter{Pool: "ivr"}, []uint32{3, 2, 1}},
		{Filter{Pool: "iv"}, nil},
		{Filter{Backend: "ivr1"}, []uint32{3, 2, 1}},
		{Filter{Backend: "ivr2"}, nil},
		{Filter{Script: "menu"}, []uint32{2, 1}},
		{Filter{UniqueID: "1.3"}, []uint32{3}},
		{Filter{Caller: "100"}, []uint32{3, 1}},
		{Filter{Caller: "100", Script: "menu"}, []uint32{1}},
		{Filter{Limit: 2}, []uint32{4, 3}},
		{Filter{Limit: 4}, []uint32{4, 3, 2, 1}},
		{Filter{Script: "menu", Limit: 1}, []uint32{2}},
	} {
		var got []uint32
		for _, i := range s.server.List(c.f) {
			got = append(got, i.ID)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("List(%+v) = %v; want %v", c.f, got, c.want)
		}
	}
}

// A stepHost has something happen before each of its turns.
type stepHost struct {
	fakeHost
	turns  int
	before func()
}

func (h *stepHost) Do(f func()) error {
	h.turns++
	if h.before != nil {
		h.before()
	}
	f()
	return nil
}

// Sessions end and begin while somebody looks at all of them: those that are
// there from beginning to end are seen, each once.
func TestVisitSurvivesChange(t *testing.T) {
	s := newStage(Options{}, limits())
	host := &stepHost{}
	w := s.server.NewWorker(host)
	o := limits()
	o.MaxSessions = 1 << 20
	l := NewListener(":1", o)
	var all []Handler
	accept := func() {
		c := new(fakeConn)
		c.reset(asteriskAddr, nil)
		all = append(all, w.Accept(l, c))
	}
	const n = 5 * mostVisited
	for range n {
		accept()
	}
	seen := map[uint32]int{}
	ended := map[uint32]bool{}
	host.before = func() {
		accept()
		// The one that comes next, its neighbours, and one far from there.
		next := w.sessions.first
		if len(w.sessions.places) > 0 {
			next = w.sessions.places[0].next
		}
		for range 3 {
			if next == nil {
				break
			}
			x := next
			next = x.next
			ended[x.id] = true
			x.AsteriskClosed(nil)
		}
	}
	w.visit(func(x *Session) bool {
		seen[x.id]++
		return true
	})
	host.before = nil
	for id := uint32(1); id <= n; id++ {
		if want := 1; !ended[id] && seen[id] != want {
			t.Errorf("session %d was seen %d times; want %d", id, seen[id], want)
		}
	}
	if len(seen) > n || host.turns < n/mostVisited {
		t.Errorf("%d sessions seen in %d turns; want at most %d in at least %d", len(seen), host.turns, n, n/mostVisited)
	}
	if len(w.sessions.places) > 0 {
		t.Errorf("%d places are kept after the walk", len(w.sessions.places))
	}
}

func TestKillOfNoSession(t *testing.T) {
	s := newStage(Options{}, limits())
	if err := s.server.Kill(1); !errors.Is(err, ErrNoSession) {
		t.Errorf("Kill() = %v; want %v", err, ErrNoSession)
	}
	if _, err := s.server.Trace(1); !errors.Is(err, ErrNoSession) {
		t.Errorf("Trace() = %v; want %v", err, ErrNoSession)
	}
}

// lines takes what a trace has so far.
func (t *Trace) taken() (all []string) {
	for {
		select {
		case l, more := <-t.lines:
			if !more {
				return append(all, "end")
			}
			all = append(all, l.From.String()+" "+l.Text)
		default:
			return all
		}
	}
}

func TestTraceReadsAlong(t *testing.T) {
	s := newStage(Options{}, limits())
	s.establish(plainHeader)
	s.exchange(noop, okReply) // before the trace
	tr, err := s.server.Trace(1)
	if err != nil {
		t.Fatal(err)
	}
	back := s.host.back.handler
	back.Received([]byte("GET VARIABLE x\nNO"))
	s.handler.Received([]byte("200 result=1 (one"))
	s.handler.Received([]byte("\r\ntwo)\r\n"))
	back.Received([]byte("OP\n"))
	s.handler.Received(okReply)
	back.Closed(errors.New("gone")) // with no command under way
	s.handler.Received([]byte("200 result=1\n"))
	s.handler.Closed(nil)
	want := []string{
		"backend GET VARIABLE x", "asterisk 200 result=1 (one", "asterisk two)", "backend NOOP", "asterisk 200 result=0",
		"agiproxy SET VARIABLE AGIPROXYSTATUS BACKENDLOST", "asterisk 200 result=1", "agiproxy failure", "end",
	}
	if got := tr.taken(); !slices.Equal(got, want) {
		t.Errorf("traced\n%q; want\n%q", got, want)
	}
	tr.Close()
	if len(s.worker.traces) > 0 {
		t.Errorf("%d traces are left", len(s.worker.traces))
	}
}

// A line of megabytes is not kept as it is, whoever sends it.
func TestTraceCutsLongLines(t *testing.T) {
	s := newStage(Options{}, limits())
	s.establish(plainHeader)
	tr, err := s.server.Trace(1)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	long := strings.Repeat("x", 3000)
	s.host.back.handler.Received([]byte("VERBOSE " + long + "\n"))
	s.handler.Received([]byte("200 result=1 (" + long + ")\n"))
	want := []string{"backend VERBOSE " + long[:mostShown-len("VERBOSE ")] + Cut, "asterisk 200 result=1 (" + long[:mostShown-len("200 result=1 (")] + Cut}
	if got := tr.taken(); !slices.Equal(got, want) {
		t.Errorf("traced\n%q; want\n%q", got, want)
	}
}

func TestTracesAreLimited(t *testing.T) {
	s := newStage(Options{}, limits())
	s.establish(plainHeader)
	var all []*Trace
	for range mostTraces {
		if _, err := s.server.Trace(99); !errors.Is(err, ErrNoSession) { // which takes none of the room
			t.Errorf("Trace(99) = %v; want %v", err, ErrNoSession)
		}
		tr, err := s.server.Trace(1)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, tr)
	}
	if _, err := s.server.Trace(1); !errors.Is(err, ErrTraces) {
		t.Errorf("Trace() with %d open = %v; want %v", mostTraces, err, ErrTraces)
	}
	all[0].Close()
	all[0].Close() // which makes no more room
	if _, err := s.server.Trace(1); err != nil {
		t.Errorf("Trace() after one was closed = %v; want nil", err)
	}
	if _, err := s.server.Trace(1); !errors.Is(err, ErrTraces) {
		t.Errorf("Trace() with %d open again = %v; want %v", mostTraces, err, ErrTraces)
	}
}

// A reader who takes nothing loses lines, and the session isn't kept waiting.
func TestTraceOfSlowReader(t *testing.T) {
	s := newStage(Options{}, limits())
	s.establish(plainHeader)
	slow, err := s.server.Trace(1)
	if err != nil {
		t.Fatal(err)
	}
	quick, err := s.server.Trace(1)
	if err != nil {
		t.Fatal(err)
	}
	const n = mostTraced
	var got int
	for range n {
		s.exchange(noop, okReply)
		got += len(quick.taken())
	}
	if slow.Lost() != 2*n-mostTraced || quick.Lost() != 0 || got != 2*n {
		t.Errorf("the slow reader lost %d lines, the quick one %d of %d; want %d and 0 of %d", slow.Lost(), quick.Lost(), got, 2*n-mostTraced, 2*n)
	}
	quick.Close()
	if !s.worker.sessions.first.traced {
		t.Error("with one of two traces closed, nobody reads along; want the other")
	}
	slow.Close()
	if s.worker.sessions.first.traced || len(s.worker.traces) > 0 {
		t.Error("with both traces closed, somebody reads along")
	}
	s.exchange(noop, okReply)
	if lines := quick.taken(); lines != nil {
		t.Errorf("after its Close a trace has %q", lines)
	}
	if n := testing.AllocsPerRun(100, func() { s.exchange(noop, okReply) }); n != 0 {
		t.Errorf("%v allocations with nobody reading along; want none", n)
	}
	s.finish()
}

func TestStatesHaveNames(t *testing.T) {
	for st := range ended + 1 {
		if st.String() == "" {
			t.Errorf("state %d has no name", st)
		}
	}
}

// BenchmarkList is ten thousand sessions looked through for one.
func BenchmarkList(b *testing.B) {
	o := limits()
	o.MaxSessions = 1 << 20
	s := newStage(Options{}, o)
	for i := range 10000 {
		s.accept(asteriskAddr)
		s.handler.Received(header("menu", fmt.Sprint("1.", i), "100"))
	}
	for b.Loop() {
		if got := s.server.List(Filter{UniqueID: "1.0"}); len(got) != 1 {
			b.Fatalf("%d sessions", len(got))
		}
	}
}
