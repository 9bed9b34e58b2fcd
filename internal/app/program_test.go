package app

import (
	"context"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agiproxy/config"

	"github.com/hashicorp/go-hclog"
)

// patience is how long a test waits for what has to come.
const patience = 10 * time.Second

// A program is an App over real sockets, with its file and its log.
type program struct {
	*App
	t    *testing.T
	log  *journal
	stop context.CancelFunc // as TERM does
	end  chan error         // what Run returned

	mu   sync.Mutex
	file string
}

// prepare makes a program that doesn't run yet.
func prepare(t *testing.T, file string, change ...func(*Options)) *program {
	t.Helper()
	p := &program{t: t, log: &journal{t: t}, file: file, end: make(chan error, 1), stop: func() {}}
	cfg, err := p.read()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Config: cfg, Reload: p.read, Log: hclog.New(&hclog.LoggerOptions{Output: p.log, Level: hclog.Debug})}
	for _, f := range change {
		f(&o)
	}
	if p.App, err = New(o); err != nil {
		t.Fatal(err)
	}
	return p
}

// serve makes a program and runs it for the test.
func serve(t *testing.T, file string, change ...func(*Options)) *program {
	t.Helper()
	p := prepare(t, file, change...)
	p.run()
	return p
}

func (p *program) run() {
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	go func() { p.end <- p.Run(ctx) }()
	p.t.Cleanup(func() {
		cancel()
		p.Close()
		p.ended()
		p.log.close()
	})
}

// ended waits until Run has returned.
func (p *program) ended() {
	p.t.Helper()
	select {
	case err := <-p.end:
		p.end <- nil
		if err != nil {
			p.t.Errorf("Run() = %v; want nil", err)
		}
	case <-time.After(patience):
		p.t.Fatal("Run has not returned")
	}
}

// read is what Options.Reload is given.
func (p *program) read() (*config.Config, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return config.Parse("agiproxy.yaml", []byte(p.file))
}

func (p *program) write(file string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.file = file
}

// reload writes the file and reloads it, which must go well.
func (p *program) reload(file string) {
	p.t.Helper()
	p.write(file)
	if err := p.Reload(); err != nil {
		p.t.Fatalf("Reload() = %v; want nil", err)
	}
}

// addr returns the address of the listener with that index.
func (p *program) addr(i int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fronts[i].socket.Addr().String()
}

// backend returns a backend by name, nil if there is none now.
func (p *program) backend(name string) *backend {
	p.App.mu.Lock()
	defer p.App.mu.Unlock()
	for _, b := range p.version.backends {
		if b.conf.Name == name {
			return b
		}
	}
	return nil
}

// get fetches a page of the admin port.
func (p *program) get(path string) (status int, body string) {
	p.t.Helper()
	resp, err := http.Get("http://" + p.AdminAddr() + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	return resp.StatusCode, string(text)
}

// series returns the value of one series of the registry, and false if there is
// no such series. The labels are a, b as in {pool="a",outcome="b"}, sorted by
// their names.
func (p *program) series(name string, labels ...string) (float64, bool) {
	p.t.Helper()
	families, err := p.registry.Gather()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.Metric {
			var values []string
			for _, l := range m.Label {
				values = append(values, l.GetValue())
			}
			if !slices.Equal(values, labels) {
				continue
			}
			switch {
			case m.Counter != nil:
				return m.Counter.GetValue(), true
			case m.Gauge != nil:
				return m.Gauge.GetValue(), true
			}
			return float64(m.Histogram.GetSampleCount()), true
		}
	}
	return 0, false
}

// wantSeries checks the value of one series.
func (p *program) wantSeries(want float64, name string, labels ...string) {
	p.t.Helper()
	if got, ok := p.series(name, labels...); !ok || got != want {
		p.t.Errorf("%s%q = %v (there: %v); want %v", name, labels, got, ok, want)
	}
}

// wantOutcomes checks the counts of ended sessions, after the last has ended:
// the caller sees its end a little earlier than agiproxy does.
func (p *program) wantOutcomes(want map[string]uint64) {
	p.t.Helper()
	eventually(p.t, "the end of all sessions", func() bool { return p.server.Sessions() == 0 })
	if got := p.Status().Outcomes; !maps.Equal(got, want) {
		p.t.Errorf("outcomes: %v; want %v", got, want)
	}
}

// A journal is a log that ends with its test.
type journal struct {
	t    *testing.T
	mu   sync.Mutex
	text strings.Builder
	over bool
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text.Write(line)
	if !j.over {
		j.t.Logf("%s", strings.TrimSpace(string(line)))
	}
	return len(line), nil
}

func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.over = true
}

func (j *journal) count(text string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), text)
}

func (j *journal) want(text string) {
	j.t.Helper()
	if j.count(text) == 0 {
		j.t.Errorf("the log lacks %q", text)
	}
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}
