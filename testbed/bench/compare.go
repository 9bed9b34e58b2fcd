//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"agiproxy/testbed/bench/load"
)

// A comparison measures peers against each other.
type comparison struct {
	g                  *load.Generator
	peers              []peer
	usual              bool // nobody has named them: not all of them everywhere
	scenarios          []scenario
	rounds             int
	warmup, duration   time.Duration
	settles            time.Duration // of idle sessions, before memory is read
	proxyCPU, ownCPU   int           // of pinned scenarios; -1: not pinned at all
	few, many, ofCalls int           // idle sessions, and a divisor of counts, smaller in the short form
	lenient            bool          // a machine that lets nobody be traced is no failure
	dir                string
	out                io.Writer
	incorrect          int
}

// compareCommand measures everything and writes it down. A session that went
// wrong is an error, after all else was measured.
func compareCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	var (
		specs    []string
		names    = flags.String("peers", "", "whom to compare (agiproxy,haproxy,haproxy-log,haproxy-rule,nginx,direct; also haproxy-log-rule), agiproxy being every -agiproxy; none: those that tell something, in each scenario")
		which    = flags.String("scenarios", "", "a regular `expression` for the scenarios' names; none: all")
		short    = flags.Bool("short", false, "does it still work: one short round of a few scenarios")
		json     = flags.String("json", "", "the `file` that results go to")
		runs     = flags.String("runs", "", "the `directory` that keeps results beside those of earlier runs, if nothing was incorrect; it has three of the same programs, run-1.json to run-3.json")
		docs     = flags.String("docs", "", "the `page` whose tables are rewritten, with charts in a directory of its name, if nothing was incorrect")
		pin      = flags.Bool("pin", true, "pins the proxy and the load to the first two processors where a scenario says so")
		rounds   = flags.Int("rounds", 5, "of each scenario, interleaved over the peers")
		warmup   = flags.Duration("warmup", 500*time.Millisecond, "before each window")
		duration = flags.Duration("for", 2*time.Second, "of each window")
	)
	flags.Func("agiproxy", "`NAME=PATH[;LINE…]`: a binary, with lines for its configuration; may be given several times (agiproxy=./agiproxy)", func(s string) error {
		specs = append(specs, s)
		return nil
	})
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	if *runs != "" && (*short || *names != "" || *which != "") {
		fmt.Fprintln(stderr, "bench compare: -runs keeps whole runs: it doesn't go with -short, -peers or -scenarios")
		return errUsage
	}
	usual := *names == "" && !*short
	if *names == "" {
		*names = "agiproxy,haproxy,haproxy-log,haproxy-rule,nginx,direct"
		if *short {
			*names = "agiproxy,haproxy-log-rule,nginx,direct"
		}
	}
	if len(specs) == 0 {
		specs = []string{"agiproxy=./agiproxy"}
	}
	c := &comparison{
		usual: usual, lenient: *short, rounds: *rounds, warmup: *warmup, duration: *duration, settles: idleSettles,
		proxyCPU: 0, ownCPU: 1, few: fewIdle, many: manyIdle, ofCalls: 1, out: stdout,
	}
	if *short {
		c.rounds, c.warmup, c.duration, c.settles = 1, 100*time.Millisecond, 400*time.Millisecond, 100*time.Millisecond
		c.few, c.many, c.ofCalls = 100, 1000, 10
	}
	if !*pin || runtime.NumCPU() < 2 {
		c.proxyCPU, c.ownCPU = -1, -1
	}
	var err error
	if c.peers, err = choosePeers(specs, strings.Split(*names, ","), *short, stderr); err != nil {
		return err
	}
	if c.scenarios, err = chooseScenarios(*which, *short); err != nil {
		return err
	}
	if c.dir, err = os.MkdirTemp("", "agiproxy-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(c.dir)

	fmt.Fprintf(stdout, "bench: about %s\n", inMinutes(c.expected()))
	r, err := c.run(ctx)
	if err != nil {
		return err
	}
	if *json != "" {
		if err := r.write(*json); err != nil {
			return err
		}
	}
	all := Runs{r}
	if *runs != "" && c.incorrect == 0 {
		if all, err = r.keep(*runs); err != nil {
			return err
		}
	}
	if *docs != "" && c.incorrect == 0 {
		if err := all.document(*docs); err != nil {
			return err
		}
	}
	fmt.Fprint(stdout, all.headline())
	if c.incorrect > 0 {
		return fmt.Errorf("%d measurements were incorrect", c.incorrect)
	}
	return nil
}

// knownPeers returns the agiproxies that these specs describe, and the others.
func knownPeers(specs []string) ([]peer, error) {
	all := others()
	for i, spec := range specs {
		p, err := agiproxy(spec)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(q peer) bool { return q.name == p.name }) {
			return nil, fmt.Errorf("-agiproxy %s: there is a peer of that name already", spec)
		}
		all = slices.Insert(all, i, p)
	}
	return all, nil
}

// choosePeers returns the peers of these names, each once; in the short form
// those that aren't installed are left out.
func choosePeers(specs, names []string, short bool, stderr io.Writer) ([]peer, error) {
	all, err := knownPeers(specs)
	if err != nil {
		return nil, err
	}
	var chosen []peer
	for _, name := range names {
		found := false
		for _, p := range all {
			if p.name != name && (name != agiproxyFamily || p.family != agiproxyFamily) {
				continue
			}
			found = true
			if slices.ContainsFunc(chosen, func(q peer) bool { return q.name == p.name }) {
				continue
			}
			if p.program != "" {
				path, err := exec.LookPath(p.program)
				if err != nil && short && p.family != agiproxyFamily {
					fmt.Fprintf(stderr, "bench: without %s: %v\n", p.name, err)
					continue
				}
				if err != nil {
					return nil, err
				}
				if p.program, err = filepath.Abs(path); err != nil {
					return nil, err
				}
			}
			chosen = append(chosen, p)
		}
		if !found {
			var known []string
			for _, p := range all {
				known = append(known, p.name)
			}
			return nil, fmt.Errorf("no peer %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}

func chooseScenarios(expression string, short bool) ([]scenario, error) {
	re, err := regexp.Compile(expression)
	if err != nil {
		return nil, fmt.Errorf("-scenarios: %w", err)
	}
	chosen := slices.DeleteFunc(scenarios(), func(s scenario) bool { return !re.MatchString(s.name) || short && !s.short })
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no scenario for %q", expression)
	}
	return chosen, nil
}

// run measures everything.
func (c *comparison) run(ctx context.Context) (*Results, error) {
	runtime.LockOSThread() // which the proxies' lives hang on, and the pinning
	if err := loopbackUp(); err != nil {
		return nil, err
	}
	defer debug.SetGCPercent(debug.SetGCPercent(1000))
	var err error
	if c.g, err = load.New(0); err != nil {
		return nil, err
	}
	defer c.g.Close()
	r := &Results{Machine: thisMachine(), Started: time.Now(), Rounds: c.rounds, Warmup: c.warmup, Duration: c.duration}
	for _, p := range c.peers {
		r.Peers = append(r.Peers, Peer{Name: p.name, Label: p.label, Family: p.family, Version: p.version(), Sum: p.sum()})
	}
	for _, s := range c.scenarios {
		peers := c.peersOf(s)
		for round := range c.roundsOf(s) {
			for _, p := range peers {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				sample, err := c.measure(s, p, round%scrapedOf(c.duration) == 0)
				if err != nil { // what others have to tell is not to be lost
					if !c.lenient || !errors.Is(err, errNoTrace) {
						c.incorrect++
					}
					fmt.Fprintf(c.out, "%s, %s: NOT MEASURED: %v\n", s.name, p.name, err)
					continue
				}
				sample.Round = round
				r.Samples = append(r.Samples, *sample)
				c.tell(s, sample)
			}
			slices.Reverse(peers) // what drifts meets both ends alike
		}
	}
	r.Took = time.Since(r.Started)
	return r, nil
}

// measure starts a peer, measures it and stops it; scraped: in the window, its
// metrics are read.
func (c *comparison) measure(s scenario, p peer, scraped bool) (sample *Sample, err error) {
	dir := filepath.Join(c.dir, "peer")
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	own := c.ownCPU
	if !s.pinned {
		own = -1
	}
	err = onCPU(own, func() error {
		if p.program == "" {
			sample, err = c.sample(s, nil, c.g.Servers(1)[0], netip.AddrPort{})
			return err
		}
		sample, err = c.withProxy(s, p, dir, scraped)
		return err
	})
	if sample != nil {
		sample.Scenario, sample.Peer, sample.Load = s.name, p.name, loadAverage()
	}
	return sample, err
}

// withProxy measures with a proxy in between.
func (c *comparison) withProxy(s scenario, p peer, dir string, scraped bool) (sample *Sample, err error) {
	set := setting{dir: dir, servers: c.g.Servers(s.servers), probe: s.probe}
	cpu := -1
	if s.pinned {
		cpu, set.threads = c.proxyCPU, 1
	} else if p.family != agiproxyFamily {
		set.threads = runtime.NumCPU()
	}
	if set.at, err = freePort(); err != nil {
		return nil, err
	}
	if set.admin, err = freePort(); err != nil {
		return nil, err
	}
	args, err := p.configure(set)
	if err != nil {
		return nil, err
	}
	proc, err := start(dir, cpu, p.program, args...)
	if err != nil {
		return nil, err
	}
	stopped := false
	stop := func() error {
		if stopped {
			return nil
		}
		stopped = true
		return proc.stop()
	}
	defer func() { err = errors.Join(err, stop()) }()
	if !c.g.Serve(patience, func() bool { return listens(set.at) }) {
		return nil, fmt.Errorf("doesn't listen: %s", proc.said())
	}
	var metrics netip.AddrPort
	if scraped && p.family == agiproxyFamily {
		metrics = set.admin
	}
	if sample, err = c.sample(s, proc, set.at, metrics); err != nil {
		return nil, fmt.Errorf("%w; it said: %s", err, proc.said())
	}
	if sample.Err() != nil {
		fmt.Fprintf(c.out, "%s said:\n%s", p.name, proc.complaints())
	}
	if p.logs { // HAProxy ends without its last ones
		c.g.Serve(time.Second, func() bool {
			sample.Records, err = proc.records()
			return err != nil || sample.Records >= int(sample.Total)
		})
	}
	if err := stop(); err != nil {
		return nil, fmt.Errorf("stop: %w", err)
	}
	if p.logs {
		if sample.Records, err = proc.records(); err != nil {
			return nil, err
		}
		if int(sample.Total) > sample.Records {
			fmt.Fprintf(c.out, "%s: %d sessions, only %d records\n", p.name, sample.Total, sample.Records)
		}
	}
	return sample, nil
}

// sample makes the scenario's load and takes what it measures; proc is nil
// without a proxy, and metrics the zero value if nobody is to read them.
func (c *comparison) sample(s scenario, proc *process, at, metrics netip.AddrPort) (*Sample, error) {
	sample := new(Sample)
	plan := s.plan
	plan.Target, plan.Warmup, plan.Duration, plan.Drain = at, c.warmup+s.settle, c.duration, patience
	switch s.kind {
	case memory:
		return c.memory(plan, proc)
	case calls:
		var t *tracer
		plan.Count /= uint64(c.ofCalls)
		plan.Duration = time.Minute // Count ends it
		plan.Begin = func() (err error) { t, err = proc.trace(); return err }
		plan.End = func() (err error) { sample.Calls, err = t.stop(); return err }
	case window:
		if proc == nil {
			break
		}
		var before time.Duration
		plan.Begin = func() (err error) { before, err = proc.cpu(); return err }
		plan.End = func() error {
			after, err := proc.cpu()
			sample.CPU = after - before
			return err
		}
		if metrics.IsValid() {
			done := scrape(metrics, plan.Warmup+c.duration/2)
			defer func() { <-done }()
			sample.Scraped = true
		}
	}
	result, err := c.g.Run(plan)
	if err != nil {
		return nil, err
	}
	sample.Result = *result
	return sample, nil
}

// memory holds a few idle sessions, then many, in the same process.
func (c *comparison) memory(plan load.Plan, proc *process) (*Sample, error) {
	sample := new(Sample)
	plan.Duration = c.settles
	for _, step := range []struct {
		sessions int
		rss      *int64
	}{{c.few, &sample.RSSFew}, {c.many, &sample.RSSMany}} {
		plan.Sessions = step.sessions
		plan.End = func() (err error) { *step.rss, err = proc.rss(); return err }
		result, err := c.g.Run(plan)
		if err != nil {
			return nil, err
		}
		total := sample.Total + result.Total
		sample.Result = *result
		sample.Total = total
		if result.Err() != nil {
			return sample, nil
		}
	}
	sample.RSSEach = float64(sample.RSSMany-sample.RSSFew) / float64(c.many-c.few)
	return sample, nil
}

// tell prints what was measured, and counts it if it was incorrect.
func (c *comparison) tell(s scenario, m *Sample) {
	fmt.Fprintf(c.out, "%-20s %-16s %d  ", m.Scenario, m.Peer, m.Round+1)
	switch s.kind {
	case memory:
		fmt.Fprintf(c.out, "%.0f B/session", m.RSSEach)
	case calls:
		fmt.Fprintf(c.out, "%.1f/command %.1f/session", callsPerCommand(m), callsPerSession(m))
	case window:
		fmt.Fprintf(c.out, "%6.0f sessions/s %6.0f commands/s  cpu %6.1f µs/command %6.1f µs/session  rtt %5.0f %6.0f µs  harness %.2f",
			sessionRate(m), commandRate(m), perCommand(m), perSession(m), roundTripP50(m), roundTripP99(m), m.Busy)
	}
	fmt.Fprintf(c.out, "  load %.1f\n", m.Load)
	if err := m.Err(); err != nil {
		c.incorrect++
		fmt.Fprintf(c.out, "    INCORRECT: %v\n", err)
	}
}
