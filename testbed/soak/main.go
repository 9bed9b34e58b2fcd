//go:build linux

// Soak runs agiproxy for half an hour between servers that come and go and
// Asterisks whose calls end in every way, with reloads, upgrades and scrapes, and
// sees whether memory, descriptors and goroutines end where they began, whether all
// calls were counted, and whether anybody was told what was meant for somebody else.
//
//	testbed/soak/run        half an hour; writes docs/soak.md and its charts anew
//	testbed/soak/run 2m     does it still work; writes nothing
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.SetOutput(stderr)
	binary := flags.String("agiproxy", "", "the `program`")
	length := flags.Duration("for", 30*time.Minute, "how long it takes")
	rate := flags.Int("rate", 100, "new calls a second")
	page := flags.String("docs", "", "the `page` whose results are written anew, with charts in a directory of its name; \"\" for none")
	scratch := flags.String("scratch", ".", "the `directory` for the configuration and the log")
	seed := flags.Uint64("seed", rand.Uint64(), "of the choices")
	if flags.Parse(args) != nil || flags.NArg() > 0 {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := &soak{
		out: stdout, length: *length, rate: *rate, seed: *seed, began: time.Now(),
		random: rand.New(rand.NewPCG(*seed, 1)), calls: newCalls(*length / 10), faults: &faults{out: stdout},
	}
	err := s.run(ctx, *binary, *scratch)
	if err == nil && *page != "" {
		err = s.document(*page)
	}
	if err != nil {
		fmt.Fprintf(stderr, "soak: %v\n", err)
		return 1
	}
	if n := s.faults.count(); n > 0 {
		fmt.Fprintf(stdout, "FAILED: %d faults\n", n)
		return 1
	}
	fmt.Fprintln(stdout, "passed")
	return 0
}

// A soak is one run.
type soak struct {
	out    io.Writer
	length time.Duration
	rate   int
	seed   uint64
	began  time.Time
	random *rand.Rand // of the disturbances

	faults   *faults
	calls    *calls
	proxy    *agiproxy
	backends []*backend
	watch    *watch

	upgrades, reloads, kills int
	resting                  []rest
}

// faults is what went wrong. It is safe for concurrent use.
type faults struct {
	out io.Writer

	mu sync.Mutex
	n  int
}

// shownFaults is how many faults are printed: the first ones tell most.
const shownFaults = 50

func (f *faults) add(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n++; f.n <= shownFaults {
		fmt.Fprintf(f.out, "FAULT %s "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
	}
}

func (f *faults) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

func (s *soak) say(format string, args ...any) {
	fmt.Fprintf(s.out, "%6s  "+format+"\n", append([]any{time.Since(s.began).Round(time.Second)}, args...)...)
}

// run goes through the phases: after each there is a rest, in which everything has
// to be back to what it was.
func (s *soak) run(ctx context.Context, binary, scratch string) error {
	if err := loopbackUp(); err != nil {
		return err
	}
	s.say("seed %d, %v, %d calls a second", s.seed, s.length, s.rate)
	for i := range servers {
		b, err := newBackend(i, s.calls, s.faults)
		if err != nil {
			return err
		}
		defer b.stop()
		s.backends = append(s.backends, b)
	}
	var err error
	if s.proxy, err = startProxy(binary, scratch, s.backends); err != nil {
		return err
	}
	defer s.proxy.kill()
	s.watch = &watch{proxy: s.proxy, calls: s.calls, began: s.began}
	watching, endWatch := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	defer watcher.Wait()
	defer endWatch()
	watcher.Go(func() { s.watch.keep(watching, min(max(s.length/400, time.Second), 10*time.Second)) })

	tenth := s.length / 10
	for _, p := range []phase{
		{"warm-up", tenth, true},
		{"with upgrades", 3 * tenth, true},
		{"after the last upgrade", tenth, false}, // the process that the next phase begins with is warm, too
		{"without upgrades", 4 * tenth, false},
	} {
		if err := s.load(ctx, p); err != nil {
			return err
		}
		if err := s.rest(ctx, p.name, s.length/30); err != nil {
			return err
		}
	}
	s.judge()
	s.summary()
	return s.proxy.stop()
}

// A phase is a time of load and disturbances.
type phase struct {
	name     string
	length   time.Duration
	upgrades bool
}

// load has calls come and everything be disturbed for a while, and returns when the
// last call has ended.
func (s *soak) load(ctx context.Context, p phase) error {
	s.say("%s: %v of calls", p.name, p.length)
	during, cancel := context.WithTimeout(ctx, p.length)
	defer cancel()
	var work sync.WaitGroup
	work.Go(func() { s.killBackends(during) })
	work.Go(func() { s.calls.come(during, s.proxy.address, s.rate, s.faults) })
	err := s.disturb(during, p.upgrades)
	work.Wait()
	if err != nil {
		return err
	}
	return ctx.Err()
}
