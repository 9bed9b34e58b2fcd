package admin

import (
	"net/http"
	"net/http/pprof"
)

// profiles returns the pages of Go's profiler, which are only there while
// on says so. Importing net/http/pprof registers them with http.DefaultServeMux
// besides, which does no harm: nothing serves that. And Go samples what is
// allocated, one in 512 KiB, only in programs that import it: always, so that
// the heap's profile is whole whenever it is turned on. That cost is too small
// to be measured.
func profiles(on func() bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index) // and heap, goroutine, …: every profile by its name
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol) // addresses may be too many for a URL
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !on() {
			http.NotFound(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}
