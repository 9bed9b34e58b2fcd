package loop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A moving is a connection that goes from loop to loop, with what its handler was
// told: loops of both engines, where the kernel allows it.
type moving struct {
	t     *testing.T
	loops []*Loop
	at    int // which of them has it
	conn  *Conn
	peer  *net.TCPConn

	mu   sync.Mutex // of what follows, which the loops' threads note
	got  bytes.Buffer
	told []string
	echo bool
}

// newMoving returns a connection that the first loop has accepted.
func newMoving(t *testing.T, loops ...*Loop) *moving {
	m := &moving{t: t, loops: loops}
	ln := listen(t, "127.0.0.1:0")
	serve(t, loops[0], ln, func(c *Conn) Handler {
		m.conn = c
		return m.handler()
	})
	m.peer = dial(t, ln.Addr())
	eventually(t, loops[0], "the connection was accepted", func() bool { return m.conn != nil })
	return m
}

func (m *moving) note(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = append(m.told, fmt.Sprintf(format, args...))
}

func (m *moving) handler() Handler {
	return &hooks{
		received: func(p []byte) {
			m.mu.Lock()
			m.got.Write(p)
			m.mu.Unlock()
			if m.echo {
				m.conn.Write(p)
			}
		},
		drained:  func() { m.note("drained") },
		closed:   func(err error) { m.note("closed: %v", err) },
		timedOut: func() { m.note("timed out") },
	}
}

// on runs f on the loop that has the connection.
func (m *moving) on(f func()) { m.t.Helper(); on(m.t, m.loops[m.at], f) }

// freeze freezes the connection and returns when it is.
func (m *moving) freeze() {
	m.t.Helper()
	done := make(chan struct{})
	m.on(func() { m.loops[m.at].Freeze([]*Conn{m.conn}, func() { close(done) }) })
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		m.t.Fatal("the connection is not frozen")
	}
}

// thaw goes on, on the next loop.
func (m *moving) thaw() {
	m.t.Helper()
	var fd int
	var state *State
	m.on(func() {
		var err error
		if fd, err = duplicate(m.conn.FD()); err != nil {
			m.t.Error(err)
		}
		state = m.conn.State()
		state.In, state.Out = slices.Clone(state.In), slices.Clone(state.Out)
		m.conn.Close()
	})
	m.at = (m.at + 1) % len(m.loops)
	m.on(func() {
		m.conn = m.loops[m.at].Attach(fd, state)
		m.conn.Handle(m.handler())
		m.conn.Thaw()
	})
}

// thawHere goes on where it was.
func (m *moving) thawHere() { m.t.Helper(); m.on(func() { m.conn.Thaw() }) }

func (m *moving) received() string { m.mu.Lock(); defer m.mu.Unlock(); return m.got.String() }
func (m *moving) heard() []string  { m.mu.Lock(); defer m.mu.Unlock(); return slices.Clone(m.told) }

func (m *moving) wantReceived(want string) {
	m.t.Helper()
	eventually(m.t, m.loops[m.at], fmt.Sprintf("%q was received", want), func() bool { return len(m.received()) >= len(want) })
	if got := m.received(); got != want {
		m.t.Errorf("received %q; want %q", got, want)
	}
}

func (m *moving) wantTold(want ...string) {
	m.t.Helper()
	eventually(m.t, m.loops[m.at], fmt.Sprintf("%q was told", want), func() bool { return len(m.heard()) >= len(want) })
	if got := m.heard(); !slices.Equal(got, want) {
		m.t.Errorf("told %q; want %q", got, want)
	}
}

func (m *moving) send(text string) {
	m.t.Helper()
	if _, err := io.WriteString(m.peer, text); err != nil {
		m.t.Error(err)
	}
}

// settle gives the loop the time to be told what the kernel knows.
func (m *moving) settle() {
	m.t.Helper()
	for range 3 {
		m.on(func() {})
	}
}

// engines are those that the kernel allows.
func engines(t *testing.T) []Engine {
	all := []Engine{Epoll}
	if l, err := New(Options{Engine: IOURing}); err == nil {
		all = append(all, IOURing)
		l.Stop()
		l.Run()
	} else {
		t.Logf("the kernel doesn't allow io_uring: %v", err)
	}
	return all
}

// startWith runs a loop of that engine until the test is over.
func startWith(t *testing.T, e Engine) *Loop {
	t.Helper()
	l, err := New(Options{Engine: e})
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- l.Run() }()
	t.Cleanup(func() {
		l.Stop()
		if err := <-ran; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	return l
}

// TestFreeze freezes a connection in all that it can be in the middle of, and
// goes on with it: on the same loop, and on one of each engine.
func TestFreeze(t *testing.T) {
	large := bytes.Repeat([]byte("0123456789abcdef"), 512<<10)
	cases := []struct {
		name string
		play func(m *moving, thaw func())
	}{
		{"nothing is under way", func(m *moving, thaw func()) {
			m.send("one ")
			m.wantReceived("one ")
			m.freeze()
			thaw()
			m.send("two")
			m.wantReceived("one two")
			m.on(func() { m.conn.Write([]byte("three")) })
			m.wantPeerReads("three")
		}},
		{"bytes arrive meanwhile", func(m *moving, thaw func()) {
			m.freeze()
			m.send("late")
			m.settle()
			if got := m.received(); got != "" {
				m.t.Errorf("received %q when frozen; want nothing", got)
			}
			thaw()
			m.wantReceived("late")
		}},
		{"bytes were received in a pause", func(m *moving, thaw func()) {
			m.on(func() { m.conn.Pause() })
			m.send("early ")
			m.settle()
			m.freeze()
			m.send("late")
			thaw()
			m.settle()
			if got := m.received(); got != "" {
				m.t.Errorf("received %q in a pause; want nothing", got)
			}
			m.on(func() { m.conn.Resume() })
			m.wantReceived("early late")
		}},
		{"an end was received in a pause", func(m *moving, thaw func()) {
			m.on(func() { m.conn.Pause() })
			m.send("last")
			m.peer.CloseWrite()
			m.settle()
			m.freeze()
			thaw()
			m.on(func() { m.conn.Resume() })
			m.wantReceived("last")
			m.wantTold("closed: <nil>")
		}},
		{"an end comes meanwhile", func(m *moving, thaw func()) {
			m.freeze()
			m.send("last")
			m.peer.CloseWrite()
			m.settle()
			if got := m.heard(); len(got) > 0 {
				m.t.Errorf("told %q when frozen; want nothing", got)
			}
			thaw()
			m.wantReceived("last")
			m.wantTold("closed: <nil>")
		}},
		{"a reset comes meanwhile", func(m *moving, thaw func()) {
			m.freeze()
			m.peer.SetLinger(0)
			m.peer.Close()
			m.settle()
			thaw()
			m.wantTold("closed: " + syscall.ECONNRESET.Error())
		}},
		{"a reset comes in a pause", func(m *moving, thaw func()) {
			m.on(func() { m.conn.Pause() })
			m.settle()
			m.peer.SetLinger(0)
			m.peer.Close()
			m.settle()
			m.freeze()
			thaw()
			m.on(func() { m.conn.Resume() })
			m.wantTold("closed: " + syscall.ECONNRESET.Error())
		}},
		{"a reset comes after the end", func(m *moving, thaw func()) {
			m.peer.CloseWrite()
			m.wantTold("closed: <nil>")
			m.freeze()
			thaw()
			m.settle()
			m.peer.SetLinger(0)
			m.peer.Close()
			m.wantTold("closed: <nil>", "closed: "+syscall.EPIPE.Error())
		}},
		{"bytes are kept", func(m *moving, thaw func()) {
			m.on(func() { m.conn.Write(large) })
			m.freeze()
			thaw()
			m.wantPeerReads(string(large))
			m.wantTold("drained")
		}},
		{"bytes are kept, and taken meanwhile", func(m *moving, thaw func()) {
			m.on(func() { m.conn.Write(large) })
			m.freeze()
			read := make(chan struct{})
			go func() { defer close(read); m.wantPeerReads(string(large)) }()
			thaw()
			<-read
			m.wantTold("drained")
		}},
		{"an end of ours is behind what is kept", func(m *moving, thaw func()) {
			m.on(func() { m.conn.Write(large); m.conn.CloseWrite() })
			m.freeze()
			thaw()
			m.wantPeerReads(string(large))
			if _, err := m.peer.Read(make([]byte, 1)); err != io.EOF {
				m.t.Errorf("the peer reads %v; want an end", err)
			}
		}},
		{"our end is sent", func(m *moving, thaw func()) {
			m.on(func() { m.conn.CloseWrite() })
			m.freeze()
			thaw()
			m.send("more")
			m.wantReceived("more")
		}},
		{"a write has failed", func(m *moving, thaw func()) {
			m.peer.SetLinger(0)
			m.on(func() { m.conn.Pause() })
			m.peer.Close()
			m.settle()
			m.on(func() { m.conn.Write([]byte("in vain")) })
			m.freeze()
			thaw()
			m.on(func() { m.conn.Resume() })
			m.wantTold("closed: " + syscall.ECONNRESET.Error())
		}},
		{"a timer runs", func(m *moving, thaw func()) {
			m.on(func() { m.conn.SetTimer(m.loops[m.at].Now() + 20*time.Millisecond) })
			m.freeze()
			thaw()
			m.wantTold("timed out")
		}},
		{"a timer was stopped", func(m *moving, thaw func()) {
			m.on(func() { m.conn.SetTimer(m.loops[m.at].Now() + time.Millisecond); m.conn.SetTimer(0) })
			m.freeze()
			thaw()
			m.send("x")
			m.wantReceived("x")
			if got := m.heard(); len(got) > 0 {
				m.t.Errorf("told %q; want nothing", got)
			}
		}},
	}
	for _, from := range engines(t) {
		for _, to := range append(engines(t), "") {
			for _, c := range cases {
				t.Run(fmt.Sprintf("%s/%s/%s", from, to, c.name), func(t *testing.T) {
					if to == "" {
						m := newMoving(t, startWith(t, from))
						c.play(m, m.thawHere)
						return
					}
					m := newMoving(t, startWith(t, from), startWith(t, to))
					c.play(m, m.thaw)
				})
			}
		}
	}
}

func (m *moving) wantPeerReads(want string) {
	m.t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(m.peer, got); err != nil || string(got) != want {
		m.t.Errorf("the peer reads %d bytes, %v, as they were written: %v; want %d", n, err, string(got) == want, len(want))
	}
}

// TestMovesKeepEveryByte has a connection go from loop to loop while a peer sends
// and checks what comes back.
func TestMovesKeepEveryByte(t *testing.T) {
	var loops []*Loop
	for range 2 {
		for _, e := range engines(t) {
			loops = append(loops, startWith(t, e))
		}
	}
	m := newMoving(t, loops...)
	m.echo = true
	random := rand.NewChaCha8([32]byte{1})
	sent, all := make(chan struct{}), make([]byte, 8<<20)
	random.Read(all)
	go func() {
		defer close(sent)
		r := rand.New(random)
		for rest := all; len(rest) > 0; {
			n := min(1+r.IntN(64<<10), len(rest))
			if _, err := m.peer.Write(rest[:n]); err != nil {
				t.Error(err)
				return
			}
			rest = rest[n:]
		}
	}()
	back := make(chan error, 1)
	go func() {
		got := make([]byte, len(all))
		_, err := io.ReadFull(m.peer, got)
		if err == nil && !bytes.Equal(got, all) {
			err = errors.New("it is not what was sent")
		}
		back <- err
	}()
	moves := 0
	for {
		select {
		case err := <-back:
			<-sent
			if err != nil || moves == 0 {
				t.Errorf("after %d moves, what came back: %v", moves, err)
			}
			return
		default:
			m.freeze()
			m.thaw()
			moves++
		}
	}
}

// TestFrozenCloseIsNobodysEnd has one of two who have a connection give it up.
func TestFrozenCloseIsNobodysEnd(t *testing.T) {
	for _, e := range engines(t) {
		t.Run(string(e), func(t *testing.T) {
			m := newMoving(t, startWith(t, e))
			m.on(func() { m.conn.Pause() })
			m.send("unread")
			m.settle()
			m.freeze()
			other := startWith(t, e)
			on(t, other, func() {
				fd, err := duplicate(m.conn.FD())
				if err != nil {
					t.Error(err)
				}
				other.Attach(fd, m.conn.State()).Close()
			})
			other.Stop() // which closes what it has
			m.thawHere()
			m.on(func() { m.conn.Resume(); m.conn.Write([]byte("still here")) })
			m.wantReceived("unread")
			m.wantPeerReads("still here")
			m.on(func() { m.conn.Close() })
			if _, err := m.peer.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("the peer reads %v; want an end", err)
			}
		})
	}
}

// A connection that is frozen right after its peer's end is watched once, or the
// watch that nobody knows of would keep it open.
func TestFrozenAtTheEndIsClosed(t *testing.T) {
	for _, e := range engines(t) {
		m := newMoving(t, startWith(t, e))
		if err := m.peer.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		m.wantTold("closed: <nil>")
		m.freeze()
		m.thawHere()
		time.Sleep(30 * time.Millisecond) // the watch has begun
		m.on(func() { m.conn.Close() })
		_ = m.peer.SetReadDeadline(time.Now().Add(5 * time.Second))
		if n, err := m.peer.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%s: the peer reads %d bytes, %v; want the end", e, n, err)
		}
	}
}

// restless is an engine that never gets to rest.
type restless struct{ engine }

func (restless) still(*Conn) bool { return false }

// A Freeze that the kernel doesn't end is given up, and all goes on.
func TestStopFreezing(t *testing.T) {
	for _, e := range engines(t) {
		for name, again := range map[string]func(m *moving){
			"in a dialogue": func(m *moving) {
				m.send("after")
				m.wantReceived("before after")
				m.on(func() { m.conn.Write([]byte("answer")) })
				m.wantPeerReads("answer")
			},
			"with bytes kept": func(m *moving) {
				m.wantPeerReads(strings.Repeat("0123456789abcdef", 512<<10))
				m.wantTold("drained")
			},
			"after the end": func(m *moving) {
				time.Sleep(3 * watchedAfter)
				m.peer.SetLinger(0)
				m.peer.Close()
				m.wantTold("closed: <nil>", "closed: "+syscall.EPIPE.Error())
			},
		} {
			t.Run(string(e)+"/"+name, func(t *testing.T) {
				m := newMoving(t, startWith(t, e))
				m.send("before ")
				m.wantReceived("before ")
				switch name {
				case "with bytes kept":
					m.on(func() { m.conn.Write([]byte(strings.Repeat("0123456789abcdef", 512<<10))) })
				case "after the end":
					m.peer.CloseWrite()
					m.wantTold("closed: <nil>")
					time.Sleep(3 * watchedAfter) // until it is watched
				}
				called := 0
				m.on(func() {
					l := m.loops[0]
					l.engine = restless{l.engine}
					l.Freeze([]*Conn{m.conn}, func() { called++ })
				})
				m.settle()
				m.on(func() {
					l := m.loops[0]
					if len(l.freezing) != 1 || called != 0 {
						t.Errorf("%d are freezing, %d done; want 1 and 0: it never rests", len(l.freezing), called)
					}
					l.StopFreezing()
					l.engine = l.engine.(restless).engine
				})
				m.settle()
				m.on(func() {
					if called != 0 {
						t.Error("done was called after StopFreezing")
					}
				})
				m.thawHere()
				again(m)
			})
		}
		// A Thaw in the same moment as the Freeze: the kernel has heard of neither.
		t.Run(string(e)+"/at once", func(t *testing.T) {
			m := newMoving(t, startWith(t, e))
			m.peer.CloseWrite()
			m.wantTold("closed: <nil>")
			time.Sleep(3 * watchedAfter)
			m.on(func() {
				m.loops[0].Freeze([]*Conn{m.conn}, func() { t.Error("done was called after StopFreezing") })
				m.loops[0].StopFreezing()
				m.conn.Thaw()
			})
			time.Sleep(3 * watchedAfter)
			m.peer.SetLinger(0)
			m.peer.Close()
			m.wantTold("closed: <nil>", "closed: "+syscall.EPIPE.Error())
		})
	}
}

// watchedAfter is more than io_uring takes to watch a connection that has ended.
const watchedAfter = 10 * time.Millisecond
