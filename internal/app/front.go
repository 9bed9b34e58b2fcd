package app

import (
	"context"
	"fmt"
	"slices"
	"time"

	"agiproxy/config"
	"agiproxy/internal/legs"
	"agiproxy/internal/limits"
	"agiproxy/internal/loop"
	"agiproxy/proxy"
)

// A front is a listener: its socket, and what sessions know of it.
type front struct {
	address  string // as configured
	socket   *loop.Listener
	listener *proxy.Listener
	tls      *legs.Credentials // nil: plain TCP
	gate     *gate             // that is open, by TLS; nil: the loops accept, or nobody does
}

// listen opens what is not among the fronts before, and returns the fronts of
// the new configuration. After an error, all is as before.
func (a *App) listen(v *version, before []*front) (fronts []*front, err error) {
	defer func() {
		if err == nil {
			return
		}
		closeFronts(without(fronts, before))
		fronts = nil
	}()
	for i, c := range v.config.Listeners {
		same := func(f *front) bool { return f.address == c.Address && !slices.Contains(fronts, f) }
		if at := slices.IndexFunc(before, same); at >= 0 {
			fronts = append(fronts, before[at])
			continue
		}
		socket, err := a.socket(c.Address)
		if err != nil {
			return fronts, err
		}
		socket.Farewell = []byte(proxy.FailureLine)
		fronts = append(fronts, &front{address: c.Address, socket: socket, listener: proxy.NewListener(c.Address, listenerOptions(&c, v.tokens[i]))})
	}
	return fronts, nil
}

// otherDescriptors is how many descriptors agiproxy needs besides those of sessions:
// its loops, listeners, admin port, probes and log.
const otherDescriptors = 100

// warnDescriptors tells when the listeners let in more sessions than there are
// descriptors for: one towards Asterisk, and one towards a backend.
func (a *App) warnDescriptors(c *config.Config) {
	wanted := uint64(otherDescriptors)
	for _, l := range c.Listeners {
		wanted += 2 * uint64(l.MaxSessions)
	}
	if have, err := limits.Descriptors(); err == nil && have < wanted {
		a.log.Warn("fewer descriptors than the listeners' max_sessions may need", "descriptors", have, "wanted", wanted)
	}
}

// socket returns a socket that listens on an address: one that was inherited, or
// a new one.
func (a *App) socket(address string) (*loop.Listener, error) {
	o := loop.ListenOptions{PeerSpeaks: time.Second}
	if f := a.opts.Predecessor.listener(address); f != nil {
		defer f.Close()
		return loop.Inherit(f, o)
	}
	for _, s := range a.sockets {
		if s.isFor(address) {
			return loop.Inherit(s.file, o)
		}
	}
	return loop.Listen(context.Background(), address, o)
}

func listenerOptions(c *config.Listener, tokens []proxy.Token) proxy.ListenerOptions {
	return proxy.ListenerOptions{
		Allow: c.Allow, MaxSessions: c.MaxSessions, HeaderTimeout: c.HeaderTimeout, MaxHeaderBytes: c.MaxHeaderBytes,
		MaxSessionsPerSource: c.MaxSessionsPerSource, Rate: proxy.Rate{PerSecond: c.Rate.SessionsPerSecond, Burst: c.Rate.Burst},
		Tokens: tokens, AcceptProxyProtocol: c.AcceptProxyProtocol,
	}
}

// open has all loops accept from the fronts, and says so.
func (a *App) open(fronts []*front) {
	a.accept(fronts)
	for _, f := range fronts {
		a.log.Info("listening", "listener", f.address, "address", f.socket.Addr())
	}
}

// accept has all loops accept from the fronts, or by TLS their gates.
func (a *App) accept(fronts []*front) {
	for _, f := range fronts {
		if f.tls != nil {
			var err error
			if f.gate, err = a.openGate(f, f.tls); err != nil {
				a.log.Error("listener is not served", "listener", f.address, "error", err)
			}
			continue
		}
		a.onLoops(func(w *worker) {
			err := w.loop.Accept(f.socket, func(c *loop.Conn) loop.Handler {
				if h := w.sessions.Accept(f.listener, c); h != nil {
					return h
				}
				return nil
			}, func(err error) { w.sessions.Shed(f.listener); a.shed(f, err) })
			if err != nil {
				a.log.Error("listener is not served", "listener", f.address, "error", err)
			}
		})
	}
}

// configure has a front go by other limits from now on, and speak TLS with those
// credentials, or plain TCP if there are none. Limits that are meant for TLS are never
// those of a plain connection, nor the other way round.
func (a *App) configure(f *front, o proxy.ListenerOptions, c *legs.Credentials) {
	if f.tls == c {
		f.listener.Configure(o)
		return
	}
	if f.tls != nil && c != nil {
		a.log.Info("listener has other certificates", "listener", f.address)
	} else {
		a.log.Info("listener changes", "listener", f.address, "tls", c != nil)
	}
	if a.serving {
		a.refuse(f)
	}
	f.listener.Configure(o)
	f.tls = c
	if a.serving {
		a.accept([]*front{f})
	}
}

// refuse ends accepting from a front, which stays open. It waits for the loops.
func (a *App) refuse(f *front) {
	if f.gate != nil {
		f.gate.refuse()
		f.gate = nil
		return
	}
	a.eachLoop(func(_ int, w *worker) { w.loop.Refuse(f.socket) })
}

// shut ends accepting from the fronts and closes them. It waits for the loops,
// which must have been started.
func (a *App) shut(fronts []*front) {
	for _, f := range fronts {
		if f.gate != nil {
			f.gate.finish()
			f.gate = nil
		}
		a.eachLoop(func(_ int, w *worker) { w.loop.Finish(f.socket) })
		f.socket.Close()
		a.log.Info("stopped listening", "listener", f.address)
	}
}

// shed tells of a connection that there was no descriptor for, once a second at
// most for each listener.
func (a *App) shed(f *front, err error) {
	suppressed, told := a.sheds.Tell(f.address, time.Now())
	if !told {
		return
	}
	args := []any{"listener", f.address, "error", fmt.Errorf("accept: %w", err)}
	if suppressed > 0 {
		args = append(args, "suppressed", suppressed)
	}
	a.log.Warn("connection shed", args...)
}
