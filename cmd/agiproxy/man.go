package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newMan returns the command that packages are built with. It is not shown:
// who has installed one has the page.
func newMan() *cobra.Command {
	return &cobra.Command{
		Use:     "man",
		Short:   "Print the manual page agiproxy(1)",
		Example: "  agiproxy man | man -l -",
		Hidden:  true,
		Args:    wants(0, "none"),
		Run: func(cmd *cobra.Command, _ []string) {
			manual(cmd.OutOrStdout(), cmd.Root())
		},
	}
}

// manual writes agiproxy(1), from what each command says of itself.
func manual(w io.Writer, root *cobra.Command) {
	b := buildInfo()
	fmt.Fprintf(w, ".TH AGIPROXY 1 \"%s\" \"agiproxy %s\"\n", roff(b.date), roff(b.version))
	fmt.Fprintf(w, ".SH NAME\nagiproxy \\- %s\n", roff(strings.ToLower(root.Short[:1])+root.Short[1:]))
	fmt.Fprint(w, ".SH SYNOPSIS\n")
	commands := shown(root)
	for _, c := range commands {
		fmt.Fprintf(w, ".B agiproxy\n%s\n.br\n", roff(c.Use))
	}
	fmt.Fprint(w, ".SH DESCRIPTION\n")
	paragraphs(w, root.Long)
	example(w, root)
	fmt.Fprint(w, ".SH COMMANDS\n")
	for _, c := range commands {
		fmt.Fprintf(w, ".SS agiproxy %s\n", roff(c.Use))
		about := c.Long
		if about == "" {
			about = c.Short + "."
		}
		paragraphs(w, about)
		c.LocalFlags().VisitAll(func(f *pflag.Flag) { option(w, f) })
		example(w, c)
	}
	fmt.Fprint(w, `.SH EXIT STATUS
0 fine; 1 failed; 2 wrong usage or configuration.
.SH FILES
.TP
.I /etc/agiproxy/agiproxy.yaml
the configuration of the service; see
.BR agiproxy.yaml (5)
.SH SEE ALSO
.BR agiproxy.yaml (5),
.BR systemctl (1),
.BR journalctl (1),
.BR asterisk (8)
`)
}

// shown returns the commands that users are shown, and theirs.
func shown(parent *cobra.Command) (all []*cobra.Command) {
	for _, c := range parent.Commands() {
		if c.Hidden || c.Name() == "help" {
			continue
		}
		if c.Runnable() {
			all = append(all, c)
		}
		all = append(all, shown(c)...)
	}
	return all
}

// paragraphs writes text that has an empty line between its paragraphs.
func paragraphs(w io.Writer, text string) {
	for p := range strings.SplitSeq(text, "\n\n") {
		fmt.Fprintf(w, ".PP\n%s\n", roff(p))
	}
}

func option(w io.Writer, f *pflag.Flag) {
	if f.Hidden {
		return
	}
	value, about := pflag.UnquoteUsage(f)
	fmt.Fprintf(w, ".TP\n.B %s\n%s\n", roff(strings.TrimSpace("--"+f.Name+" "+value)), roff(about))
}

func example(w io.Writer, c *cobra.Command) {
	if c.Example != "" {
		fmt.Fprintf(w, ".PP\n.nf\n%s\n.fi\n", roff(c.Example))
	}
}

// roff writes text so that roff takes none of it for a request, and a minus for
// no hyphen, which couldn't be pasted into a shell.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			b.WriteString(`\&`)
		}
		b.WriteString(line)
	}
	return b.String()
}
