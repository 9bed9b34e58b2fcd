package app

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// imports is who imports whom: a package that is not on a line's right is not
// imported. ARCHITECTURE.md repeats it.
const imports = `
cmd/agiproxy  → internal/app, config, admin, admin/client, internal/agisim, internal/{limits,logsink,systemd}
internal/app  → config, admin, proxy, health, balancer, agi, internal/{handover,legs,limits,loop,proxyheader,resolve,seldom,systemd}
admin/client  → admin
admin         → proxy
proxy         → agi, balancer, internal/{proxyheader,seldom}
health        → agi
internal/agisim → agi
config        → agi
agi, balancer, internal/{handover,legs,limits,loop,sim,proxyheader,resolve,logsink,seldom,systemd} → nothing of ours
`

func TestImports(t *testing.T) {
	allowed := allowedImports(t)
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}} {{.Imports}}", "agiproxy/...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		path, list, _ := strings.Cut(strings.TrimSpace(line), " ")
		path = strings.TrimPrefix(path, "agiproxy/")
		if strings.HasPrefix(path, "testbed/") {
			continue
		}
		may, ok := allowed[path]
		if !ok {
			t.Errorf("package %s has no line in the table of who imports whom", path)
			continue
		}
		seen++
		for p := range strings.FieldsSeq(strings.Trim(list, "[]")) {
			if ours, ok := strings.CutPrefix(p, "agiproxy/"); ok && !slices.Contains(may, ours) {
				t.Errorf("%s imports %s; it may import %q", path, ours, may)
			}
		}
	}
	if seen != len(allowed) {
		t.Errorf("the table has %d packages, and %d of them exist", len(allowed), seen)
	}
}

// allowedImports reads the table.
func allowedImports(t *testing.T) map[string][]string {
	t.Helper()
	allowed := make(map[string][]string)
	for line := range strings.Lines(strings.TrimSpace(imports)) {
		who, whom, ok := strings.Cut(line, "→")
		if !ok {
			t.Fatalf("no arrow in %q", line)
		}
		for _, path := range packages(who) {
			allowed[path] = nil
			if !strings.Contains(whom, "nothing of ours") {
				allowed[path] = packages(whom)
			}
		}
	}
	return allowed
}

// packages reads a list such as "agi, internal/{loop,sim}".
func packages(list string) (all []string) {
	prefix := ""
	for p := range strings.SplitSeq(list, ",") {
		p = strings.TrimSpace(p)
		if before, first, ok := strings.Cut(p, "{"); ok {
			prefix, p = before, first
		}
		last := strings.HasSuffix(p, "}")
		all = append(all, prefix+strings.TrimSuffix(p, "}"))
		if last {
			prefix = ""
		}
	}
	return all
}

func TestArchitectureRepeatsTheTable(t *testing.T) {
	page, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "```"+imports+"```") {
		t.Errorf("ARCHITECTURE.md doesn't have this table of who imports whom:%s", imports)
	}
}
