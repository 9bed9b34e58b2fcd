package config

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// tables are the decoder's tables by their headings in docs/configuration.md.
func tables() map[string]fields {
	d := new(decoder)
	return map[string]fields{
		"Top level":    d.fileFields(new(Config)),
		"listeners":    d.listenerFields(new(Listener)),
		"rate":         d.rateFields(new(Rate)),
		"listener tls": d.listenerTLSFields(new(ListenerTLS)),
		"pools":        d.poolFields(new(Pool), nil),
		"queue":        d.queueFields(new(Queue)),
		"fallback":     d.fallbackFields(new(Fallback)),
		"commands":     d.commandsFields(new(Commands)),
		"ejection":     d.ejectionFields(new(Ejection)),
		"health":       d.healthFields(new(Health)),
		"pool tls":     d.poolTLSFields(new(PoolTLS)),
		"backends":     d.backendFields(new(Backend)),
		"routes":       d.routeFields(new(Route)),
		"match":        {"script": nil, "host": nil, "agi_…": nil}, // free, within fieldName
		"admin":        d.adminFields(new(Admin)),
		"log":          d.logFields(new(Log)),
	}
}

func readDocs(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(filepath.FromSlash("../docs/configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// The page lists the keys of each table, each once.
func TestDocumentedKeysAreTheDecodersKeys(t *testing.T) {
	documented := make(map[string][]string) // keys by heading
	row := regexp.MustCompile("^\\| `([^`]+)` \\|")
	heading := ""
	for line := range strings.Lines(readDocs(t)) {
		if name, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && line[0] == '#' {
			heading = strings.TrimSpace(name)
		} else if m := row.FindStringSubmatch(line); m != nil {
			documented[heading] = append(documented[heading], m[1])
		}
	}
	tables := tables()
	for heading, table := range tables {
		got := slices.Sorted(slices.Values(documented[heading]))
		want := slices.Sorted(maps.Keys(table))
		if !slices.Equal(got, want) {
			t.Errorf("docs/configuration.md, %q: has the keys %v; want those of the decoder, %v", heading, got, want)
		}
	}
	for heading := range documented {
		if tables[heading] == nil {
			t.Errorf("docs/configuration.md, %q: no such table in the decoder", heading)
		}
	}
}

// A table that tables doesn't know would go undocumented.
func TestTablesAreAllTables(t *testing.T) {
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		n += strings.Count(string(text), "return fields{")
	}
	if got, want := len(tables())-1, n; got != want { // match has none
		t.Errorf("tables lists %d tables of the decoder; want the %d in the sources", got, want)
	}
}

// Each example of the pages is a right file, once what it leaves out is added.
func TestDocumentedExamplesAreRight(t *testing.T) {
	pages := readDocs(t)
	for _, page := range []string{"balancing.md", "failover.md", "firewall.md"} {
		text, err := os.ReadFile(filepath.Join("..", "docs", page))
		if err != nil {
			t.Fatal(err)
		}
		pages += string(text)
	}
	blocks := regexp.MustCompile("(?ms)^ *```yaml\n(.*?)^ *```").FindAllStringSubmatch(pages, -1)
	if len(blocks) < 12 {
		t.Fatalf("found %d examples; want all", len(blocks))
	}
	for _, block := range blocks {
		file := block[1]
		switch {
		case strings.HasPrefix(file, "    ") && !strings.HasPrefix(file, "    backends:"):
			file = "pools:\n  ivr:\n" + file + "    backends: [10.0.0.11:4573]\n"
		case strings.HasPrefix(file, "    backends:"):
			file = "pools:\n  ivr:\n" + file
		case strings.HasPrefix(file, "routes:"):
			file += "pools:\n  ivr: &p {backends: [10.0.0.11:4573]}\n  billing: *p\n  night: *p\n"
		case !strings.Contains(file, "pools:"):
			file += smallest
		}
		if _, err := Parse("example", []byte(file)); err != nil {
			t.Errorf("%v in\n%s", err, file)
		}
	}
}
