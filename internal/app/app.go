// Package app is the whole program without its command line: it builds the
// parts from a configuration, starts them, reloads them and stops them. It is
// the one package that knows all the others.
package app

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"agiproxy/admin"
	"agiproxy/config"
	"agiproxy/health"
	"agiproxy/internal/handover"
	"agiproxy/internal/legs"
	"agiproxy/internal/loop"
	"agiproxy/internal/resolve"
	"agiproxy/internal/seldom"
	"agiproxy/internal/systemd"
	"agiproxy/proxy"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Options of an App.
type Options struct {
	Config *config.Config
	File   string // that Config was read from; "" if there is none
	// Reload reads the configuration anew; nil if there is no file to read.
	Reload func() (*config.Config, error)
	Log    hclog.Logger // nil: nothing is logged
	// LogDropped returns how many log records were dropped so far, as by a
	// logsink.Sink; nil if none ever is. Safe for concurrent use.
	LogDropped func() uint64
	// Lookup finds the addresses of backends that are given by name; nil means
	// the system's resolver.
	Lookup resolve.Lookup
	// Notify tells the service manager how it goes; nil: nobody is told.
	Notify *systemd.Notifier
	// Sockets listen already: somebody else has opened them, such as systemd. A
	// listener of the configuration with the address of one uses it; the others
	// are opened. The App owns them.
	Sockets []*os.File
	// Begin starts the process that takes this one's place at an upgrade, and gives
	// it the socket as its Predecessor; nil: there can be no upgrade.
	Begin func(socket *os.File) (Successor, error)
	// Predecessor is the process whose place this one takes; nil: there is none.
	Predecessor *Predecessor

	Version, Commit, Date string // for agiproxy_build_info
}

// An App is a running agiproxy. Its methods are safe for concurrent use.
type App struct {
	opts       Options
	log        hclog.Logger
	sockets    []*inherited
	registry   *prometheus.Registry
	metrics    *metrics
	probes     *health.Metrics
	server     *proxy.Server
	tally      tally
	endings    endings
	latest     window
	workers    []*worker
	admin      *admin.Server          // nil: no admin port
	sheds      seldom.Records[string] // by listener
	legs       legs.Group
	handshakes handshakes
	refusals   seldom.Records[refusal]

	started    time.Time
	lastReload atomic.Pointer[admin.Reload]
	draining   atomic.Bool
	closeOnce  sync.Once
	closed     chan struct{}

	reloading sync.Mutex    // one reload at a time; taken before mu
	upgrading sync.Mutex    // one upgrade at a time; taken before reloading
	freezing  sync.RWMutex  // held while sessions are frozen; read-held by who asks for one of them
	handed    chan struct{} // closed when another process has taken over
	successor Successor     // that has; set before handed is closed
	heir      *heir         // of the process before; nil: there was none

	freezeWithin time.Duration // the constant's value; tests wait for less

	mu      sync.Mutex // guards what follows; only a reload changes the first two
	version *version
	fronts  []*front
	serving bool // Run has begun: the fronts are open and the backends watched
	stopped bool
	given   bool          // the backends' standing is told to that one: nothing may change it here any more
	talk    *handover.Old // with the process that is to take over; nil: there is none
}

// A worker is an event loop with its sessions.
type worker struct {
	loop     *loop.Loop
	sessions *proxy.Worker
}

// host is a loop as sessions see it.
type host struct{ *loop.Loop }

func (h host) Connect(addr netip.AddrPort, hd proxy.Handler) proxy.Conn {
	return h.Loop.Connect(addr, hd)
}

// New builds an App and listens, on the admin port too. What it can't have is
// an error that says what was wanted: "listen tcp :4577: bind: address already
// in use". After an error nothing is left open; else only Run closes it.
func New(o Options) (*App, error) {
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	a := &App{
		opts: o, log: o.Log, registry: prometheus.NewRegistry(), started: time.Now(), closed: make(chan struct{}), handed: make(chan struct{}),
		freezeWithin: freezeWithin,
	}
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	a.metrics = newMetrics(a.registry, o)
	a.probes = health.NewMetrics(a.registry)
	a.server = proxy.NewServer(proxy.Options{Log: o.Log.Named("proxy"), Ended: a.ended})
	a.registry.MustRegister(a.server.Collector(), newExpiries(a))
	a.handshakes.begin()
	if err := a.start(); err != nil {
		a.opts.Predecessor.Refuse(err)
		a.abandon()
		return nil, err
	}
	return a, nil
}

// start does what can fail in New.
func (a *App) start() error {
	cfg := a.opts.Config
	if p := a.opts.Predecessor; p != nil {
		given, err := p.meet()
		if err != nil {
			return fmt.Errorf("take over: %w", err)
		}
		a.opts.Sockets = append(a.opts.Sockets, given...)
	}
	v, err := a.build(cfg, nil)
	if err != nil {
		return err
	}
	engine := loop.Engine(cfg.Engine)
	for range loops(cfg.Loops) {
		l, err := loop.New(loop.Options{Engine: engine})
		if err != nil {
			return fmt.Errorf("open event loop: %w", err)
		}
		engine = l.Engine() // all loops work alike
		a.workers = append(a.workers, &worker{l, a.server.NewWorker(host{l})})
	}
	if a.sockets, err = inherit(a.opts.Sockets); err != nil {
		return err
	}
	if a.fronts, err = a.listen(v, nil); err != nil {
		return err
	}
	for i, f := range a.fronts {
		f.tls = v.keys.listeners[i]
	}
	a.warnUnused()
	a.warnDescriptors(cfg)
	if cfg.Admin.Address != "" {
		socket, err := a.adminSocket(cfg)
		if err != nil {
			return fmt.Errorf("admin: %w", err)
		}
		a.admin, err = admin.Listen(context.Background(), cfg.Admin.Address, admin.Options{
			Registry: a.registry, Socket: socket, Control: control{a}, Ready: a.ready, Profiling: a.profiling, Hosts: a.hosts,
			WebConfig: cfg.Admin.WebConfigFile, Log: a.log.Named("admin"),
		})
		if err != nil {
			return fmt.Errorf("admin: %w", err)
		}
	}
	a.version = v
	a.server.Swap(a.table(v, a.server.Table()))
	a.reloaded(nil)
	a.warn(cfg)
	return nil
}

// warn tells what of a configuration is hardly meant.
func (a *App) warn(cfg *config.Config) {
	for _, w := range cfg.Warnings() {
		a.log.Warn("configuration is doubtful", "reason", w)
	}
}

// abort ends a Run that could not take over.
func (a *App) abort(loops *sync.WaitGroup) {
	for _, w := range a.workers {
		w.loop.Stop() // which gives up no more than this process's descriptors
	}
	loops.Wait()
	closeFronts(a.fronts)
	if a.admin != nil {
		a.admin.Close()
	}
	a.disown()
}

// ended is told of each session that has ended, on its loop.
func (a *App) ended(r proxy.Record) {
	a.tally.count(r)
	a.endings.add(r)
}

// abandon closes what a New that failed has opened.
func (a *App) abandon() {
	closeFronts(a.fronts)
	a.disown()
	for _, w := range a.workers {
		w.loop.Stop()
		w.loop.Run() // which closes it, being stopped
	}
}

// loops returns how many event loops to run: one carries some ten thousand
// sessions, and fewer loops wake each other's processors less.
func loops(configured int) int {
	if configured > 0 {
		return configured
	}
	if n := runtime.NumCPU(); n > 4 {
		return n / 2
	}
	return 1
}

// Addr returns the address of the first listener.
func (a *App) Addr() netip.AddrPort {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.fronts[0].socket.Addr()
}

// AdminAddr returns the admin port's address, "" if there is none.
func (a *App) AdminAddr() string {
	if a.admin == nil {
		return ""
	}
	return a.admin.Addr().String()
}

// Run serves until ctx ends, then drains: nothing new is accepted, and sessions
// under way get the drain timeout to end. It must be called once, even if ctx
// has ended, and leaves nothing open. The error is an event loop's, which
// nothing from outside brings about.
func (a *App) Run(ctx context.Context) error {
	// A loop keeps its processor while it waits, and Go's scheduler looks after it
	// every hundredth of a second. With more processors for Go than the machine
	// has, it would wake threads to look for work at the loop's expense; with as
	// many, others may have to wait for such a moment while a loop is busy.
	// Said in any case, since otherwise Go may lower the number while we run.
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), len(a.workers)))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var loops, others sync.WaitGroup
	failed := make([]error, len(a.workers))
	for i, w := range a.workers {
		loops.Go(func() {
			if err := w.loop.Run(); err != nil {
				failed[i] = fmt.Errorf("event loop: %w", err)
				cancel()
			}
		})
	}
	a.log.Info("event loops run", "loops", len(a.workers), "engine", a.workers[0].loop.Engine())
	if err := a.takeOver(); err != nil {
		a.abort(&loops)
		return err
	}
	if a.admin != nil {
		others.Go(a.admin.Serve)
		a.log.Info("admin port is open", "address", a.admin.Addr())
	}
	keeping := start(func(ctx context.Context) { a.latest.keep(ctx, a.server.Totals) })
	renewing := start(a.keepKeys)
	a.serve()
	a.opts.Notify.Ready()
	reports := start(a.report)
	select {
	case <-ctx.Done():
	case <-a.closed:
	case <-a.handed:
		end(reports) // others report now
	}
	if a.hangUp() {
		a.retire(ctx)
	} else {
		a.stop()
	}
	end(reports) // to the end, so that a drain can be watched and is not taken for a hang
	a.disown()
	end(keeping, renewing)
	a.handshakes.end()
	for _, w := range a.workers {
		w.loop.Stop()
	}
	loops.Wait()
	a.legs.Close()
	if a.admin != nil {
		a.admin.Close() // last, so that a drain can be watched
	}
	others.Wait()
	return errors.Join(failed...)
}

// serve opens the fronts and starts to watch the backends, of the version that
// a reload may have brought since New.
func (a *App) serve() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serving = true
	a.open(a.fronts)
	a.watch(a.version, nil)
	a.loseDownLocked()
}

// Close ends Run now, or cuts its drain short: sessions under way end with the
// outcome shutdown.
func (a *App) Close() { a.closeOnce.Do(func() { close(a.closed) }) }

const (
	// farewell is how long sessions get to tell their Asterisk of a shutdown.
	farewell = 2 * time.Second
	// drainLook is how often a drain looks how many sessions are left.
	drainLook = 50 * time.Millisecond
	// stopMargin is what a stop may take beside its drain: the farewells, and
	// what a busy machine takes to end everything.
	stopMargin = 2*farewell + 10*time.Second
)

// stop drains the sessions and ends the watching. A reload that is under way
// finds out before it changes anything.
func (a *App) stop() {
	a.mu.Lock()
	fronts, v := a.fronts, a.version
	a.mu.Unlock()
	timeout := v.config.DrainTimeout
	a.opts.Notify.Stopping(timeout + stopMargin)
	a.shut(fronts)
	if n := a.live(); n > 0 {
		a.log.Info("draining", "sessions", n, "timeout", timeout)
	}
	a.drain(timeout)
	a.heir.end()
	v.unwatch()
}

// drain gives the sessions that long to end, and then ends them.
func (a *App) drain(timeout time.Duration) {
	if !a.await(timeout, a.closed) {
		a.log.Warn("sessions are cut", "sessions", a.server.Sessions())
		a.onLoops(func(w *worker) { w.sessions.Stop() })
		a.await(farewell, nil)
		a.onLoops(func(w *worker) { w.sessions.Abort() })
		a.await(farewell, nil)
	}
}

// awaitEnd waits until no session is left, and reports whether that came to be
// before cut was closed, or Close called.
func (a *App) awaitEnd(cut <-chan struct{}) bool {
	look := time.NewTicker(drainLook)
	defer look.Stop()
	for a.live() > 0 {
		select {
		case <-cut:
			return a.live() == 0
		case <-a.closed:
			return a.live() == 0
		case <-look.C:
		}
	}
	return true
}

// await waits until no session is left and reports whether that came to be. It
// gives up after limit, or when cut is closed.
func (a *App) await(limit time.Duration, cut <-chan struct{}) bool {
	late := time.NewTimer(limit)
	defer late.Stop()
	look := time.NewTicker(drainLook)
	defer look.Stop()
	for a.live() > 0 {
		select {
		case <-late.C:
			return a.live() == 0
		case <-cut:
			return a.live() == 0
		case <-look.C:
		}
	}
	return true
}

// onLoops has f run on each loop. It doesn't wait.
func (a *App) onLoops(f func(*worker)) {
	for _, w := range a.workers {
		_ = w.loop.Do(func() { f(w) }) // a loop that has ended has no sessions
	}
}

// ready tells why calls can't be served, nil if they can.
func (a *App) ready() error {
	if a.draining.Load() {
		return errors.New("draining")
	}
	var unable []string
	for _, p := range a.server.Table().Pools {
		if !p.Backends().CanServe() {
			unable = append(unable, p.Name())
		}
	}
	switch len(unable) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("pool %s: no backend can serve", unable[0])
	}
	return fmt.Errorf("pools %s: no backend can serve", strings.Join(unable, ", "))
}

// profiling reports whether the configuration that is in force wants profiles to
// be shown.
func (a *App) profiling() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.version.config.Admin.Profiling
}

// hosts returns the names by which the admin port may be asked for now.
func (a *App) hosts() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.version.config.Admin.Hosts
}
