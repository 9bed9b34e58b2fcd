package app

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestThreatsNameTheirTests reads the table of SECURITY.md: what shows that a defence
// works has to be there. That it fails without the defence was tried by hand.
func TestThreatsNameTheirTests(t *testing.T) {
	const root = "../.."
	page, err := os.ReadFile(filepath.Join(root, "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(page), "| who | reaches | could try | what stops it | shown by |\n|---|---|---|---|---|\n")
	if !ok {
		t.Fatal("SECURITY.md has no table of threats")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	declared := make(map[string]map[string]bool) // by package
	rows := 0
	for row := range strings.Lines(table) {
		rows++
		cells := strings.Split(strings.Trim(strings.TrimSpace(row), "|"), "|")
		if len(cells) != 5 {
			t.Errorf("%d cells in %s", len(cells), row)
			continue
		}
		shown := regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[4], -1)
		if len(shown) == 0 {
			t.Errorf("nothing shows that this is stopped: %s", row)
		}
		for _, m := range shown {
			if strings.HasSuffix(m[1], ".dialogue") {
				if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
					t.Errorf("%s: %v", strings.TrimSpace(cells[2]), err)
				}
				continue
			}
			pkg, name, _ := strings.Cut(m[1], ".")
			if declared[pkg] == nil {
				declared[pkg] = testsOf(t, filepath.Join(root, pkg))
			}
			if !declared[pkg][name] {
				t.Errorf("%s: there is no test %s", strings.TrimSpace(cells[2]), m[1])
			}
		}
	}
	if rows < 40 {
		t.Errorf("%d rows were read; want all", rows)
	}
}

// testsOf returns the tests that a package declares, for any system.
func testsOf(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]bool)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+|Fuzz\w+)\(`).FindAllSubmatch(text, -1) {
			all[string(m[1])] = true
		}
	}
	return all
}
