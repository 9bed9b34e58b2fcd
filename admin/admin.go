// Package admin is the port that tells operators and their tools how agiproxy
// is doing, and lets them change it: metrics, health, and an API under /api/v1.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/exporter-toolkit/web"
)

// Options is what the admin port shows.
type Options struct {
	Registry  *prometheus.Registry
	Socket    net.Listener // that listens already, and is used instead of the address; nil: none
	Control   Controller   // what the API asks and commands; nil: there is no API
	Ready     func() error // nil when calls can be served, else why not; safe for concurrent use
	Profiling func() bool  // whether profiles are shown now; safe for concurrent use; nil: never
	Log       hclog.Logger // nil: nothing is logged
	// Hosts returns the names, in lower case, by which the port may be asked for
	// beside its addresses and localhost. Safe for concurrent use; nil: there are none.
	Hosts func() []string

	// WebConfig is a file of TLS, users and client certificates, see
	// [CheckWebConfig]; "" is plain HTTP for everybody. Certificates and users
	// are read again when they change.
	WebConfig string
}

func (o Options) withDefaults() Options {
	if o.Profiling == nil {
		o.Profiling = func() bool { return false }
	}
	if o.Hosts == nil {
		o.Hosts = func() []string { return nil }
	}
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	return o
}

// A Server answers on the admin port.
type Server struct {
	listener net.Listener
	http     *http.Server
	web      string // the file of TLS and users
	log      hclog.Logger
	watch    func()
	end      context.CancelFunc // of the streams, and of watch
}

// Listen opens the port; the address may leave the choice to the system. Close
// closes it, whether Serve was called or not.
func Listen(ctx context.Context, address string, o Options) (*Server, error) {
	o = o.withDefaults()
	if err := CheckWebConfig(o.WebConfig); err != nil {
		return nil, fmt.Errorf("web_config_file %s: %w", o.WebConfig, err)
	}
	safe, err := guarded(o.WebConfig)
	if err != nil {
		return nil, err
	}
	ln := o.Socket
	if ln == nil {
		if ln, err = new(net.ListenConfig).Listen(ctx, "tcp", address); err != nil {
			return nil, err
		}
	}
	requests, end := context.WithCancel(context.Background())
	w := newWatch(o.Control)
	h := handler(o, w)
	if !safe {
		h = knownHosts(o.Hosts, h)
	}
	return &Server{
		listener: ln,
		web:      o.WebConfig,
		log:      o.Log,
		end:      end,
		watch: func() {
			if o.Control != nil {
				w.run(requests)
			}
		},
		http: &http.Server{
			Handler:           h,
			BaseContext:       func(net.Listener) context.Context { return requests },
			ReadHeaderTimeout: 5 * time.Second,
			IdleTimeout:       2 * time.Minute,
			ErrorLog:          o.Log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
		},
	}, nil
}

// Addr returns the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// File returns a copy of the port's socket, for another process.
func (s *Server) File() (*os.File, error) {
	ln, ok := s.listener.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, fmt.Errorf("a %T can't be given away", s.listener)
	}
	return ln.File()
}

// Serve answers until Close.
func (s *Server) Serve() {
	var watching sync.WaitGroup
	watching.Go(s.watch)
	defer watching.Wait()
	err := web.Serve(s.listener, s.http, &web.FlagConfig{WebConfigFile: &s.web}, slog.New(toolkitLog{s.log}))
	if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		s.log.Error("admin port has ended", "error", err)
	}
}

// Close ends Serve, after giving answers under way a moment. One that has led to
// Close, as that to an upgrade, is under way too.
func (s *Server) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s.end()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	s.listener.Close() // which Shutdown knows of only once Serve has begun
}

// handler returns the admin port's pages:
//
//	GET /              the status page; its parts are below /page/
//	GET /metrics       for Prometheus
//	GET /-/healthy     200 as long as the process answers
//	GET /-/ready       200 when calls can be served, else 503 and why not
//	GET /debug/pprof/  for go tool pprof, while profiling is on
//	POST /-/reload     as POST /api/v1/reload
//	/api/v1/           see routes
//
// What changes something may not come from a page of another site. Snapshots are
// w's; it may be nil if there is no API.
func handler(o Options, w *watch) http.Handler {
	o = o.withDefaults()
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Registry, promhttp.HandlerOpts{
		Registry: o.Registry,
		ErrorLog: o.Log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Error}),
		// A scrape may have to share the event loops' processor, and of what it
		// takes, compression was between a quarter and a half: a lot for a page
		// of 20 KB that goes over loopback.
		DisableCompression: true,
	}))
	mux.Handle("/debug/pprof/", profiles(o.Profiling))
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "agiproxy is healthy.")
	})
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if err := o.Ready(); err != nil {
			http.Error(w, "agiproxy is not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "agiproxy is ready.")
	})
	if o.Control != nil {
		register(mux, o.Control, w)
		a := &api{Controller: o.Control}
		mux.HandleFunc("POST /-/reload", a.serve((*api).reload))
	}
	registerPage(mux)
	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		problem(w, refuse(http.StatusForbidden, "a page of another site may not do that"))
	}))
	return sameOrigin.Handler(mux)
}
