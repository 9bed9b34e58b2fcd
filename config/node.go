package config

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// target is n, or what n stands for if it is an alias. Aliases end somewhere:
// measure has seen to it.
func target(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// isNull reports whether n is written as nothing, ~ or null.
func isNull(n *yaml.Node) bool {
	n = target(n)
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" &&
		(n.Value == "" || n.Value == "~" || strings.EqualFold(n.Value, "null"))
}

// kind says what n is, for faults.
func kind(n *yaml.Node) string {
	switch n = target(n); {
	case n.Kind == yaml.MappingNode && n.ShortTag() == "!!map":
		return "a mapping"
	case n.Kind == yaml.SequenceNode && n.ShortTag() == "!!seq":
		return "a list"
	case n.Kind == yaml.ScalarNode && slices.Contains(scalarTags, n.ShortTag()):
		return quote(n.Value)
	}
	return "a value with the tag " + n.ShortTag()
}

// scalarTags are the types of which YAML makes single values; what is written
// counts, not what a library would make of it (0123, 1e3, yes).
var scalarTags = []string{"!!str", "!!int", "!!float", "!!bool", "!!timestamp"}

// scalar returns the single value n as it is written.
func (d *decoder) scalar(key string, n *yaml.Node, want string) (string, bool) {
	n = target(n)
	if n.Kind != yaml.ScalarNode || !slices.Contains(scalarTags, n.ShortTag()) {
		d.fault(n, "%s: want %s, got %s", key, want, kind(n))
		return "", false
	}
	return n.Value, true
}

// entry is one key of a mapping.
type entry struct {
	key       string
	at, value *yaml.Node // value is no alias
}

// entries goes through the mapping n in the file's order, then through what its
// merge keys (<<) add to it. A key that comes twice is a fault and is left out
// the second time.
func (d *decoder) entries(key string, n *yaml.Node) iter.Seq[entry] {
	return func(yield func(entry) bool) {
		d.merged(key, n, make(map[string]bool), yield)
	}
}

// merged is entries without the keys in taken, to which it adds its own. It
// returns false when yield did.
func (d *decoder) merged(key string, n *yaml.Node, taken map[string]bool, yield func(entry) bool) bool {
	n = target(n)
	if n.Kind != yaml.MappingNode || n.ShortTag() != "!!map" {
		prefix := ""
		if key != "" {
			prefix = key + ": "
		}
		d.fault(n, "%swant a mapping of keys and values, got %s", prefix, kind(n))
		return true
	}
	lines := make(map[string]int) // where this mapping's own keys stand
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		at, value := target(n.Content[i]), target(n.Content[i+1])
		if at.Kind == yaml.ScalarNode && at.ShortTag() == "!!merge" {
			merges = append(merges, value)
			continue
		}
		if at.Kind != yaml.ScalarNode || !slices.Contains(scalarTags, at.ShortTag()) {
			d.fault(at, "want a key, got %s", kind(at))
			continue
		}
		if line, ok := lines[at.Value]; ok {
			d.fault(at, "duplicate key %s; it is in line %d already", quote(at.Value), line)
			continue
		}
		lines[at.Value] = at.Line
		if taken[at.Value] {
			continue // what is nearer wins
		}
		taken[at.Value] = true
		if !yield(entry{at.Value, at, value}) {
			return false
		}
	}
	for _, m := range merges {
		sources := []*yaml.Node{m}
		if m.Kind == yaml.SequenceNode {
			sources = m.Content
		}
		for _, source := range sources {
			if !d.merged(dotted(key, "<<"), source, taken, yield) {
				return false
			}
		}
	}
	return true
}

// dotted is the name of name inside of the mapping key.
func dotted(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

// quote quotes a value of the file, cut to what a line of text can take.
func quote(s string) string {
	return strconv.Quote(cut(s))
}

// cut cuts s to what a line of text can take.
func cut(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// either joins words as in "a, b or c".
func either(words []string) string {
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// short writes a duration without the zeros that String puts behind it.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// bytesText writes a size in the largest unit that fits.
func bytesText(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%dMiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%dKiB", n>>10)
	}
	return fmt.Sprint(n)
}

func isRange(err error) bool { return errors.Is(err, strconv.ErrRange) }
