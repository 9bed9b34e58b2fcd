//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// skeleton is the page that a first run begins with. What stands outside of the
// markers is people's, what stands inside is written anew each time.
const skeleton = `# Performance

<!-- bench:machine -->
<!-- /bench:machine -->

## In short

<!-- bench:summary -->
<!-- /bench:summary -->

## Run by run

<!-- bench:runs -->
<!-- /bench:runs -->

## Set-up

<!-- bench:setup -->
<!-- /bench:setup -->

## Commands

<!-- bench:commands -->
<!-- /bench:commands -->

## Mixed calls

<!-- bench:churn -->
<!-- /bench:churn -->

## All processors

<!-- bench:processors -->
<!-- /bench:processors -->

## Idle sessions

<!-- bench:memory -->
<!-- /bench:memory -->

## System calls

<!-- bench:calls -->
<!-- /bench:calls -->

## Growth

<!-- bench:growth -->
<!-- /bench:growth -->
`

// reportCommand writes the page anew from earlier runs.
func reportCommand(_ context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("report", flag.ContinueOnError)
	dir := flags.String("runs", "docs/performance", "the `directory` that keeps runs")
	docs := flags.String("docs", "docs/performance.md", "the `page` whose tables are rewritten, with charts in a directory of its name")
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	kept, err := readRuns(*dir)
	if err != nil {
		return err
	}
	all := inOrder(kept)
	if len(all) == 0 {
		return fmt.Errorf("%s keeps no run", *dir)
	}
	if err := all.document(*docs); err != nil {
		return err
	}
	fmt.Fprint(stdout, all.headline())
	return nil
}

// document rewrites the page's tables, and its charts in the directory of its
// name without the extension.
func (all Runs) document(page string) error {
	old, err := os.ReadFile(page)
	if errors.Is(err, fs.ErrNotExist) {
		old, err = []byte(skeleton), nil
	}
	if err != nil {
		return err
	}
	dir := strings.TrimSuffix(page, filepath.Ext(page))
	text, err := fillIn(string(old), all.sections(filepath.Base(dir)))
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, chart := range all.shown().charts() {
		if len(chart.Groups) == 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name+".svg"), chart.SVG(), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(page, []byte(text), 0o644)
}

var marker = regexp.MustCompile(`<!-- (/?)bench:([a-z]*) -->`)

// fillIn replaces what stands between the markers of each section that the page
// has. Empty sections, of what was not measured, leave the page as it is.
func fillIn(page string, sections map[string]string) (string, error) {
	var out strings.Builder
	open, from := "", 0 // the section that is being skipped; what is yet to be copied
	for _, m := range marker.FindAllStringSubmatchIndex(page, -1) {
		closes, name := m[2] < m[3], page[m[4]:m[5]]
		text, known := sections[name]
		switch {
		case !known:
			return "", fmt.Errorf("marker of unknown section %q", name)
		case !closes && open != "":
			return "", fmt.Errorf("section %q begins within %q", name, open)
		case closes && open != name:
			return "", fmt.Errorf("section %q ends where %q should", name, open)
		case !closes:
			open = name
			if text != "" {
				out.WriteString(page[from:m[1]] + "\n" + strings.TrimSpace(text) + "\n")
				from = -1
			}
		default:
			open = ""
			if from < 0 {
				from = m[0]
			}
		}
	}
	if open != "" {
		return "", fmt.Errorf("section %q has no end", open)
	}
	return out.String() + page[from:], nil
}

// headline tells the figures that count, of every agiproxy.
func (all Runs) headline() string {
	var w strings.Builder
	for _, p := range all.shown().Peers {
		if p.Family != agiproxyFamily {
			continue
		}
		rows := all.goalRows(p.Name)
		if len(rows) == 0 {
			continue
		}
		head := slices.Clone(goalHead)
		head[1] = p.Label
		w.WriteString(aligned(append([][]string{head}, rows...)))
	}
	return w.String()
}

// aligned writes rows in columns of equal width.
func aligned(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var w strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			fmt.Fprintf(&w, "%-*s  ", widths[i], cell)
		}
		w.WriteString("\n")
	}
	return w.String()
}
