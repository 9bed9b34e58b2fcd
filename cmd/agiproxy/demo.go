package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"agiproxy/config"
	"agiproxy/internal/app"
)

func newDemo() *cobra.Command {
	var listen string
	var duration time.Duration
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show what agiproxy does, with nothing installed",
		Long: `demo runs the proxy, three small FastAGI servers and simulated callers in one
process. It shows calls being balanced, kills a server now and then, and shows
that no call fails. The port stays open for a real Asterisk until ^C.

A server is killed at a moment when it has no call: what a script has begun dies
with its server, and such a call ends with AGISTATUS=FAILURE, as it should. Calls
that are on their way to the dead server are what the proxy saves.`,
		Example: `  agiproxy demo
  agiproxy demo --listen :4600
  agiproxy demo --duration 30s | cat            plain lines, and exit code 1 if a call failed`,
		Args: wants(0, "none"),
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if duration < 0 {
				return &wrongError{fmt.Errorf("demo: --duration %v; want a time, or 0 for no end", duration)}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo(cmd.OutOrStdout(), listen, duration)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", ":4577", "`ADDRESS` for the callers, and for a real Asterisk")
	cmd.Flags().DurationVar(&duration, "duration", 0, "end after this `time`; 0: at ^C")
	return cmd
}

// A tempo is how fast a demo goes.
type tempo struct {
	callers        int
	prompt, spread time.Duration // a prompt plays for prompt and up to spread more
	digit          time.Duration // that a caller has to type
	pause          time.Duration // at most, between two calls of a caller
	calm           time.Duration // with all servers running
	outage         time.Duration // of one server
	interval       time.Duration // between probes
	fastInterval   time.Duration
	look           time.Duration // between looks at the proxy
}

// newTempo is for people to watch, and faster where there is little time, so
// that a server's death and return still fit.
func newTempo(duration time.Duration) tempo {
	scale := 1.0
	if enough := 45 * time.Second; 0 < duration && duration < enough {
		scale = float64(duration) / float64(enough)
	}
	t := func(d, least time.Duration) time.Duration {
		return max(time.Duration(scale*float64(d)), least)
	}
	return tempo{
		callers:      8,
		prompt:       t(600*time.Millisecond, 10*time.Millisecond),
		spread:       t(800*time.Millisecond, 10*time.Millisecond),
		digit:        t(time.Second, 10*time.Millisecond),
		pause:        t(500*time.Millisecond, 10*time.Millisecond),
		calm:         t(8*time.Second, 500*time.Millisecond),
		outage:       t(8*time.Second, time.Second), // time to be noticed
		interval:     t(time.Second, 300*time.Millisecond),
		fastInterval: t(250*time.Millisecond, 50*time.Millisecond),
		look:         t(200*time.Millisecond, 50*time.Millisecond),
	}
}

// demo runs the show until a signal comes, or for a while.
func demo(out io.Writer, listen string, duration time.Duration) error {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	arrivals := ctx // while it lasts, callers call
	if duration > 0 {
		var cancel context.CancelFunc
		arrivals, cancel = context.WithTimeout(ctx, duration)
		defer cancel()
	}

	pace := newTempo(duration)
	b := newBoard()
	servers, err := startIVRs(3, pace.digit, b)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer func() {
		for _, v := range servers {
			v.close()
		}
	}()
	proxy, err := startProxy(listen, servers, pace)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer proxy.stop()

	c := &callers{pace: pace, address: reach(proxy.app.Addr(), "127.0.0.1"), board: b, gate: newGate()}
	var others, calling sync.WaitGroup
	others.Go(func() { plot{pace, servers, c.gate, b}.run(arrivals) })
	for n := range pace.callers {
		calling.Go(func() { c.run(ctx, arrivals, n) })
	}
	done := make(chan struct{})
	others.Go(func() { calling.Wait(); close(done) })

	s := &show{app: proxy.app, servers: servers, board: b, pace: pace}
	s.run(newStage(out), done)
	others.Wait()
	return verdict(out, b)
}

// verdict says how it went.
func verdict(out io.Writer, b *board) error {
	t := b.totals()
	fmt.Fprintf(out, "demo: %s served, %d failed; %s killed, %s met a dead server and went on to another\n",
		count(t.served, "call"), t.failed, count(t.kills, "server"), count(t.moved, "call"))
	switch {
	case t.failed > 0:
		return fmt.Errorf("demo: %s failed", count(t.failed, "call"))
	case t.served == 0:
		return errors.New("demo: no call was served; there was too little time")
	}
	return nil
}

// demoConfig is the demo's whole configuration.
const demoConfig = `
listeners:
  - address: %q
pools:
  demo:
    balance: least-connections
    health: {probe: agi, interval: %v, fast_interval: %[3]v, timeout: %[2]v, rise: 2, fall: 3}
    backends:
      - {name: ivr1, address: %[4]q}
      - {name: ivr2, address: %[5]q}
      - {name: ivr3, address: %[6]q}
admin:
  address: %[7]q
drain_timeout: 1s
`

// A running is a proxy that runs.
type running struct {
	app   *app.App
	end   context.CancelFunc
	ended chan struct{}
}

// startProxy runs agiproxy in front of the servers. Metrics go to their usual
// port, or to any if that is taken.
func startProxy(listen string, servers []*ivr, pace tempo) (*running, error) {
	a, err := newDemoApp(listen, "127.0.0.1:9577", servers, pace)
	if errors.Is(err, syscall.EADDRINUSE) {
		a, err = newDemoApp(listen, "127.0.0.1:0", servers, pace)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w; choose another address, such as --listen :4600", err)
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{a, cancel, make(chan struct{})}
	go func() {
		defer close(r.ended)
		_ = a.Run(ctx) // whatever it is, calls fail of it, and those are counted
	}()
	return r, nil
}

func newDemoApp(listen, admin string, servers []*ivr, pace tempo) (*app.App, error) {
	if _, err := config.Simple(listen, []string{servers[0].address}); err != nil {
		return nil, &wrongError{err} // in the flag's words, not the text's
	}
	text := fmt.Appendf(nil, demoConfig, listen, pace.interval, pace.fastInterval,
		servers[0].address, servers[1].address, servers[2].address, admin)
	cfg, err := config.Parse("--listen "+listen, text)
	if err != nil {
		return nil, &wrongError{err}
	}
	b := buildInfo()
	return app.New(app.Options{
		Config: cfg, Log: hclog.NewNullLogger(),
		Version: b.version, Commit: b.commit, Date: b.date,
	})
}

// stop ends the proxy, and the calls of a real Asterisk after a second.
func (r *running) stop() {
	r.end()
	<-r.ended
}
