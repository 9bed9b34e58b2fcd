package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"agiproxy/proxy"
)

const (
	// keepAlive is how often a stream with nothing to tell says so, lest somebody
	// in between takes it for dead.
	keepAlive = 15 * time.Second
	// writeLimit is how long a reader may leave a stream full.
	writeLimit = 10 * time.Second
)

// A stream is an answer of server-sent events.
//
// Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func openStream(w http.ResponseWriter) *stream {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // an nginx in between must not keep lines back
	s := &stream{w, http.NewResponseController(w)}
	_ = s.write(": agiproxy\n\n")
	return s
}

// send sends an event. After an error the reader is gone.
func (s *stream) send(event any) error {
	data, err := json.Marshal(event) // in one line
	if err != nil {
		return err
	}
	return s.event(data)
}

// event sends an event that is encoded already.
func (s *stream) event(data []byte) error {
	return s.write(fmt.Sprintf("data: %s\n\n", data))
}

func (s *stream) write(text string) error {
	// Not every writer knows deadlines; one that doesn't has none.
	_ = s.control.SetWriteDeadline(time.Now().Add(writeLimit))
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}

// trace streams a session's dialogue until either ends. The last event is named
// end.
func (a *api) trace(w http.ResponseWriter, r *http.Request) (any, error) {
	session, err := a.findSession(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	t, err := a.Trace(session.ID)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	s := openStream(w)
	idle := time.NewTicker(keepAlive)
	defer idle.Stop()
	for err == nil {
		select {
		case l, more := <-t.Lines():
			if !more {
				_ = s.write("event: end\ndata: {}\n\n") // whom it concerns may be gone
				return nil, nil
			}
			err = s.send(Line{l.Time, l.From.String(), l.Text, t.Lost()})
		case <-idle.C:
			err = s.write(":\n\n")
		case <-r.Context().Done():
			return nil, nil
		}
	}
	return nil, nil
}

// events streams snapshots.
func (a *api) events(w http.ResponseWriter, r *http.Request) (any, error) {
	one := a.watch.join()
	if one == nil {
		w.Header().Set("Retry-After", "5")
		return nil, refuse(http.StatusServiceUnavailable, "%d watch already", mostWatchers)
	}
	defer a.watch.leave(one)
	s := openStream(w)
	for {
		select {
		case event := <-one.events:
			if s.event(event) != nil {
				return nil, nil
			}
		case <-r.Context().Done():
			return nil, nil
		}
	}
}

// NewQuantiles returns a histogram's quantiles, nil of an empty one.
func NewQuantiles(h proxy.Histogram) *Quantiles {
	p50, ok := h.Quantile(.5)
	if !ok {
		return nil
	}
	p99, _ := h.Quantile(.99)
	return &Quantiles{p50.Seconds(), p99.Seconds()}
}
