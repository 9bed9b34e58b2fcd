package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A chaos is the same calls with the same disturbances, through whatever stands
// between Asterisk and the servers.
type chaos struct {
	seed  uint64
	calls int
}

// chaosWidth is how many calls there are at a time.
const chaosWidth = 48

// chaosOf reads from the environment what is to be done: AGIPROXY_E2E_CHAOS=full is
// 500 calls, through HAProxy as well, and AGIPROXY_E2E_SEED an earlier run's seed.
func chaosOf(t *testing.T) (c chaos, full bool) {
	t.Helper()
	c = chaos{seed: rand.Uint64N(1_000_000), calls: 150}
	if full = os.Getenv("AGIPROXY_E2E_CHAOS") == "full"; full {
		c.calls = 500
	}
	if seed := os.Getenv("AGIPROXY_E2E_SEED"); seed != "" {
		var err error
		if c.seed, err = strconv.ParseUint(seed, 10, 64); err != nil {
			t.Fatalf("AGIPROXY_E2E_SEED: %v", err)
		}
	}
	t.Logf("AGIPROXY_E2E_SEED=%d does the same again, as far as time allows", c.seed)
	return c, full
}

// Calls go on while their servers are killed, stopped, restarted, made to refuse,
// and to accept and close. Through agiproxy every caller is served to the end.
func TestChaos(t *testing.T) {
	s := begin(t)
	c, full := chaosOf(t)
	var tallies []*tally
	t.Run("agiproxy", func(t *testing.T) {
		servers := c.servers(t, s)
		p := s.proxy(t, s.pool(`
			balance: least-connections
			connect_timeout: 1s
			first_command_timeout: 3s
			think_timeout: 3s
			hangup_timeout: 10s
			attempts: 10
			replay: unanswered
			on_backend_loss: resume
			ejection: {failures: 3, time: 2s}
			health: {interval: 500ms, fast_interval: 200ms, timeout: 2s, rise: 2, fall: 2}`,
			servers[0], servers[1], servers[2], servers[3]))
		atRest := p.atRest(t)
		n := c.run(t, s, servers, "agiproxy")
		tallies = append(tallies, n)
		p.mustLeakNothing(t, atRest)
		t.Logf("%v; %v calls were resumed, and %v headers replayed", n,
			s.prometheus.sum(t, "agiproxy_resumed_sessions_total"), s.prometheus.sum(t, "agiproxy_replays_total"))
		// A server that is killed between a reply that it has read and its next
		// command has closed as one that is done. It is at that point for microseconds,
		// unless the machine has so much to do that it stands still there.
		if tolerable := n.calls / 50; n.stayed() != n.served+n.cut || full && n.cut > 0 || n.cut > tolerable {
			t.Errorf("%d of %d callers who stayed were served to the end; want all", n.served, n.stayed())
		}
	})
	if !full {
		return
	}
	t.Run("HAProxy", func(t *testing.T) {
		servers := c.servers(t, s)
		s.haproxy(t, servers[0], servers[1], servers[2], servers[3])
		n := c.run(t, s, servers, "HAProxy")
		tallies = append(tallies, n)
		s.eventuallyNoChannels(t, 10*time.Second)
		t.Log(n)
	})
	t.Logf("\n%s", table(tallies...))
	if file := os.Getenv("AGIPROXY_E2E_CHAOS_PAGE"); file != "" && !t.Failed() {
		if err := writePage(file, table(tallies...)); err != nil {
			t.Fatal(err)
		}
	}
}

func (c chaos) servers(t *testing.T, s *suite) []*perlServer {
	t.Helper()
	return s.perls(t, "fork", []string{"perl1", "perl2", "perl3", "perl4"}, "FASTAGI_APP=Survey")
}

// dials returns the calls: 1 to 8 seconds each, if nothing happens to them. One
// caller in twenty hangs up within the first four.
func (c chaos) dials(s *suite, random *rand.Rand) []dial {
	dials := make([]dial, c.calls)
	for i := range dials {
		dials[i] = s.script(fmt.Sprintf("ivr?seconds=%.2f", 1+7*random.Float64()))
		if random.IntN(20) == 0 {
			dials[i].leave = time.Second + time.Duration(random.Int64N(int64(3*time.Second)))
		}
	}
	return dials
}

// run makes the calls while the servers are disturbed, and returns what became of
// them.
func (c chaos) run(t *testing.T, s *suite, servers []*perlServer, name string) *tally {
	t.Helper()
	dials := c.dials(s, rand.New(rand.NewPCG(c.seed, 1)))
	d := &disturber{t: t, random: rand.New(rand.NewPCG(c.seed, 2)), servers: servers,
		ended: make(chan struct{}), done: make(map[string]int)}
	disturbed := make(chan error, 1)
	go func() { disturbed <- d.run() }()
	end := func() error {
		select {
		case <-d.ended:
		default:
			close(d.ended)
		}
		err := <-disturbed
		disturbed <- err
		return err
	}
	defer end() // before the test's clean-ups, even if it fails
	began := time.Now()
	results := s.runEach(t, dials, chaosWidth)
	if err := end(); err != nil {
		t.Fatal(err)
	}
	n := &tally{name: name, took: time.Since(began), disturbed: d.String()}
	for i, r := range results {
		if verdict := n.count(r, dials[i].leave > 0); verdict != "" {
			t.Logf("%s: %v", verdict, r)
		}
	}
	return n
}

// A tally is what became of the calls of one run.
type tally struct {
	name      string
	calls     int
	left      int // callers who have hung up as they wanted to
	served    int // of the others: to the end
	cut       int // AGISTATUS=SUCCESS, though the script was cut short
	told      int // another AGISTATUS: the dialplan knows
	waited    int // in vain, until the caller lost patience after a minute
	longest   time.Duration
	took      time.Duration
	disturbed string // what was done to the servers
}

func (n *tally) stayed() int { return n.calls - n.left }

// count counts a call, and says what was wrong with it.
func (n *tally) count(r result, leaves bool) string {
	n.calls++
	n.longest = max(n.longest, r.took())
	switch {
	case leaves && r.status == "HANGUP":
		n.left++
	case r.status == "SUCCESS" && r.proxyStatus == "" && r.served != "":
		n.served++
	case r.status == "SUCCESS":
		n.cut++
		return "cut short"
	case r.status == "HANGUP":
		n.waited++
		return "waited in vain"
	default:
		n.told++
		return "failed"
	}
	return ""
}

func (n *tally) String() string {
	return fmt.Sprintf("%s: %d calls in %v; %d callers left, %d served to the end, %d cut short with SUCCESS, %d failed, %d waited in vain; "+
		"the longest call took %v; servers: %s",
		n.name, n.calls, n.took.Round(time.Second), n.left, n.served, n.cut, n.told, n.waited,
		n.longest.Round(100*time.Millisecond), n.disturbed)
}

// table is the tallies as a page has them.
func table(tallies ...*tally) string {
	rows := []struct {
		what string
		of   func(n *tally) string
	}{
		{"", func(n *tally) string { return n.name }},
		{"---", func(*tally) string { return "---:" }},
		{"calls", func(n *tally) string { return strconv.Itoa(n.calls) }},
		{"callers who hung up themselves", func(n *tally) string { return strconv.Itoa(n.left) }},
		{"**of the others: served to the end**", func(n *tally) string { return fmt.Sprintf("**%d of %d**", n.served, n.stayed()) }},
		{"cut short, and AGISTATUS=SUCCESS", func(n *tally) string { return strconv.Itoa(n.cut) }},
		{"AGISTATUS=FAILURE", func(n *tally) string { return strconv.Itoa(n.told) }},
		{"waited for a minute, in vain", func(n *tally) string { return strconv.Itoa(n.waited) }},
		{"the longest call", func(n *tally) string { return n.longest.Round(100 * time.Millisecond).String() }},
		{"what happened to the servers", func(n *tally) string { return n.disturbed }},
	}
	var b strings.Builder
	for _, row := range rows {
		fmt.Fprintf(&b, "| %s |", row.what)
		for _, n := range tallies {
			fmt.Fprintf(&b, " %s |", row.of(n))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// chaosMarkers enclose the table in a page.
var chaosMarkers = regexp.MustCompile(`(?s)(<!-- chaos -->\n).*(<!-- /chaos -->)`)

// writePage writes the table anew in a page.
func writePage(file, table string) error {
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	where := chaosMarkers.FindSubmatchIndex(page)
	if where == nil {
		return fmt.Errorf("%s has no <!-- chaos --> and <!-- /chaos -->", file)
	}
	return os.WriteFile(file, slices.Concat(page[:where[3]], []byte(table), page[where[4]:]), 0o644)
}
