package fault

import (
	"encoding/json"
	"net/http"
)

// Control returns the control port of a server in a process of its own:
//
//	GET  /stats      the server's Stats
//	GET  /sessions   the records of its sessions
//	GET  /calls      those that are no probes
//	POST /fault?fault=mid-command&after=1   sets its behaviour
//
// all in JSON. It asks nobody for a password: it belongs on loopback.
func (s *Server) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.Stats()) })
	mux.HandleFunc("GET /sessions", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.Sessions()) })
	mux.HandleFunc("GET /calls", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.Calls()) })
	mux.HandleFunc("POST /fault", func(w http.ResponseWriter, r *http.Request) {
		b, err := fromValues(r.URL.Query())
		if err == nil {
			err = s.Set(b)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		reply(w, b)
	})
	return mux
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}
