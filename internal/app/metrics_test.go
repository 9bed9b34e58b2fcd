package app

import (
	"flag"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"agiproxy/proxy"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// eventful runs a program in which everything that is counted has happened at
// least once, and returns what it counts.
func eventful(t *testing.T) *program {
	t.Helper()
	s := startServer(t, "ivr1")
	first := "  - address: \"127.0.0.1:0\"\n"
	byTLS := first + "    tls: {" + newAuthority(t).issue(t.TempDir()).server() + "}\n"
	f := strings.Replace(file(quick, s.entry(""), `{name: dead, address: "127.0.0.1:1"}`), first, first+byTLS, 1)
	p := serve(t, f, func(o *Options) {
		o.Version, o.Commit, o.Date = "v1.2.3", "0123abc", "2026-01-02"
	})
	place(t, p.addr(0), "menu").wantServed("ivr1")
	place(t, p.addr(0), "refused").wantServed("ivr1")
	c, err := net.Dial("tcp", p.addr(0))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.1\r\n\r\n")
	p.state("dead", "down")
	eventually(t, "a rejected connection and a probe's answer", func() bool {
		rejected, _ := p.series("agiproxy_rejected_connections_total", p.fronts[0].address, "malformed")
		probed, _ := p.series("agiproxy_probe_duration_seconds", "ivr1", "ivr")
		ended, _ := p.series("agiproxy_sessions_total", "completed", "ivr")
		return rejected > 0 && probed > 0 && ended > 1
	})
	return p
}

// ours gathers the metrics that are not the Go and process collectors'.
func (p *program) ours() (families []*dto.MetricFamily) {
	p.t.Helper()
	all, err := p.registry.Gather()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, f := range all {
		if strings.HasPrefix(f.GetName(), "agiproxy_") {
			families = append(families, f)
		}
	}
	return families
}

// labels returns the names of a family's labels.
func labels(f *dto.MetricFamily) (names []string) {
	for _, l := range f.Metric[0].Label {
		names = append(names, l.GetName())
	}
	return names
}

// TestMetricsGolden compares every name, type, label and help with a file that
// is meant to be read when it changes: somebody's dashboards depend on it.
func TestMetricsGolden(t *testing.T) {
	var got strings.Builder
	for _, f := range eventful(t).ours() {
		fmt.Fprintf(&got, "%s %s {%s}\n\t%s\n", strings.ToLower(f.GetType().String()), f.GetName(), strings.Join(labels(f), ","), f.GetHelp())
	}
	const golden = "testdata/metrics.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("metrics have changed; if that is meant, say -update. Now:\n%s\nin %s:\n%s", got.String(), golden, want)
	}
}

// TestMetricsLint holds the whole registry, Go's and the process' collectors
// included, to Prometheus' conventions.
func TestMetricsLint(t *testing.T) {
	problems, err := testutil.GatherAndLint(eventful(t).registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// row is a line of a table in docs/metrics.md: name, type, labels.
var row = regexp.MustCompile("(?m)^\\| `(agiproxy_[a-z_]+)` \\| (\\w+) \\|([^|]*)\\|")

// TestMetricsPage compares docs/metrics.md with the registry.
func TestMetricsPage(t *testing.T) {
	data, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	var documented []string
	for _, m := range row.FindAllStringSubmatch(page, -1) {
		names := strings.FieldsFunc(m[3], func(r rune) bool { return strings.ContainsRune("`, ", r) })
		slices.Sort(names)
		documented = append(documented, fmt.Sprintf("%s %s %q", m[1], m[2], names))
	}
	var there []string
	p := eventful(t)
	for _, f := range p.ours() {
		there = append(there, fmt.Sprintf("%s %s %q", f.GetName(), strings.ToLower(f.GetType().String()), labels(f)))
		wantValues(t, page, f)
	}
	slices.Sort(documented)
	for _, d := range documented {
		if !slices.Contains(there, d) {
			t.Errorf("docs/metrics.md has %s; the registry hasn't", d)
		}
	}
	for _, m := range there {
		if !slices.Contains(documented, m) {
			t.Errorf("the registry has %s; docs/metrics.md hasn't", m)
		}
	}
	for _, why := range []string{"denied", "not_allowed", "not_agi", "words", "nul"} {
		if !strings.Contains(page, "| `"+why+"` |") {
			t.Errorf("docs/metrics.md doesn't tell what a line refused as %s is", why)
		}
	}
	for o := proxy.Completed; int(o) < proxy.NumOutcomes; o++ {
		if !strings.Contains(page, "| `"+o.String()+"` |") {
			t.Errorf("docs/metrics.md doesn't tell what the outcome %s is", o)
		}
	}
}

// wantValues checks that the page tells the values of the labels that have few.
func wantValues(t *testing.T, page string, f *dto.MetricFamily) {
	for _, m := range f.Metric {
		for _, l := range m.Label {
			switch l.GetName() {
			case "outcome", "result", "reason", "state", "direction":
				if !strings.Contains(page, "| `"+l.GetValue()+"` |") {
					t.Errorf("docs/metrics.md doesn't tell what %s %q of %s is", l.GetName(), l.GetValue(), f.GetName())
				}
			}
		}
	}
}
