package app

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// A rule is one of Prometheus' rules, as deploy/prometheus has them.
type rule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
}

// readRules reads the rules of a file.
func readRules(t *testing.T, file string) (all []rule) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var content struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal(data, &content); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	for _, g := range content.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatalf("%s has no rules", file)
	}
	return all
}

const (
	rulesFile  = "../../deploy/prometheus/rules.yml"
	alertsFile = "../../deploy/prometheus/alerts.yml"
	testsFile  = "../../deploy/prometheus/alerts_test.yml"
	dashboard  = "../../deploy/grafana/dashboards/agiproxy.json"
	runbook    = "../../docs/runbook.md"
)

// A panel is one of the dashboard's.
type panel struct {
	Type, Title, Description string
	GridPos                  struct{ H, W, X, Y int }
	Targets                  []struct{ Expr string }
}

// readPanels reads the dashboard's panels, and all else that it asks Prometheus.
func readPanels(t *testing.T) (panels []panel, others []string) {
	t.Helper()
	data, err := os.ReadFile(dashboard)
	if err != nil {
		t.Fatal(err)
	}
	var content struct {
		Panels      []panel
		Annotations struct{ List []struct{ Expr string } }
		Templating  struct{ List []struct{ Definition string } }
	}
	if err := json.Unmarshal(data, &content); err != nil {
		t.Fatalf("%s: %v", dashboard, err)
	}
	for _, a := range content.Annotations.List {
		others = append(others, a.Expr)
	}
	for _, v := range content.Templating.List {
		others = append(others, v.Definition)
	}
	return content.Panels, others
}

// metricName finds our metrics, and the recorded ones, in an expression or a page.
var metricName = regexp.MustCompile(`(?:[a-z_]+:)?\bagiproxy_[a-z_]+\b(?::[a-z0-9_]+)?`)

// knownMetrics are the names that a query may use: the golden file's, with what
// Prometheus makes of histograms, and the recorded ones.
func knownMetrics(t *testing.T) map[string]bool {
	t.Helper()
	data, err := os.ReadFile("testdata/metrics.golden")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		kind, rest, _ := strings.Cut(line, " ")
		name, _, _ := strings.Cut(rest, " ")
		switch kind {
		case "histogram":
			known[name], known[name+"_bucket"], known[name+"_sum"], known[name+"_count"] = true, true, true, true
		case "gauge", "counter":
			known[name] = true
		}
	}
	for _, r := range readRules(t, rulesFile) {
		known[r.Record] = true
	}
	return known
}

// What operators are given to look at asks for metrics that exist.
func TestEveryMetricThatIsAskedForExists(t *testing.T) {
	known := knownMetrics(t)
	check := func(where, text string) (found int) {
		for _, name := range metricName.FindAllString(text, -1) {
			found++
			if !known[name] {
				t.Errorf("%s: there is no metric %s", where, name)
			}
		}
		return found
	}
	for _, file := range []string{rulesFile, alertsFile} {
		for _, r := range readRules(t, file) {
			check(r.Record+r.Alert, r.Expr)
		}
	}
	panels, others := readPanels(t)
	for _, p := range panels {
		for _, target := range p.Targets {
			check("panel "+p.Title, target.Expr)
		}
	}
	for _, o := range others {
		check(dashboard, o)
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, page := range append(pages, "../../README.md", testsFile) {
		data, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		found += check(page, string(data))
	}
	if found < 50 {
		t.Errorf("only %d metrics found in the pages; is this test still looking?", found)
	}
}

// section finds what the runbook says of an alert.
var section = regexp.MustCompile(`(?m)^## (Agiproxy[A-Za-z]+)$`)

// Whoever is woken by an alert finds what to do, and each alert was seen to fire.
func TestEveryAlertHasItsPageAndItsTest(t *testing.T) {
	page, err := os.ReadFile(runbook)
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(testsFile)
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]bool{}
	for _, m := range section.FindAllStringSubmatch(string(page), -1) {
		sections[m[1]] = true
	}
	alerts := map[string]bool{}
	for _, r := range readRules(t, alertsFile) {
		alerts[r.Alert] = true
		if want := "docs/runbook.md#" + strings.ToLower(r.Alert); r.Annotations["runbook"] != want {
			t.Errorf("%s: annotation runbook is %q; want %q", r.Alert, r.Annotations["runbook"], want)
		}
		if r.Annotations["summary"] == "" {
			t.Errorf("%s has no summary", r.Alert)
		}
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: severity %q; want critical or warning", r.Alert, s)
		}
		fires := regexp.MustCompile(`alertname: ` + r.Alert + `\n\s+exp_alerts:\n\s+- exp_labels`)
		if !fires.Match(tests) {
			t.Errorf("%s doesn't fire in %s", r.Alert, testsFile)
		}
	}
	if !maps.Equal(alerts, sections) {
		t.Errorf("the alerts are %q, and docs/runbook.md has sections of %q; want the same",
			slices.Sorted(maps.Keys(alerts)), slices.Sorted(maps.Keys(sections)))
	}
}

// The dashboard can be read: every panel says what it shows, and none lies on
// another.
func TestDashboardIsMadeForReaders(t *testing.T) {
	panels, _ := readPanels(t)
	var rows []string
	taken := map[[2]int]string{}
	for _, p := range panels {
		for y := range p.GridPos.H {
			for x := range p.GridPos.W {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other, ok := taken[at]; ok || at[0] >= 24 {
					t.Fatalf("panel %q lies on %q at %v", p.Title, other, at)
				}
				taken[at] = p.Title
			}
		}
		if p.Type == "row" {
			rows = append(rows, p.Title)
			continue
		}
		if p.Title == "" || p.Description == "" || len(p.Targets) == 0 {
			t.Errorf("panel %q has no title, no description or no query", p.Title)
		}
	}
	if want := []string{"Calls", "Backends", "Dialogue", "Queue", "agiproxy"}; !slices.Equal(rows, want) {
		t.Errorf("the rows are %q; want %q", rows, want)
	}
}

// Prometheus' own tool has the last word: on the rules, on what they are tested
// with, and on what the dashboard asks.
func TestRulesByPromtool(t *testing.T) {
	promtool := os.Getenv("PROMTOOL")
	if promtool == "" {
		var err error
		if promtool, err = exec.LookPath("promtool"); err != nil {
			t.Skip("no promtool here; tools/promtool fetches one")
		}
	}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	run("check", "config", "../../deploy/prometheus/prometheus.yml")
	run("test", "rules", testsFile)

	var asked []rule
	variables := strings.NewReplacer("$__rate_interval", "1m", "$instance", "a|b", "$pool", "ivr")
	panels, others := readPanels(t)
	for _, p := range panels {
		for _, target := range p.Targets {
			others = append(others, target.Expr)
		}
	}
	for _, expr := range others {
		if expr != "" && !strings.HasPrefix(expr, "label_values(") {
			asked = append(asked, rule{Record: fmt.Sprintf("dashboard:%d", len(asked)), Expr: variables.Replace(expr)})
		}
	}
	type group struct {
		Name  string
		Rules []map[string]string
	}
	g := group{Name: "dashboard"}
	for _, r := range asked {
		g.Rules = append(g.Rules, map[string]string{"record": r.Record, "expr": r.Expr})
	}
	text, err := yaml.Marshal(map[string][]group{"groups": {g}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	run("check", "rules", file)
}
