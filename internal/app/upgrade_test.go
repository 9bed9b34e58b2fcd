package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"agiproxy/admin"
	"agiproxy/balancer"
	"agiproxy/internal/agisim"
	"agiproxy/internal/handover"
	"agiproxy/proxy"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// A sibling is a successor in the same process.
type sibling struct{ reload func() error }

func (sibling) PID() int        { return 0 }
func (s sibling) Reload() error { return s.reload() }
func (sibling) Kill()           {} // it sees the other hang up, and ends

// inheritedSocket returns what a process of its own would have inherited.
func inheritedSocket(t *testing.T, socket *os.File) *os.File {
	t.Helper()
	fd, err := descriptor(socket)
	if err == nil {
		fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "handover")
}

// upgrade has another App, with that file, take over, and returns it.
func (p *program) upgrade(file string) *program {
	p.t.Helper()
	return p.upgradeBy(file, p.Upgrade)
}

// upgradeBy does so by an order.
func (p *program) upgradeBy(file string, order func() (admin.Upgrade, error)) *program {
	p.t.Helper()
	eventually(p.t, "it serves", func() bool { return p.log.count("listening") > 0 })
	next := &program{t: p.t, log: &journal{t: p.t}, file: file, end: make(chan error, 1), stop: func() {}}
	made := make(chan error, 1)
	p.opts.Begin = func(socket *os.File) (Successor, error) {
		before, err := NewPredecessor(inheritedSocket(p.t, socket))
		if err != nil {
			return nil, err
		}
		go func() {
			cfg, err := next.read()
			if err != nil {
				before.Refuse(err)
				made <- err
				return
			}
			next.App, err = New(Options{
				Config: cfg, Reload: next.read, Predecessor: before, Version: "next",
				Log: hclog.New(&hclog.LoggerOptions{Output: next.log, Level: hclog.Debug, Name: "next"}),
			})
			if err == nil {
				next.run()
			}
			made <- err
		}()
		return sibling{func() error { return next.Reload() }}, nil
	}
	u, err := order()
	if err2 := <-made; err != nil || err2 != nil {
		p.t.Fatalf("Upgrade() = %v, New() = %v; want nil", err, err2)
	}
	if u.Version != "next" || !(0 < u.Frozen && u.Frozen < u.Duration) {
		p.t.Errorf("upgraded: %+v; want the new one's version, and times", u)
	}
	eventually(p.t, "the new one serves", func() bool { return next.log.count("listening") > 0 })
	return next
}

// failingUpgrade has a process take over that does so as far as steps say, which
// must fail.
func (p *program) failingUpgrade(steps func(*handover.New)) error {
	p.t.Helper()
	eventually(p.t, "it serves", func() bool { return p.log.count("listening") > 0 }) // else no step is taken, which some wait for
	var wg sync.WaitGroup
	p.opts.Begin = func(socket *os.File) (Successor, error) {
		n, err := handover.Open(inheritedSocket(p.t, socket))
		if err != nil {
			return nil, err
		}
		wg.Go(func() {
			defer n.Close()
			steps(n)
		})
		return sibling{}, nil
	}
	_, err := p.Upgrade()
	wg.Wait()
	if err == nil {
		p.t.Fatal("Upgrade() = nil; want an error")
	}
	return err
}

// askUpgrade orders an upgrade on the admin port.
func (p *program) askUpgrade() (u admin.Upgrade, err error) {
	resp, err := http.Post("http://"+p.AdminAddr()+"/api/v1/upgrade", "", nil)
	if err != nil {
		return u, err
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != 200 {
		err = fmt.Errorf("%d %s", resp.StatusCode, body)
	}
	if err == nil {
		err = json.Unmarshal(body, &u)
	}
	return u, err
}

// The process that is asked closes its admin port because of that, and answers all
// the same.
func TestUpgradeOnTheAdminPort(t *testing.T) {
	s := startServer(t, "ivr1")
	f := file(unprobed, s.entry(""))
	p := serve(t, f)
	held := hold(t, p.addr(0), "hold", s)
	next := p.upgradeBy(f, func() (admin.Upgrade, error) {
		u, err := p.askUpgrade()
		if u.Moved != 1 || u.Left != 0 {
			t.Errorf("moved: %+v; want 1 session", u)
		}
		return u, err
	})
	p.ended()
	next.opts.Begin = func(*os.File) (Successor, error) { return nil, errors.New("no such program") }
	if _, err := next.askUpgrade(); err == nil || !strings.Contains(err.Error(), "422 ") || !strings.Contains(err.Error(), "no such program") {
		t.Errorf("an upgrade to no program: %v; want 422, and why", err)
	}
	next.opts.Begin = nil
	if _, err := next.askUpgrade(); err == nil || !strings.Contains(err.Error(), "409 ") {
		t.Errorf("an upgrade of one that can't start any: %v; want 409", err)
	}
	s.release()
	held.wantServed("ivr1")
}

// Between the hand-over and the end there is a moment in which another order may
// come.
func TestUpgradeOnlyOnce(t *testing.T) {
	a := &App{handed: make(chan struct{})}
	close(a.handed)
	if _, err := a.Upgrade(); err != ErrUpgrading {
		t.Errorf("Upgrade() of one that has handed over = %v; want %v", err, ErrUpgrading)
	}
}

func TestUpgradeMovesSessions(t *testing.T) {
	s := startServer(t, "ivr1")
	f := file(unprobed, s.entry(""))
	p := serve(t, f)
	place(t, p.addr(0), "menu").wantServed("ivr1")
	held, inCommand := hold(t, p.addr(0), "hold", s), hold(t, p.addr(0), "exec", s)
	next := p.upgrade(f)
	p.ended()
	if next.addr(0) != p.addr(0) || next.AdminAddr() != p.AdminAddr() {
		t.Errorf("the new one listens on %s and %s; want %s and %s", next.addr(0), next.AdminAddr(), p.addr(0), p.AdminAddr())
	}
	if p.server.Sessions() != 0 || next.server.Sessions() != 2 {
		t.Errorf("%d sessions are left, %d came; want 0 and 2", p.server.Sessions(), next.server.Sessions())
	}
	place(t, next.addr(0), "menu").wantServed("ivr1")
	eventually(t, "the end of the second call", func() bool { return len(control{next.App}.Endings(0)) == 1 })
	if got := (control{next.App}).Endings(1); len(got) != 1 || got[0].Number != 2 {
		t.Errorf("endings after the first: %+v; want one, number 2", got)
	}
	if !held.running() || !inCommand.running() {
		t.Error("a call has ended")
	}
	last := next.upgrade(f)
	next.ended()
	s.release()
	held.wantServed("ivr1")
	s.Kill()
	inCommand.wantFailure("BACKENDLOST")
	last.wantOutcomes(map[string]uint64{"completed": 3, "lost": 1})
	last.wantSeries(3, "agiproxy_sessions_total", "completed", "ivr")
	last.wantSeries(1, "agiproxy_sessions_total", "lost", "ivr")
	last.wantSeries(0, "agiproxy_sessions_active", "ivr1", "ivr")
	last.wantSeries(4, "agiproxy_attempts_total", "ivr1", "ivr", "served")
	if _, metrics := last.get("/metrics"); !strings.Contains(metrics, `agiproxy_session_duration_seconds_count{pool="ivr"} 4`) {
		t.Error("/metrics of the last one doesn't count what the others have")
	}
}

// What can't move ends where it is, and is counted by who serves then, even if that
// is the next but one.
func TestUpgradeLeavesWhatCanNotMove(t *testing.T) {
	began := make(chan struct{})
	lost, err := agisim.Listen("127.0.0.1:0", func(s *agisim.Session) {
		s.Header()
		s.Send("EXEC Wait 2")
		close(began)
		s.Await()
	})
	if err != nil {
		t.Fatal(err)
	}
	defer lost.Kill()
	f := file(unprobed, `{name: lost, address: "`+lost.Addr().String()+`"}`)
	p := serve(t, f)
	c := place(t, p.addr(0), "dial")
	<-began
	lost.Kill()
	eventually(t, "the backend is lost", func() bool {
		n, _ := p.series("agiproxy_sessions_active", "lost", "ivr")
		return n == 0
	})
	next := p.upgrade(f)
	last := next.upgrade(f)
	if p.server.Sessions() != 1 || last.server.Sessions() != 0 || len(p.end) > 0 || len(next.end) > 0 {
		t.Errorf("%d sessions are left, %d came; want 1, 0, and all processes there", p.server.Sessions(), last.server.Sessions())
	}
	if _, err := p.registry.Gather(); err == nil {
		t.Error("one that has handed over tells counts as if it served")
	}
	c.wantFailure("BACKENDLOST")
	p.ended()
	next.ended()
	eventually(t, "the last one's count", func() bool {
		n, _ := last.series("agiproxy_sessions_total", "lost", "ivr")
		return n == 1
	})
	last.wantOutcomes(map[string]uint64{"lost": 1})
}

// What those count that could not move is told even if a stop comes in the moment in
// which the new process is just taking over.
func TestUpgradeTellsLaterThoughItStops(t *testing.T) {
	began := make(chan struct{})
	lost, err := agisim.Listen("127.0.0.1:0", func(s *agisim.Session) {
		s.Header()
		s.Send("EXEC Wait 1")
		close(began)
		s.Await()
	})
	if err != nil {
		t.Fatal(err)
	}
	defer lost.Kill()
	p := serve(t, draining("1m", file(unprobed, `{name: lost, address: "`+lost.Addr().String()+`"}`)))
	c := place(t, p.addr(0), "dial")
	<-began
	lost.Kill()
	eventually(t, "the backend is lost", func() bool {
		n, _ := p.series("agiproxy_sessions_active", "lost", "ivr")
		return n == 0
	})
	told := make(chan error, 1)
	p.opts.Begin = func(socket *os.File) (Successor, error) {
		n, err := handover.Open(inheritedSocket(t, socket))
		go func() {
			defer n.Close()
			_, files, _ := n.Hello()
			handover.CloseFiles(files)
			n.Ready("next")
			n.Next(0)
			n.Have()
			p.stop()
			eventually(t, "it stops", p.draining.Load)
			time.Sleep(20 * time.Millisecond) // and hangs up, if it does
			n.Begun(encode(&beginning{}))
			data, err := n.Later()
			var e estate
			if err == nil {
				err = decode(data, &e)
			}
			if err == nil && e.Counted == nil {
				err = errors.New("nothing is counted")
			}
			told <- err
		}()
		return sibling{}, err
	}
	if _, err := p.Upgrade(); err != nil {
		t.Errorf("Upgrade() = %v; want it done, as the other has committed", err)
	}
	if err := <-told; err != nil {
		t.Errorf("counts of the session that stayed: %v", err)
	}
	c.wantFailure("BACKENDLOST")
	p.ended()
}

// A new process that dies with all that it was given is told of.
func TestUpgradeToOneThatDies(t *testing.T) {
	p := serve(t, file(unprobed, `"127.0.0.1:1"`))
	eventually(t, "it serves", func() bool { return p.log.count("listening") > 0 })
	p.opts.Begin = func(socket *os.File) (Successor, error) {
		n, err := handover.Open(inheritedSocket(t, socket))
		go func() {
			defer n.Close()
			_, files, _ := n.Hello()
			handover.CloseFiles(files)
			n.Ready("next")
			n.Next(0)
			n.Have()
		}()
		return sibling{}, err
	}
	if _, err := p.Upgrade(); err != nil {
		t.Error(err)
	}
	p.ended()
	if p.log.count("the new process has ended, and the sessions with it") != 1 {
		t.Error("the log doesn't tell of the new one's end")
	}
}

// A new process that fails, at whatever step, changes nothing.
func TestFailedUpgrade(t *testing.T) {
	s := startServer(t, "ivr1")
	p := serve(t, file(unprobed, s.entry("")))
	held := hold(t, p.addr(0), "hold", s)
	sessions := func(n *handover.New) {
		_, files, err := n.Hello()
		if err != nil {
			t.Error(err)
		}
		handover.CloseFiles(files)
		n.Ready("")
		if _, files, err = n.Next(0); err != nil || len(files) != 2 {
			t.Errorf("a parcel brings %d descriptors, %v; want 2", len(files), err)
		}
		handover.CloseFiles(files)
	}
	for name, steps := range map[string]func(*handover.New){
		"ends at once": func(*handover.New) {},
		"ends after hello": func(n *handover.New) {
			_, files, _ := n.Hello()
			handover.CloseFiles(files)
		},
		"refuses": func(n *handover.New) {
			_, files, _ := n.Hello()
			handover.CloseFiles(files)
			n.Refuse(errors.New("no room"))
		},
		"ends when ready": func(n *handover.New) {
			_, files, _ := n.Hello()
			handover.CloseFiles(files)
			n.Ready("")
		},
		"ends with a session": sessions,
		"ends with all": func(n *handover.New) {
			sessions(n)
			if _, _, err := n.Next(1); err != io.EOF {
				t.Errorf("after the only parcel: %v; want its end", err)
			}
		},
		"refuses with all": func(n *handover.New) {
			sessions(n)
			n.Next(1)
			n.Refuse(errors.New("no room"))
		},
	} {
		err := p.failingUpgrade(steps)
		if refuses := strings.HasPrefix(name, "refuses"); refuses && !strings.Contains(err.Error(), "refused: no room") || !refuses && !errors.Is(err, handover.ErrGone) {
			t.Errorf("%s: Upgrade() = %v", name, err)
		}
		place(t, p.addr(0), "menu").wantServed("ivr1")
		p.wantSeries(1, "agiproxy_sessions_active", "ivr1", "ivr")
		if !held.running() {
			t.Fatalf("%s: the call under way has ended", name)
		}
	}
	s.release()
	held.wantServed("ivr1")
	p.wantOutcomes(map[string]uint64{"completed": 8})
}

// Sessions that don't come to rest in time go on, and so does the process.
func TestUpgradeDoesNotWaitForRest(t *testing.T) {
	s := startServer(t, "ivr1")
	p := serve(t, draining("1m", file(unprobed, s.entry(""))))
	held := hold(t, p.addr(0), "hold", s)
	p.freezeWithin = -1 // which is over before any loop has answered
	for _, stop := range []bool{false, true} {
		err := p.failingUpgrade(func(n *handover.New) {
			_, files, _ := n.Hello()
			handover.CloseFiles(files)
			n.Ready("")
			if stop {
				p.stop() // which has to wait for the upgrade
			}
		})
		if !errors.Is(err, errRestless) && !stop {
			t.Errorf("Upgrade() = %v; want %v", err, errRestless)
		}
		if !held.running() {
			t.Fatal("the call under way has ended")
		}
		if !stop {
			place(t, p.addr(0), "menu").wantServed("ivr1")
		}
	}
	s.release()
	held.wantServed("ivr1")
	p.ended()
	p.wantOutcomes(map[string]uint64{"completed": 2})
}

// A stop hangs an upgrade up that is under way.
func TestUpgradeStopsWithTheProcess(t *testing.T) {
	s := startServer(t, "ivr1")
	p := serve(t, draining("1m", file(unprobed, s.entry(""))))
	held := hold(t, p.addr(0), "hold", s)
	met := make(chan struct{})
	go func() {
		<-met
		p.stop()
	}()
	err := p.failingUpgrade(func(n *handover.New) {
		_, files, _ := n.Hello()
		handover.CloseFiles(files)
		if _, err := p.Upgrade(); err != ErrUpgrading {
			t.Errorf("a second Upgrade() = %v; want %v", err, ErrUpgrading)
		}
		close(met)
		n.Next(0) // until the other hangs up
	})
	if !errors.Is(err, net.ErrClosed) {
		t.Errorf("Upgrade() = %v; want it hung up", err)
	}
	if _, err := p.Upgrade(); !errors.Is(err, errNotServing) {
		t.Errorf("Upgrade() of one that stops = %v; want %v", err, errNotServing)
	}
	s.release()
	held.wantServed("ivr1")
	p.ended()
	p.wantOutcomes(map[string]uint64{"completed": 1})
}

// The new one has another configuration: another pool, another listener, and none
// any more where one was.
func TestUpgradeToAnotherConfiguration(t *testing.T) {
	s, other := startServer(t, "ivr1"), startServer(t, "ivr2")
	gone := freeAddress(t)
	p := serve(t, fileOn(`"127.0.0.1:0" "`+gone+`"`, unprobed, s.entry("")))
	held := hold(t, gone, "hold", s)
	next := p.upgrade(strings.Replace(fileOn(`"127.0.0.1:0" "[::1]:0"`, unprobed, other.entry("")), "  ivr:", "  night:", 1))
	p.ended()
	place(t, next.addr(0), "menu").wantServed("ivr2")
	place(t, next.addr(1), "menu").wantServed("ivr2")
	if c, err := net.Dial("tcp", gone); err == nil {
		c.Close()
		t.Errorf("connected to %s, which the new configuration doesn't have", gone)
	}
	if n := p.log.count("stopped listening"); n != 1 {
		t.Errorf("the old one has stopped to listen %d times; want once: the other listener is the new one's", n)
	}
	next.wantSeries(1, "agiproxy_sessions_active", "ivr1", "ivr")
	s.release()
	held.wantServed("ivr1")
	next.wantOutcomes(map[string]uint64{"completed": 3})
	next.wantSeries(1, "agiproxy_sessions_total", "completed", "ivr")
	if _, there := next.series("agiproxy_sessions_active", "ivr1", "ivr"); there {
		t.Error("the backend that is gone still has sessions")
	}
}

// Who waits in the line of a listener that the new process doesn't want is served by
// the old one.
func TestUpgradeServesTheLastOfAListener(t *testing.T) {
	s := startServer(t, "ivr1")
	p := serve(t, file(unprobed, s.entry("")))
	eventually(t, "it serves", func() bool { return p.log.count("listening") > 0 })
	var waits *caller
	p.opts.Begin = func(socket *os.File) (Successor, error) {
		n, err := handover.Open(inheritedSocket(t, socket))
		go func() {
			defer n.Close()
			_, files, _ := n.Hello()
			handover.CloseFiles(files)
			n.Ready("next")
			n.Next(0)
			waits = place(t, p.addr(0), "menu")
			time.Sleep(50 * time.Millisecond) // it is in the line now
			n.Have()
			n.Begun(encode(&beginning{Unwanted: []string{"127.0.0.1:0"}}))
			n.Later()
		}()
		return sibling{}, err
	}
	if _, err := p.Upgrade(); err != nil {
		t.Fatal(err)
	}
	waits.wantServed("ivr1")
	p.ended()
}

// An order to reload that comes during an upgrade is not lost: who serves then does it.
func TestReloadDuringAnUpgrade(t *testing.T) {
	a, b := startServer(t, "a"), startServer(t, "b")
	f, other := file(unprobed, a.entry("")), file(unprobed, b.entry(""))
	p := serve(t, f)
	done := make(chan error, 1)
	p.failingUpgrade(func(*handover.New) {
		p.write(other)
		go func() { done <- p.Reload() }()
		time.Sleep(20 * time.Millisecond) // it waits
	})
	if err := <-done; err != nil {
		t.Errorf("Reload() during an upgrade that fails = %v; want it done", err)
	}
	place(t, p.addr(0), "menu").wantServed("b")

	next := p.upgrade(other)
	next.write(f)
	if err := (control{p.App}).Reload(); !errors.Is(err, admin.ErrConflict) || !errors.Is(err, ErrHanded) {
		t.Errorf("Reload() of one that has handed over = %v; want %v", err, ErrHanded)
	}
	place(t, next.addr(0), "menu").wantServed("a")
}

// What was found out about the backends needn't be found out again.
func TestUpgradeKeepsVerdicts(t *testing.T) {
	good, sick := startServer(t, "good"), startServer(t, "sick")
	f := file(quick, good.entry(""), sick.entry(""), `{name: dead, address: "127.0.0.1:1"}`)
	sick.setSick(true)
	p := serve(t, f)
	p.state("sick", "down")
	p.state("dead", "down")
	next := p.upgrade(f)
	if got := next.log.count("event loops run"); got != 1 {
		t.Errorf("the start says %d times that the loops run; want once", got)
	}
	if got := next.log.count("changed state"); got > 0 || next.backend("sick").Healthy() || !next.backend("good").Healthy() {
		t.Errorf("sick is up: %v, good is up: %v, %d changes; want no and yes, and none", next.backend("sick").Healthy(), next.backend("good").Healthy(), got)
	}
	for _, b := range (control{next.App}).Pools()[0].Backends {
		if b.State == "down" && b.Reason == "" {
			t.Errorf("%s is down, and nothing says why", b.Name)
		}
	}
	sick.setSick(false)
	next.state("sick", "up")
}

// A backend that goes down takes its sessions with it where that is wanted, also
// those that have moved meanwhile.
func TestUpgradeLosesWhatIsDown(t *testing.T) {
	s := startServer(t, "ivr1")
	f := file(strings.Replace(quick, "fall: 2", "fall: 2, on_down: lose", 1), s.entry(""))
	p := serve(t, f)
	held := hold(t, p.addr(0), "hold", s)
	p.backend("ivr1").Backend.SetUp(false) // as if nobody had been told yet
	next := p.upgrade(f)
	held.wantFailure("BACKENDLOST")
	next.wantOutcomes(map[string]uint64{"lost": 1})
}

func TestUpgradeNeedsRun(t *testing.T) {
	p := prepare(t, file(unprobed, `"127.0.0.1:1"`))
	if _, err := p.Upgrade(); err == nil {
		t.Error("Upgrade() before Run = nil; want an error")
	}
	p.run()
}

func TestUpgradeWithoutABinary(t *testing.T) {
	p := serve(t, file(unprobed, `"127.0.0.1:1"`))
	eventually(t, "it serves", func() bool { return p.log.count("listening") > 0 })
	want := errors.New("no such file")
	p.opts.Begin = func(*os.File) (Successor, error) { return nil, want }
	if _, err := p.Upgrade(); !errors.Is(err, want) {
		t.Errorf("Upgrade() = %v; want %v", err, want)
	}
}

// What operators have done to a backend goes on, to its deadline.
func TestUpgradeKeepsWhatOperatorsHaveDone(t *testing.T) {
	a, b := startServer(t, "a"), startServer(t, "b")
	f := file(unprobed, a.entry(""), b.entry(""))
	p := serve(t, f)
	c := control{p.App}
	for _, err := range []error{c.Drain("ivr", "a", time.Hour), c.SetWeight("ivr", "b", 7), c.Eject("ivr", "b", time.Hour)} {
		if err != nil {
			t.Error(err)
		}
	}
	next := p.upgrade(f)
	drained, weighed := next.backend("a"), next.backend("b")
	if left := time.Until(drained.life.deadline.at); !drained.life.drained || left < 59*time.Minute || left > time.Hour || drained.Backend.State() != balancer.Drained {
		t.Errorf("a is %v, drained by an operator %v, with %v left; want drained, yes, an hour", drained.Backend.State(), drained.life.drained, left)
	}
	if weighed.Weight() != 7 || weighed.Backend.State() != balancer.Ejected {
		t.Errorf("b is %v with weight %d; want ejected, 7", weighed.Backend.State(), weighed.Weight())
	}
	if got := weighed.reason(balancer.Ejected.String()); got != "by an operator" {
		t.Errorf("b is ejected since %q; want by an operator", got)
	}
	if err := (control{next.App}).Enable("ivr", "a"); err != nil {
		t.Error(err)
	}
	place(t, next.addr(0), "menu").wantServed("a")
}

// An error is a conflict however it is wrapped.
func TestConflicts(t *testing.T) {
	for err, want := range map[error]bool{fmt.Errorf("upgrade: %w", errNotServing): true, errNotServing: true, errRestless: false, nil: false} {
		if got := conflict(err, ErrUpgrading, errNotServing); errors.Is(got, admin.ErrConflict) != want || !errors.Is(got, err) {
			t.Errorf("conflict(%v) = %v; a conflict: %v", err, got, want)
		}
	}
}

// A deadline that passes while nothing happens in the sessions is not forgotten.
func TestUpgradeLosesWhatWasDisabledMeanwhile(t *testing.T) {
	s := startServer(t, "ivr1")
	p := serve(t, file(unprobed, s.entry("")))
	held := hold(t, p.addr(0), "hold", s)
	p.failingUpgrade(func(n *handover.New) {
		_, files, _ := n.Hello()
		handover.CloseFiles(files)
		n.Ready("")
		_, files, _ = n.Next(0)
		handover.CloseFiles(files)
		if err := (control{p.App}).Disable("ivr", "ivr1"); err != nil {
			t.Error(err)
		}
		p.eachLoop(func(int, *worker) {}) // they have looked for its sessions
	})
	held.wantFailure("BACKENDLOST")
	p.wantOutcomes(map[string]uint64{"lost": 1})
}

// An order about a session that is frozen waits until it goes on, here or elsewhere.
func TestOrdersWaitForFrozenSessions(t *testing.T) {
	s := startServer(t, "ivr1")
	f := file(unprobed, s.entry(""))
	p := serve(t, f)
	killed, held := hold(t, p.addr(0), "hold", s), hold(t, p.addr(0), "hold", s)
	c := control{p.App}
	list, err := c.Sessions(proxy.Filter{})
	if err != nil || len(list) != 2 {
		t.Fatalf("Sessions() = %d, %v; want 2", len(list), err)
	}
	first := list[1].ID
	done := make(chan error, 1)
	p.failingUpgrade(func(n *handover.New) {
		_, files, _ := n.Hello()
		handover.CloseFiles(files)
		n.Ready("")
		_, files, _ = n.Next(0)
		handover.CloseFiles(files)
		go func() { done <- c.Kill(first) }()
		time.Sleep(20 * time.Millisecond)
		if len(done) > 0 {
			t.Errorf("Kill() of a frozen session = %v; want it to wait", <-done)
			done <- nil
		}
	})
	if err := <-done; err != nil {
		t.Errorf("Kill() of a session that was frozen = %v; want nil", err)
	}
	s.release()
	killed.wantFailure("KILLED")
	held.wantServed("ivr1")

	p.upgrade(f)
	_, err = c.Sessions(proxy.Filter{})
	_, err2 := c.Trace(2)
	for what, err := range map[string]error{"Kill": c.Kill(2), "Sessions": err, "Trace": err2} {
		if !errors.Is(err, admin.ErrConflict) || !errors.Is(err, ErrHanded) {
			t.Errorf("%s() of one that has handed over = %v; want %v", what, err, ErrHanded)
		}
	}
}

// What is told the process before after it has told what it knows would be lost.
func TestUpgradedTakesNoOrders(t *testing.T) {
	s := startServer(t, "ivr1")
	f := file(unprobed, s.entry(""))
	p := serve(t, f)
	p.upgrade(f)
	if err := (control{p.App}).Drain("ivr", "ivr1", 0); !errors.Is(err, admin.ErrConflict) || !errors.Is(err, ErrUpgrading) {
		t.Errorf("Drain() = %v; want %v", err, ErrUpgrading)
	}
	if p.adopt(p.version, nil) {
		t.Error("it goes over to another configuration; want it left alone")
	}
}
