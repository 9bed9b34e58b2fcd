// Manpage turns docs/configuration.md into the manual page agiproxy.yaml(5):
//
//	go run tools/manpage/main.go <docs/configuration.md >agiproxy.yaml.5
//
// It knows as much of Markdown as that page uses. A table becomes a list, since
// tables need a wider terminal than people have: the first cell is the term, the
// last says what it means, and what stands between comes after that.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

func main() {
	if err := convert(os.Stdout, os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "manpage:", err)
		os.Exit(1)
	}
}

// A page is one that is being written.
type page struct {
	out    *bufio.Writer
	code   bool     // within a fence
	listed bool     // within a list's item
	cells  []string // the heads of a table's columns, while it lasts
}

func convert(w io.Writer, r io.Reader) error {
	p := &page{out: bufio.NewWriter(w)}
	fmt.Fprint(p.out, ".TH AGIPROXY.YAML 5 \"\" agiproxy\n.SH NAME\nagiproxy.yaml \\- configuration of agiproxy\n")
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		p.line(lines.Text())
	}
	fmt.Fprint(p.out, ".SH SEE ALSO\n.BR agiproxy (1)\n")
	if err := lines.Err(); err != nil {
		return err
	}
	return p.out.Flush()
}

func (p *page) line(s string) {
	bare := strings.TrimSpace(s)
	switch {
	case strings.HasPrefix(bare, "```"):
		p.fence()
		return
	case p.code:
		fmt.Fprintln(p.out, literal(s))
		return
	case strings.HasPrefix(bare, "|"):
		p.row(bare)
		return
	}
	p.cells = nil
	switch {
	case bare == "":
		if !p.listed {
			fmt.Fprintln(p.out, ".PP")
		}
	case strings.HasPrefix(s, "# "):
		fmt.Fprintln(p.out, ".SH DESCRIPTION")
	case strings.HasPrefix(s, "#"):
		p.listed = false
		request := ".SH "
		if strings.HasPrefix(s, "###") {
			request = ".SS "
		}
		fmt.Fprintln(p.out, request+inline(strings.TrimLeft(s, "# ")))
	case strings.HasPrefix(s, "- "):
		p.listed = true
		fmt.Fprintf(p.out, ".IP \\(bu 2\n%s\n", inline(s[2:]))
	default:
		if p.listed && !strings.HasPrefix(s, " ") {
			p.listed = false
			fmt.Fprintln(p.out, ".PP")
		}
		fmt.Fprintln(p.out, inline(bare))
	}
}

func (p *page) fence() {
	p.code = !p.code
	switch {
	case p.code && p.listed:
		fmt.Fprintln(p.out, ".sp\n.nf")
	case p.code:
		fmt.Fprintln(p.out, ".PP\n.RS 4\n.nf")
	case p.listed:
		fmt.Fprintln(p.out, ".fi")
	default:
		fmt.Fprintln(p.out, ".fi\n.RE")
	}
}

// row writes a table's line as an entry of a list.
func (p *page) row(s string) {
	s = strings.ReplaceAll(strings.Trim(s, "|"), `\|`, "\x00")
	cells := strings.Split(s, "|")
	for i, c := range cells {
		cells[i] = strings.ReplaceAll(strings.TrimSpace(c), "\x00", "|")
	}
	switch {
	case p.cells == nil:
		p.cells = cells
		p.listed = false
		return
	case strings.HasPrefix(cells[0], "---"):
		return
	}
	last := len(cells) - 1
	fmt.Fprintf(p.out, ".TP\n%s\n%s\n", inline(cells[0]), inline(cells[last]))
	for i := 1; i < last; i++ {
		if cells[i] != "" {
			fmt.Fprintf(p.out, ".br\n%s: %s\n", inline(p.cells[i]), inline(cells[i]))
		}
	}
}

var (
	code = regexp.MustCompile("`([^`]*)`")
	bold = regexp.MustCompile(`\*\*([^*]+)\*\*`)
	link = regexp.MustCompile(`\[([^\]]+)\]\(([^)]*)\)`)
)

// inline writes a line of text. What stands in backquotes is left as it is; of a
// link only its words are.
func inline(s string) string {
	s = link.ReplaceAllString(s, "$1")
	var b strings.Builder
	for s != "" {
		at := code.FindStringSubmatchIndex(s)
		if at == nil {
			b.WriteString(prose(s))
			break
		}
		b.WriteString(prose(s[:at[0]]))
		b.WriteString(`\fB` + escape(s[at[2]:at[3]]) + `\fP`)
		s = s[at[1]:]
	}
	return guard(b.String())
}

func prose(s string) string {
	return bold.ReplaceAllString(escape(s), `\fB$1\fP`)
}

func literal(s string) string { return guard(escape(s)) }

func escape(s string) string { return strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s) }

// guard keeps roff from taking a line for a request.
func guard(s string) string {
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		return `\&` + s
	}
	return s
}
