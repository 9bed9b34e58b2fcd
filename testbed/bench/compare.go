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
		rounds   = flags.Int("rounds", 15, "of each scenario, interleaved over the peers")
		warmup   = flags.Duration("warmup", 150*time.Millisecond, "before each window")
		duration = flags.Duration("for", 500*time.Millisecond, "of each window")
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
		if err := onCPU(c.ownCPUIn(s), func() error { return c.play(ctx, s, r) }); err != nil {
			return nil, err
		}
	}
	r.Took = time.Since(r.Started)
	return r, nil
}

// ownCPUIn is the processor of the load in a scenario, -1: any.
func (c *comparison) ownCPUIn(s scenario) int {
	if !s.pinned {
		return -1
	}
	return c.ownCPU
}

// play measures a scenario. The peers of one that has windows run all the time
// and have their turns one after the other, as short and as often as may be: how
// fast a machine is can change from one second to the next. Of the others each
// begins anew.
func (c *comparison) play(ctx context.Context, s scenario, r *Results) error {
	peers := c.peersOf(s)
	all := make([]*contender, len(peers))
	defer func() {
		for _, p := range all {
			c.dismiss(s, p)
		}
	}()
	for round := range c.roundsOf(s) {
		for k := range peers {
			i := k
			if round%2 == 1 { // what drifts meets both ends alike
				i = len(peers) - 1 - k
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			sample, err := c.measure(s, &all[i], peers[i], round)
			if err != nil { // what others have to tell is not to be lost
				if !c.lenient || !errors.Is(err, errNoTrace) {
					c.incorrect++
				}
				fmt.Fprintf(c.out, "%s, %s: NOT MEASURED: %v\n", s.name, peers[i].name, err)
				c.dismiss(s, all[i])
				all[i] = nil
				continue
			}
			r.Samples = append(r.Samples, *sample)
			c.tell(s, sample)
		}
	}
	return nil
}

// measure takes one sample of a peer, which is started if it isn't there.
func (c *comparison) measure(s scenario, there **contender, p peer, round int) (*Sample, error) {
	settle := time.Duration(0)
	if *there == nil || s.kind != window {
		c.dismiss(s, *there)
		settle = s.settle
		var err error
		if *there, err = c.engage(s, p); err != nil {
			return nil, err
		}
	}
	sample, err := c.sample(s, *there, settle, round%scrapedOf(c.duration) == 0)
	if err != nil {
		return nil, fmt.Errorf("%w; it said: %s", err, (*there).said())
	}
	sample.Scenario, sample.Peer, sample.Round, sample.Load = s.name, p.name, round, loadAverage()
	(*there).total += sample.Total
	if sample.Err() != nil {
		fmt.Fprintf(c.out, "%s said:\n%s", p.name, (*there).complaints())
	}
	return sample, nil
}

// A contender is a peer that runs.
type contender struct {
	peer
	*process                // nil: no proxy
	at       netip.AddrPort // where it listens
	metrics  netip.AddrPort // the zero value if it has none
	total    uint64         // sessions that it has had so far
}

func (p *contender) said() string {
	if p.process == nil {
		return "nothing"
	}
	return p.process.said()
}

func (p *contender) complaints() string {
	if p.process == nil {
		return ""
	}
	return p.process.complaints()
}

// engage starts a peer and waits until it listens.
func (c *comparison) engage(s scenario, p peer) (_ *contender, err error) {
	if p.program == "" {
		return &contender{peer: p, at: c.g.Servers(1)[0]}, nil
	}
	dir := filepath.Join(c.dir, p.name)
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
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
	there := &contender{peer: p, process: proc, at: set.at}
	if p.family == agiproxyFamily {
		there.metrics = set.admin
	}
	if !c.g.Serve(patience, func() bool { return listens(set.at) }) {
		return nil, errors.Join(fmt.Errorf("doesn't listen: %s", proc.said()), proc.stop())
	}
	return there, nil
}

// dismiss stops a peer, if there is one, and looks whether it has written a
// record for each session.
func (c *comparison) dismiss(s scenario, p *contender) {
	if p == nil || p.process == nil {
		return
	}
	records := func() bool {
		n, err := p.records()
		return err != nil || uint64(n) >= p.total
	}
	if p.logs {
		c.g.Serve(time.Second, records) // HAProxy ends without its last ones
	}
	if err := p.stop(); err != nil {
		c.incorrect++
		fmt.Fprintf(c.out, "%s, %s: stop: %v\n", s.name, p.name, err)
	}
	if p.logs && !records() {
		fmt.Fprintf(c.out, "%s, %s: fewer records than the %d sessions\n", s.name, p.name, p.total)
	}
}

// sample makes the scenario's load and takes what it measures, with a scrape in
// the midst of the window if so wanted.
func (c *comparison) sample(s scenario, p *contender, settle time.Duration, scraped bool) (*Sample, error) {
	sample := new(Sample)
	plan := s.plan
	plan.Target, plan.Warmup, plan.Duration, plan.Drain = p.at, c.warmup+settle, c.duration, patience
	switch s.kind {
	case memory:
		return c.memory(plan, p.process)
	case calls:
		var t *tracer
		plan.Count /= uint64(c.ofCalls)
		plan.Duration = time.Minute // Count ends it
		plan.Begin = func() (err error) { t, err = p.trace(); return err }
		plan.End = func() (err error) { sample.Calls, err = t.stop(); return err }
	case window:
		if p.process == nil {
			break
		}
		var before time.Duration
		plan.Begin = func() (err error) { before, err = p.cpu(); return err }
		plan.End = func() error {
			after, err := p.cpu()
			sample.CPU = after - before
			return err
		}
		if scraped && p.metrics.IsValid() {
			done := scrape(p.metrics, plan.Warmup+c.duration/2)
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
