package app

import (
	"net"
	"strings"
	"testing"

	"agiproxy/config"
)

// taken returns an address that somebody listens on.
func taken(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String()
}

// A New that fails says what was wanted, and leaves nothing open.
func TestNewThatFailsLeavesNothing(t *testing.T) {
	busy := taken(t)
	for name, c := range map[string]struct {
		change func(*config.Config)
		want   string
	}{
		"no such policy": {
			func(c *config.Config) { c.Pools[0].Balance = "fair" },
			`pool ivr: no balancing policy "fair"`,
		},
		"no such pattern": {
			func(c *config.Config) {
				c.Routes = []config.Route{{Pool: "ivr", Match: []config.Match{{Field: "script", Pattern: "~("}}}}
			},
			"route 1: match script: ",
		},
		"first listener": {
			func(c *config.Config) { c.Listeners[0].Address = busy },
			"listen tcp " + busy + ": bind: address already in use",
		},
		"second listener": {
			func(c *config.Config) { c.Listeners[1].Address = busy },
			"listen tcp " + busy + ": bind: address already in use",
		},
		"admin port": {
			func(c *config.Config) { c.Admin.Address = busy },
			"admin: listen tcp " + busy + ": bind: address already in use",
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := config.Parse("agiproxy.yaml", []byte("loops: 3\n"+fileOn(`"127.0.0.1:0" "127.0.0.1:0"`, quick, "127.0.0.1:1")))
			if err != nil {
				t.Fatal(err)
			}
			c.change(cfg)
			before := holdings()
			a, err := New(Options{Config: cfg})
			if err == nil {
				a.Close()
				a.Run(t.Context())
				t.Fatal("New() = nil; want an error")
			}
			if !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("New() = %q; want %q", err, c.want)
			}
			if left := before.left(); left != "" {
				t.Errorf("left over: %s", left)
			}
		})
	}
}

func TestRunLeavesNothing(t *testing.T) {
	s := startServer(t, "ivr1")
	before := holdings()
	t.Run("run", func(t *testing.T) {
		name := `{name: name, address: "localhost:1"}`
		p := serve(t, "loops: 2\n"+file(quick, s.entry(""), name))
		place(t, p.addr(0), "menu").wantServed("ivr1")
		p.reload(file(quick, s.entry(""), name))
		p.reload(file(quick, s.entry("")))
		p.get("/metrics")
	})
	if left := before.left(); left != "" {
		t.Errorf("left over: %s", left)
	}
}

// Two programs share nothing.
func TestTwoInstances(t *testing.T) {
	one, two := startServer(t, "ivr1"), startServer(t, "ivr2")
	p, q := serve(t, file(quick, one.entry(""))), serve(t, file(quick, two.entry("")))
	place(t, p.addr(0), "menu").wantServed("ivr1")
	place(t, q.addr(0), "menu").wantServed("ivr2")
	p.wantOutcomes(map[string]uint64{"completed": 1})
	q.wantOutcomes(map[string]uint64{"completed": 1})
}

func TestLoops(t *testing.T) {
	if got := loops(3); got != 3 {
		t.Errorf("loops(3) = %d; want as configured", got)
	}
	if got := loops(0); got < 1 {
		t.Errorf("loops(0) = %d; want at least 1", got)
	}
}

// What is hardly meant is said at the start, and at a reload.
func TestDoubtsAreLogged(t *testing.T) {
	p := serve(t, file(unprobed+"on_backend_loss: resume\n", `"127.0.0.1:1"`))
	if n := p.log.count("configuration is doubtful"); n != 1 {
		t.Errorf("the start has %d doubts; want 1", n)
	}
	if err := p.Reload(); err != nil {
		t.Fatal(err)
	}
	if n := p.log.count("configuration is doubtful"); n != 2 {
		t.Errorf("after a reload there were %d doubts; want 2", n)
	}
}
