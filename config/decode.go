package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// decoder turns one file's nodes into a Config and gathers what is wrong.
type decoder struct {
	name    string // of the file, for faults
	faults  Faults
	dropped int // faults beyond maxFaults
	places  places
}

// decode reads the value n of key into where the function was made for.
type decode func(key string, n *yaml.Node)

// fields is what may stand in a mapping.
type fields map[string]decode

// section is a mapping that was decoded: where it and its values stand.
type section struct {
	node   *yaml.Node
	values map[string]*yaml.Node // of the keys that are given and not null
	bad    map[string]bool       // the keys with faults in their values
}

// at is the place of key's value, or of the whole section where it is absent.
func (s section) at(key string) *yaml.Node {
	if n := s.values[key]; n != nil {
		return n
	}
	return s.node
}

func (s section) has(key string) bool { return s.values[key] != nil }

// count is how many faults there are. More of them after a step tell that the
// step has failed, and that what it should have decoded is not to be judged.
func (d *decoder) count() int { return len(d.faults) + d.dropped }

// full reports whether further faults are only counted.
func (d *decoder) full() bool { return len(d.faults) == maxFaults }

func (d *decoder) fault(at *yaml.Node, format string, args ...any) {
	d.faultAt(at.Line, at.Column, format, args...)
}

func (d *decoder) faultAt(line, column int, format string, args ...any) {
	if d.full() {
		d.dropped++
		return
	}
	d.faults = append(d.faults, Fault{d.name, line, column, fmt.Sprintf(format, args...)})
}

// mapping decodes each entry of n, which is the value of key, by its own key.
// In faults they are named together: "health.rise".
func (d *decoder) mapping(key string, n *yaml.Node, known fields) section {
	return d.section(key, key, n, known)
}

// item is mapping for an entry of a list or of pools, where the place in the
// file says to which one a key belongs.
func (d *decoder) item(key string, n *yaml.Node, known fields) section {
	return d.section(key, "", n, known)
}

func (d *decoder) section(key, prefix string, n *yaml.Node, known fields) section {
	s := section{node: n, values: make(map[string]*yaml.Node), bad: make(map[string]bool)}
	for entry := range d.entries(key, n) {
		path := dotted(prefix, entry.key)
		decode, ok := known[entry.key]
		if !ok {
			d.unknown(entry.at, path, entry.key, known)
			continue
		}
		if !isNull(entry.value) { // a key without a value is as good as absent
			before := d.count()
			s.values[entry.key] = entry.value
			decode(path, entry.value)
			s.bad[entry.key] = d.count() > before
		}
	}
	return s
}

func (d *decoder) unknown(at *yaml.Node, path, key string, known fields) {
	if d.full() {
		d.dropped++ // spares the sorting and guessing
		return
	}
	names := slices.Sorted(maps.Keys(known))
	d.fault(at, "unknown key %s; want one of %s%s", quote(path), strings.Join(names, ", "), hint(key, names))
}

// text decodes any single value as it is written.
func (d *decoder) text(to *string) decode {
	return func(key string, n *yaml.Node) {
		if value, ok := d.scalar(key, n, "text"); ok {
			*to = value
		}
	}
}

// checked decodes text by way of parse, which gives the canonical form. What
// parse refuses becomes "".
func (d *decoder) checked(to *string, want string, parse func(string) (string, error)) decode {
	return func(key string, n *yaml.Node) {
		*to = ""
		value, ok := d.scalar(key, n, want)
		if !ok {
			return
		}
		parsed, err := parse(value)
		if err != nil {
			d.fault(n, "%s: %s: %v", key, quote(value), err)
			return
		}
		*to = parsed
	}
}

// choice decodes one of a few words.
func (d *decoder) choice(to *string, words ...string) decode {
	return func(key string, n *yaml.Node) {
		value, ok := d.scalar(key, n, either(words))
		switch {
		case !ok:
		case slices.Contains(words, value):
			*to = value
		default:
			d.fault(n, "%s: %s is unknown; want %s%s", key, quote(value), either(words), hint(value, words))
		}
	}
}

// integer decodes a whole decimal number from low to high.
func (d *decoder) integer(to *int, low, high int) decode {
	return func(key string, n *yaml.Node) {
		want := fmt.Sprintf("a whole number from %d to %d", low, high)
		value, ok := d.scalar(key, n, want)
		if !ok {
			return
		}
		number, err := strconv.Atoi(value)
		switch {
		case n.ShortTag() == "!!str" && err == nil:
			d.fault(n, "%s: %s is text; want %s, without quotes", key, quote(value), want)
		case err != nil && !isRange(err) || strconv.Itoa(number) != value && !isRange(err):
			d.fault(n, "%s: %s is no whole number; want one from %d to %d", key, quote(value), low, high)
		case number < low || number > high:
			d.fault(n, "%s: %s is out of bounds; want %s", key, cut(value), want)
		default:
			*to = number
		}
	}
}

// boolean decodes true or false.
func (d *decoder) boolean(to *bool) decode {
	return func(key string, n *yaml.Node) {
		value, ok := d.scalar(key, n, "true or false")
		if !ok {
			return
		}
		if n.ShortTag() != "!!bool" {
			d.fault(n, "%s: %s is neither true nor false", key, quote(value))
			return
		}
		*to = strings.EqualFold(value, "true")
	}
}

// duration decodes a duration from low to high.
func (d *decoder) duration(to *time.Duration, low, high time.Duration) decode {
	return func(key string, n *yaml.Node) {
		if value, ok := d.parseDuration(key, n); ok {
			d.bounded(to, key, n, value, low, high, "")
		}
	}
}

// durationOrZero is duration where 0 is allowed too, with a meaning of its own.
func (d *decoder) durationOrZero(to *time.Duration, low, high time.Duration) decode {
	return func(key string, n *yaml.Node) {
		if value, ok := d.parseDuration(key, n); ok && value == 0 {
			*to = 0
		} else if ok {
			d.bounded(to, key, n, value, low, high, "0s, or ")
		}
	}
}

func (d *decoder) bounded(to *time.Duration, key string, n *yaml.Node, value, low, high time.Duration, zero string) {
	if value < low || value > high {
		d.fault(n, "%s: %s is out of bounds; want %s%s to %s", key, cut(n.Value), zero, short(low), short(high))
		return
	}
	*to = value
}

func (d *decoder) parseDuration(key string, n *yaml.Node) (time.Duration, bool) {
	const want = "a duration such as 5s or 250ms"
	value, ok := d.scalar(key, n, want)
	if !ok {
		return 0, false
	}
	duration, err := time.ParseDuration(value)
	if err == nil {
		return duration, true
	}
	if _, err := strconv.ParseFloat(value, 64); err == nil {
		d.fault(n, "%s: %s lacks its unit; want %s", key, cut(value), want)
	} else {
		d.fault(n, "%s: %s is no duration; want a number with ms, s, m or h, such as 5s or 250ms", key, quote(value))
	}
	return 0, false
}

// size decodes a number of bytes from low to high.
func (d *decoder) size(to *int, low, high int) decode {
	return func(key string, n *yaml.Node) {
		value, ok := d.scalar(key, n, "a size such as 64KiB")
		if !ok {
			return
		}
		digits, unit := value, 1
		if number, ok := strings.CutSuffix(value, "KiB"); ok {
			digits, unit = number, 1<<10
		} else if number, ok := strings.CutSuffix(value, "MiB"); ok {
			digits, unit = number, 1<<20
		}
		number, err := strconv.ParseUint(digits, 10, 32)
		switch {
		case err != nil && !isRange(err):
			d.fault(n, "%s: %s is no size; want bytes, or a whole number with KiB or MiB, such as 64KiB", key, quote(value))
		case err != nil || int(number)*unit < low || int(number)*unit > high:
			d.fault(n, "%s: %s is out of bounds; want %s to %s", key, cut(value), bytesText(low), bytesText(high))
		default:
			*to = int(number) * unit
		}
	}
}

// each decodes a list of at most limit entries.
func (d *decoder) each(limit int, entry decode) decode {
	return func(key string, n *yaml.Node) {
		n = target(n)
		if n.Kind != yaml.SequenceNode || n.ShortTag() != "!!seq" {
			d.fault(n, "%s: want a list, got %s", key, kind(n))
			return
		}
		if len(n.Content) > limit {
			d.fault(n.Content[limit], "%s: %d entries are too many; want at most %d", key, len(n.Content), limit)
			return
		}
		for _, child := range n.Content {
			if child = target(child); isNull(child) {
				d.fault(child, "%s: an empty entry", key)
				continue
			}
			entry(key, child)
		}
	}
}
