package app

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"agiproxy/config"
	"agiproxy/internal/handover"
	"agiproxy/internal/loop"
	"agiproxy/proxy"
)

// A Predecessor is the process whose place this one takes. A nil one is none.
type Predecessor struct {
	talk *handover.New

	listeners map[string][]*os.File // by address as configured
	admin     *os.File              // nil: it has no admin port
	adminAddr string
}

// NewPredecessor returns the process at the other end of a socket that
// [App.Upgrade] has made. It closes f.
func NewPredecessor(f *os.File) (*Predecessor, error) {
	talk, err := handover.Open(f)
	if err != nil {
		return nil, err
	}
	return &Predecessor{talk: talk}, nil
}

// Refuse tells it why this process can't take its place. [New] and [App.Run] do so
// themselves.
func (p *Predecessor) Refuse(why error) {
	if p != nil {
		p.talk.Refuse(why)
		p.forget()
	}
}

// meet takes what it listens on, and returns the sockets that somebody else has
// opened for it.
func (p *Predecessor) meet() (given []*os.File, err error) {
	data, fds, err := p.talk.Hello()
	if err != nil {
		return nil, err
	}
	var g greeting
	if err := decode(data, &g); err != nil {
		handover.CloseFiles(fds)
		return nil, err
	}
	want := len(g.Listeners) + g.Given
	if g.Admin != "" {
		want++
	}
	if len(fds) != want {
		handover.CloseFiles(fds)
		return nil, fmt.Errorf("%d sockets have arrived; want %d", len(fds), want)
	}
	next := func(name string) *os.File {
		f := os.NewFile(uintptr(fds[0]), name)
		fds = fds[1:]
		return f
	}
	p.listeners = make(map[string][]*os.File)
	for _, address := range g.Listeners {
		p.listeners[address] = append(p.listeners[address], next(address))
	}
	if g.Admin != "" {
		p.admin, p.adminAddr = next(g.Admin), g.Admin
	}
	for range g.Given {
		given = append(given, next("given"))
	}
	return given, nil
}

// listener returns what it listens on at that address, nil if it doesn't or it was
// returned before.
func (p *Predecessor) listener(address string) *os.File {
	if p == nil || len(p.listeners[address]) == 0 {
		return nil
	}
	f := p.listeners[address][0]
	p.listeners[address] = p.listeners[address][1:]
	return f
}

// adminListener returns its admin port, nil if it has none at that address.
func (p *Predecessor) adminListener(address string) (net.Listener, error) {
	if p == nil || p.admin == nil || p.adminAddr != address {
		return nil, nil
	}
	return net.FileListener(p.admin)
}

// unwanted returns the addresses of the listeners that nobody has wanted.
func (p *Predecessor) unwanted() (all []string) {
	for address, files := range p.listeners {
		if len(files) > 0 {
			all = append(all, address)
		}
	}
	return all
}

// forget closes what nobody has wanted.
func (p *Predecessor) forget() {
	for _, files := range p.listeners {
		for _, f := range files {
			f.Close()
		}
	}
	p.listeners = nil
	if p.admin != nil {
		p.admin.Close()
		p.admin = nil
	}
}

// takeOver goes on with the sessions of the process before, unless there is none.
// After an error they go on there.
func (a *App) takeOver() error {
	p := a.opts.Predecessor
	if p == nil {
		return nil
	}
	defer moreProcessors()()
	began := time.Now()
	t := &takeover{App: a, listeners: make(map[string]*proxy.Listener), conns: make([][]*loop.Conn, len(a.workers))}
	for _, f := range a.fronts {
		if t.listeners[f.address] == nil {
			t.listeners[f.address] = f.listener
		}
	}
	e, err := t.receive(p.talk)
	if err != nil {
		p.Refuse(err)
		return fmt.Errorf("take over: %w", err)
	}
	a.opts.Notify.MainPID(os.Getpid())
	unwanted := p.unwanted()
	p.forget()
	begun := p.talk.Begun(encode(&beginning{unwanted}))
	t.begin(e)
	a.heir = &heir{talk: p.talk, done: make(chan struct{})}
	go a.heir.listen(a)
	if begun != nil {
		a.log.Warn("the process before has ended early", "error", begun)
	}
	a.log.Info("took over", "sessions", t.sessions, "frozen", time.Since(e.Frozen), "duration", time.Since(began))
	return nil
}

// A takeover is what has come so far.
type takeover struct {
	*App
	listeners map[string]*proxy.Listener
	sessions  int
	conns     [][]*loop.Conn // by worker
}

// receive takes all sessions, to which nothing happens yet.
func (t *takeover) receive(talk *handover.New) (*estate, error) {
	if err := talk.Ready(t.opts.Version); err != nil {
		return nil, err
	}
	for n := 0; ; n++ {
		data, files, err := talk.Next(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := t.unpack(data, files); err != nil {
			return nil, err
		}
	}
	data, err := talk.Have()
	if err != nil {
		return nil, err
	}
	e := new(estate)
	// They are this process's now, so what can't be read of their estate is not
	// worth ending for.
	if err := decode(data, e); err != nil {
		t.log.Error("counts are lost", "error", err)
	}
	return e, nil
}

// unpack spreads a consignment over the loops.
func (t *takeover) unpack(data []byte, files []int) error {
	var c consignment
	if err := decode(data, &c); err != nil {
		handover.CloseFiles(files)
		return fmt.Errorf("sessions can't be read: %w", err)
	}
	shares := make([][]arrival, len(t.workers))
	for _, m := range c.Sessions {
		want := 1
		if m.Back != nil {
			want = 2
		}
		if m.Session == nil || m.Front == nil || m.Session.HasBack != (m.Back != nil) || len(files) < want {
			handover.CloseFiles(files)
			return errors.New("a session has not all its connections")
		}
		i := t.sessions % len(shares)
		shares[i] = append(shares[i], arrival{m, files[:want], t.listener(m.Session.Listener), c.Pools[m.Session.Pool]})
		t.sessions++
		files = files[want:]
	}
	failed := make([]error, len(t.workers))
	t.eachLoop(func(i int, w *worker) {
		for _, x := range shares[i] {
			conns, err := w.restore(x)
			t.conns[i] = append(t.conns[i], conns...)
			failed[i] = errors.Join(failed[i], err)
		}
	})
	return errors.Join(failed...)
}

// listener returns the listener of that name, or one that is there no more.
func (t *takeover) listener(name string) *proxy.Listener {
	l := t.listeners[name]
	if l == nil {
		l = proxy.NewListener(name, proxy.ListenerOptions{})
		t.listeners[name] = l
	}
	return l
}

// An arrival is a session that is to be this process's.
type arrival struct {
	movedSession
	files    []int
	listener *proxy.Listener
	pool     proxy.PoolOptions
}

// restore makes a session of this loop, frozen, and returns its connections.
func (w *worker) restore(x arrival) (conns []*loop.Conn, err error) {
	front := w.loop.Attach(x.files[0], x.Front)
	conns = append(conns, front)
	var back proxy.Conn
	if x.Back != nil {
		conns = append(conns, w.loop.Attach(x.files[1], x.Back))
		back = conns[1]
	}
	toFront, toBack, err := w.sessions.Restore(x.Session, x.listener, x.pool, front, back)
	if err != nil {
		return conns, err
	}
	front.Handle(toFront)
	if back != nil {
		conns[1].Handle(toBack)
	}
	return conns, nil
}

// begin goes on with the sessions, by what the process before has known.
func (t *takeover) begin(e *estate) {
	t.mu.Lock()
	for _, b := range t.version.backends {
		for _, s := range e.Backends {
			if s.Pool == b.pool && s.Name == b.conf.Name && s.Address == b.conf.Address {
				t.stand(b, &s)
			}
		}
	}
	t.mu.Unlock()
	t.endings.goOn(e.Endings)
	t.eachLoop(func(i int, w *worker) {
		for _, c := range t.conns[i] {
			c.Thaw()
		}
		w.sessions.Thaw()
	})
	if e.Counted != nil {
		t.server.GiveCounts(e.Counted)
	}
	t.tally.give(e.Tally)
}

// stand makes b what the process before, and its operators, have made of it.
func (t *takeover) stand(b *backend, s *backendStanding) {
	b.Stand(s.Standing)
	b.known = true
	if s.Standing.Ordered {
		b.life.ejected = b.EjectedUntil()
	}
	b.life.drained = s.Drained
	if s.Share != 0 {
		b.life.share = s.Share
		b.Configure(s.Share, b.conf.MaxSessions, b.conf.Backup)
	}
	if !s.Deadline.IsZero() {
		t.giveUpAt(b, s.Deadline)
	}
}

// An heir hears what the process before counts of sessions that it has kept.
type heir struct {
	talk *handover.New
	done chan struct{}
}

// listen adds what it hears, until the process before has ended.
func (h *heir) listen(a *App) {
	defer close(h.done)
	for {
		data, err := h.talk.Later()
		if err != nil {
			return
		}
		var e estate
		if err := decode(data, &e); err != nil || e.Counted == nil {
			a.log.Error("counts are lost", "error", err)
			continue
		}
		a.server.AddCounts(e.Counted)
		a.tally.give(e.Tally)
	}
}

// wait waits until the process before has ended, or one of the others is closed. A
// nil heir has no process before.
func (h *heir) wait(cut, now <-chan struct{}) {
	if h == nil {
		return
	}
	select {
	case <-h.done:
	case <-cut:
	case <-now:
	}
	h.end()
}

// end listens no more.
func (h *heir) end() {
	if h == nil {
		return
	}
	h.talk.Close()
	<-h.done
}

// adminSocket returns the admin port of the process before, nil if there is none
// that can be used.
func (a *App) adminSocket(cfg *config.Config) (net.Listener, error) {
	return a.opts.Predecessor.adminListener(cfg.Admin.Address)
}
