package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"agiproxy/admin"
	"agiproxy/internal/handover"
	"agiproxy/internal/loop"
	"agiproxy/proxy"
)

const (
	// readyWithin is how long a new process gets to read its configuration and to
	// look up its names.
	readyWithin = 10 * time.Second
	// passingWithin is how long sessions get that are about to be ones that can
	// move. Nothing is accepted meanwhile: calls wait in the kernel.
	passingWithin = 2 * time.Second
	// freezeWithin is how long the kernel gets to end what is under way on the
	// sessions' connections, which takes it a millisecond. All sessions wait meanwhile.
	freezeWithin = 2 * time.Second
	// haveWithin is how long the new process gets to take the sessions. Nothing
	// happens in them meanwhile.
	haveWithin = 5 * time.Second
	// perParcel is how many sessions go together: two descriptors each.
	perParcel = handover.MaxFiles / 2
)

var (
	// ErrUpgrading refuses an upgrade while another is under way, or was made.
	ErrUpgrading = errors.New("an upgrade is under way")

	// ErrHanded refuses what another process has to be told, which has taken over.
	ErrHanded = errors.New("another process has taken over")

	errNoBegin    = errors.New("this process can't start another in its place")
	errNotServing = errors.New("agiproxy doesn't serve yet, or stops")
	errRestless   = errors.New("sessions don't come to rest")
)

// A Successor is a process that was started to take this one's place.
type Successor interface {
	// PID returns its number, 0 if it is no process of its own.
	PID() int
	// Kill ends it, if it hasn't ended, and waits for that.
	Kill()
	// Reload has it read its configuration anew.
	Reload() error
}

// Upgrade hands over to a new process, which [Options].Begin starts. That listens
// where this one does, and goes on with the sessions under way, all but those that
// can't move, which this one brings to their ends before Run returns. After an
// error, which is also logged, the new process is dead and nothing has changed here.
func (a *App) Upgrade() (admin.Upgrade, error) {
	if !a.upgrading.TryLock() {
		return admin.Upgrade{}, ErrUpgrading
	}
	defer a.upgrading.Unlock()
	if a.hasHanded() { // and Run hasn't noticed yet
		return admin.Upgrade{}, ErrUpgrading
	}
	a.reloading.Lock()
	defer a.reloading.Unlock()
	defer moreProcessors()()
	began := time.Now()
	u := &upgrade{App: a}
	if err := u.run(); err != nil {
		a.log.Error("not handed over, this process goes on", "error", err)
		return admin.Upgrade{}, err
	}
	left, frozen, duration := a.server.Sessions(), time.Since(u.frozen), time.Since(began)
	a.log.Info("handed over", "sessions", u.moved, "left", left, "frozen", frozen, "duration", duration)
	a.successor = u.next
	close(a.handed)
	return admin.Upgrade{
		PID: u.next.PID(), Version: u.program, Moved: u.moved, Left: left,
		Frozen: frozen.Seconds(), Duration: duration.Seconds(),
	}, nil
}

// An upgrade is one attempt to hand over.
type upgrade struct {
	*App
	old    *handover.Old
	next   Successor
	fronts []*front

	program string // the new one's version
	moved   int    // sessions
	frozen  time.Time
	conns   [][]*loop.Conn // by worker
}

func (u *upgrade) run() (err error) {
	u.mu.Lock()
	serving := u.serving && !u.stopped
	u.fronts = u.App.fronts
	u.mu.Unlock()
	if !serving {
		return errNotServing
	}
	if u.opts.Begin == nil {
		return errNoBegin
	}
	if err := u.meet(); err != nil {
		return err
	}
	u.refuse()
	if err = u.handOver(); err == nil {
		u.awaitBegun()
		return nil
	}
	u.next.Kill()
	u.endTalk()
	u.accept(u.fronts)
	u.loseDown()
	return err
}

// meet starts the new process and waits until it could take over. After an error
// it is dead.
func (u *upgrade) meet() error {
	old, socket, err := handover.Pair()
	if err != nil {
		return err
	}
	u.next, err = u.opts.Begin(socket)
	socket.Close()
	if err != nil {
		old.Close()
		return fmt.Errorf("start the new process: %w", err)
	}
	u.old = old
	u.mu.Lock()
	u.talk = old
	stopped := u.stopped // before there was anything to hang up
	u.mu.Unlock()
	old.Limit(time.Now().Add(readyWithin))
	if stopped {
		err = errNotServing
	} else if err = u.greet(); err == nil {
		u.program, err = old.AwaitReady()
	}
	if err != nil {
		u.next.Kill()
		u.endTalk()
		return fmt.Errorf("new process: %w", err)
	}
	return nil
}

// endTalk ends the conversation.
func (u *upgrade) endTalk() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.talk = nil
	u.old.Close()
}

// greet tells what this process listens on.
func (u *upgrade) greet() error {
	var g greeting
	var files []int
	for _, f := range u.fronts {
		g.Listeners = append(g.Listeners, f.address)
		files = append(files, f.socket.FD())
	}
	if u.admin != nil {
		f, err := u.admin.File()
		if err != nil {
			return err
		}
		defer f.Close()
		fd, err := descriptor(f)
		if err != nil {
			return err
		}
		g.Admin = u.opts.Config.Admin.Address
		files = append(files, fd)
	}
	for _, s := range u.sockets {
		fd, err := descriptor(s.file)
		if err != nil {
			return err
		}
		g.Given++
		files = append(files, fd)
	}
	return u.old.Hello(encode(&g), files)
}

// descriptor returns f's. Unlike f.Fd it leaves the socket as it is: one that
// blocks would, in whichever process accepts from it, and keep a connection for
// itself after it was closed there.
func descriptor(f *os.File) (fd int, err error) {
	rc, err := f.SyscallConn()
	if err == nil {
		err = rc.Control(func(s uintptr) { fd = int(s) })
	}
	if err != nil {
		return 0, fmt.Errorf("descriptor of %s: %w", f.Name(), err)
	}
	return fd, nil
}

// moreProcessors lets this process have two processors more until the function
// that it returns is called. Loops keep theirs while they wait, and each step of a
// hand-over would have to wait for one to let go, while all sessions wait.
func moreProcessors() (end func()) {
	before := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(before + 2)
	return func() { runtime.GOMAXPROCS(before) }
}

// handOver moves the sessions. After an error they go on here.
func (u *upgrade) handOver() error {
	if !u.awaitPassing() {
		return errNotServing
	}
	u.freezing.Lock()
	defer u.freezing.Unlock()
	parcels, err := u.freeze()
	if err != nil {
		u.thaw()
		return err
	}
	u.old.Limit(time.Now().Add(haveWithin))
	err = u.give(parcels)
	if err == nil {
		err = u.commit()
	}
	if err != nil {
		u.next.Kill() // before anything happens here again
		u.thaw()
		return fmt.Errorf("new process: %w", err)
	}
	u.release()
	return nil
}

// refuse has no more connections be accepted. They wait in the kernel, in a line
// that both processes have.
func (u *upgrade) refuse() {
	for _, f := range u.fronts {
		u.App.refuse(f)
	}
}

// eachLoop has f run on each loop, all at the same time, and waits. What a loop
// has that has ended is nobody's business any more.
func (a *App) eachLoop(f func(i int, w *worker)) {
	var wg sync.WaitGroup
	for i, w := range a.workers {
		wg.Add(1)
		if w.loop.Do(func() { f(i, w); wg.Done() }) != nil {
			wg.Done()
		}
	}
	wg.Wait()
}

// awaitPassing waits for the sessions that are about to get into a state in which
// they can move, and reports whether to go on.
func (u *upgrade) awaitPassing() bool {
	for end := time.Now().Add(passingWithin); ; time.Sleep(5 * time.Millisecond) {
		u.mu.Lock()
		stopped := u.stopped
		u.mu.Unlock()
		if stopped {
			return false
		}
		passing := make([]int, len(u.workers))
		u.eachLoop(func(i int, w *worker) { passing[i] = w.sessions.Passing() })
		n := 0
		for _, p := range passing {
			n += p
		}
		if n == 0 || time.Now().After(end) {
			return true
		}
	}
}

// A packed consignment is ready to be sent.
type packed struct {
	data  []byte
	files []int
}

// freeze has nothing happen any more in the sessions that can move, and packs
// them. After an error, which says that this takes too long, they are to be thawed.
func (u *upgrade) freeze() ([]packed, error) {
	u.frozen = time.Now()
	u.conns = make([][]*loop.Conn, len(u.workers))
	by := make([][]packed, len(u.workers))
	still := make(chan struct{}, len(u.workers))
	for i, w := range u.workers {
		if w.loop.Do(func() {
			sessions := w.sessions.Freeze()
			for _, s := range sessions {
				front, back := s.Conns()
				u.conns[i] = append(u.conns[i], front.(*loop.Conn))
				if back != nil {
					u.conns[i] = append(u.conns[i], back.(*loop.Conn))
				}
			}
			w.loop.Freeze(u.conns[i], func() {
				by[i] = pack(sessions)
				still <- struct{}{}
			})
		}) != nil {
			still <- struct{}{}
		}
	}
	late, end := context.WithTimeout(context.Background(), u.freezeWithin)
	defer end()
	for range u.workers {
		select {
		case <-still:
		case <-late.Done():
		}
		if late.Err() != nil {
			u.eachLoop(func(_ int, w *worker) { w.loop.StopFreezing() }) // none of them touches by any more
			return nil, fmt.Errorf("%w within %v", errRestless, u.freezeWithin)
		}
	}
	return slices.Concat(by...), nil
}

// pack describes frozen sessions.
func pack(sessions []*proxy.Session) (all []packed) {
	for len(sessions) > 0 {
		n := min(perParcel, len(sessions))
		c := consignment{Pools: make(map[string]proxy.PoolOptions)}
		var files []int
		for _, s := range sessions[:n] {
			if name, o, ok := s.PoolOptions(); ok {
				c.Pools[name] = o
			}
			front, back := s.Conns()
			m := movedSession{Session: s.Move(), Front: front.(*loop.Conn).State()}
			files = append(files, front.(*loop.Conn).FD())
			if back != nil {
				m.Back = back.(*loop.Conn).State()
				files = append(files, back.(*loop.Conn).FD())
			}
			c.Sessions = append(c.Sessions, m)
		}
		sessions = sessions[n:]
		all = append(all, packed{encode(&c), files})
	}
	return all
}

// give gives the sessions and waits until the new process has them.
func (u *upgrade) give(parcels []packed) error {
	for _, p := range parcels {
		if err := u.old.Give(p.data, p.files); err != nil {
			return err
		}
	}
	return u.old.AwaitHave(len(parcels))
}

// commit makes the sessions the new process's, with all that was counted.
func (u *upgrade) commit() error {
	e := estate{Counted: u.server.TakeCounts(), Tally: u.tally.take(), Endings: u.endings.number(), Frozen: u.frozen}
	u.mu.Lock()
	u.given = true
	for _, b := range u.version.backends {
		e.Backends = append(e.Backends, backendStanding{
			Pool: b.pool, Name: b.conf.Name, Address: b.conf.Address, Standing: b.Standing(),
			Drained: b.life.drained, Share: b.life.share, Deadline: b.life.deadline.at,
		})
	}
	u.mu.Unlock()
	if err := u.old.Commit(encode(&e)); err != nil {
		u.mu.Lock()
		u.given = false
		u.mu.Unlock()
		u.server.GiveCounts(e.Counted)
		u.tally.give(e.Tally)
		return err
	}
	return nil
}

// awaitBegun waits until the new process has told the service manager that it is the
// service now: were this one to end before, the manager would end the new one too.
// What this one alone has listened on, nobody else will serve any more.
func (u *upgrade) awaitBegun() {
	u.old.Limit(time.Now().Add(haveWithin))
	data, err := u.old.AwaitBegun()
	var b beginning
	if err == nil {
		u.opts.Notify.MainPID(u.next.PID()) // once more, for a manager that listens to this one alone
		err = decode(data, &b)
	}
	if err != nil {
		u.log.Error("the new process has ended, and the sessions with it", "error", err)
	}
	u.old.Limit(time.Time{})
	var unwanted []*front
	for _, f := range u.fronts {
		if slices.Contains(b.Unwanted, f.address) {
			unwanted = append(unwanted, f)
		}
	}
	closeFronts(without(u.fronts, unwanted))
	u.accept(unwanted) // for what waits in their line, and would be reset
	u.shut(unwanted)
}

// thaw has the sessions go on here.
func (u *upgrade) thaw() {
	u.eachLoop(func(i int, w *worker) {
		for _, c := range u.conns[i] {
			c.Thaw()
		}
		w.sessions.Thaw()
	})
}

// release gives up what is the new process's.
func (u *upgrade) release() {
	before := u.server.Sessions()
	u.eachLoop(func(i int, w *worker) {
		w.sessions.Release()
		for _, c := range u.conns[i] {
			c.Close()
		}
	})
	u.moved = before - u.server.Sessions()
}

// hangUp ends an upgrade that is under way, and has none begin any more. It
// reports whether this process has handed over.
func (a *App) hangUp() bool {
	a.draining.Store(true)
	a.mu.Lock()
	a.stopped = true
	if a.talk != nil && !a.given { // else it is over, and what comes later is still to be told
		a.talk.Close() // the upgrade fails now
	}
	a.mu.Unlock()
	a.upgrading.Lock()
	defer a.upgrading.Unlock()
	return a.hasHanded()
}

// hasHanded reports whether another process has taken over.
func (a *App) hasHanded() bool {
	select {
	case <-a.handed:
		return true
	default:
		return false
	}
}

// retire ends what a process that has handed over has left: sessions that can't
// move, which get as much time as they need unless ctx ends, and what another one
// before it still has to tell. Then it tells what they have counted.
func (a *App) retire(ctx context.Context) {
	if a.admin != nil {
		a.admin.Close()
	}
	a.mu.Lock()
	v := a.version
	a.mu.Unlock()
	if n := a.server.Sessions(); n > 0 {
		a.log.Info("bringing sessions to their end that can't move", "sessions", n)
	}
	if !a.awaitEnd(ctx.Done()) {
		a.drain(v.config.DrainTimeout)
	}
	v.unwatch()
	a.heir.wait(ctx.Done(), a.closed)
	_ = a.talk.Later(encode(&estate{Counted: a.server.TakeCounts(), Tally: a.tally.take()})) // to one who is gone it doesn't matter
	a.talk.Close()
}
