package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a configuration.
type Fault struct {
	File         string // as given to Parse or Load; "" for a flag
	Line, Column int    // from 1, Column in characters; 0 when unknown
	Message      string // which key, what is wrong with it, what would be right
}

// Error gives the fault in one line that editors can jump to:
// `agiproxy.yaml:4:5: unknown key "atempts"; want one of …`.
func (f Fault) Error() string {
	switch {
	case f.File == "":
		return f.Message
	case f.Line == 0:
		return fmt.Sprintf("%s: %s", f.File, f.Message)
	case f.Column == 0:
		return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Message)
}

// Faults are all things that are wrong with a configuration, by place; never
// empty when returned as an error.
type Faults []Fault

// Error gives one line for each fault.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// maxFaults bounds what one file reports: nobody reads more, and a megabyte of
// nonsense should not become a gigabyte of complaints.
const maxFaults = 1000

// sorted returns the faults by place, each once: what several aliases lead to
// is decoded several times.
func (d *decoder) sorted() Faults {
	slices.SortFunc(d.faults, func(a, b Fault) int {
		return cmp.Or(
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Message, b.Message),
		)
	})
	faults := slices.Compact(d.faults)
	if d.dropped > 0 {
		last := faults[len(faults)-1]
		last.Message = fmt.Sprintf("too many faults; %d more are not shown", d.dropped)
		faults = append(faults, last)
	}
	return faults
}
