// Package admin is the port that tells operators and their tools how agiproxy
// is doing.
package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Options is what the admin port shows.
type Options struct {
	Registry  *prometheus.Registry
	Socket    net.Listener // that listens already, and is used instead of the address; nil: none
	Ready     func() error // nil when calls can be served, else why not; safe for concurrent use
	Profiling func() bool  // whether profiles are shown now; safe for concurrent use; nil: never
	Log       hclog.Logger // nil: nothing is logged
}

func (o Options) withDefaults() Options {
	if o.Profiling == nil {
		o.Profiling = func() bool { return false }
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
	log      hclog.Logger
}

// Listen opens the port; the address may leave the choice to the system. Close
// closes it, whether Serve was called or not.
func Listen(ctx context.Context, address string, o Options) (*Server, error) {
	o = o.withDefaults()
	ln := o.Socket
	if ln == nil {
		var err error
		if ln, err = new(net.ListenConfig).Listen(ctx, "tcp", address); err != nil {
			return nil, err
		}
	}
	return &Server{
		listener: ln,
		log:      o.Log,
		http: &http.Server{
			Handler:           Handler(o),
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
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		s.log.Error("admin port has ended", "error", err)
	}
}

// Close ends Serve, after giving answers under way a moment.
func (s *Server) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	s.listener.Close() // which Shutdown knows of only once Serve has begun
}

// Handler returns the admin port's pages:
//
//	GET /              links to the next three
//	GET /metrics       for Prometheus
//	GET /-/healthy     200 as long as the process answers
//	GET /-/ready       200 when calls can be served, else 503 and why not
//	GET /debug/pprof/  for go tool pprof, while profiling is on
func Handler(o Options) http.Handler {
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
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><title>agiproxy</title><h1>agiproxy</h1>
<ul><li><a href="/metrics">metrics</a><li><a href="/-/healthy">healthy</a><li><a href="/-/ready">ready</a></ul>
`)
	})
	return mux
}
