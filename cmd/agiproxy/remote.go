package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"agiproxy/admin/client"
)

// A remote is a running agiproxy as the commands that talk to it see it: their
// flags, and what they print to.
type remote struct {
	client.Options
	passwordFile string
	output       string

	*client.Client
	out    io.Writer
	stderr io.Writer
	name   string // of the command
}

// remotely makes a command that talks to a running agiproxy.
func remotely(cmd *cobra.Command, run func(ctx context.Context, r *remote, args []string) error) *cobra.Command {
	r := new(remote)
	flags := cmd.Flags()
	flags.StringVar(&r.URL, "admin", cmp.Or(os.Getenv("AGIPROXY_ADMIN"), "http://127.0.0.1:9577"), "`URL` of the admin port, also in AGIPROXY_ADMIN")
	flags.StringVar(&r.CAFile, "ca", "", "`FILE` with the certificate of who has signed the admin port's")
	flags.StringVar(&r.CertFile, "cert", "", "`FILE` with our own certificate, if the admin port wants one")
	flags.StringVar(&r.KeyFile, "key", "", "`FILE` with its key")
	flags.StringVar(&r.User, "user", "", "`NAME` of a user of the admin port")
	flags.StringVar(&r.passwordFile, "password-file", "", "`FILE` with the user's password")
	flags.StringVar(&r.output, "output", "table", "table or json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := r.open(cmd); err != nil {
			return &wrongError{fmt.Errorf("%s: %w", cmd.Name(), err)}
		}
		defer r.Close()
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err := run(ctx, r, args)
		if ctx.Err() != nil || err == nil {
			return nil // who interrupts has seen enough
		}
		if _, wrong := errors.AsType[*wrongError](err); wrong || err == errSaid {
			return err
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("%s: nobody answers at %s: agiproxy doesn't run there, or has its admin port elsewhere (--admin URL)", cmd.Name(), r.URL)
		}
		return fmt.Errorf("%s: %w", cmd.Name(), err)
	}
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// open makes the client that the flags ask for.
func (r *remote) open(cmd *cobra.Command) (err error) {
	r.out, r.stderr, r.name = cmd.OutOrStdout(), cmd.ErrOrStderr(), cmd.Name()
	if r.output != "table" && r.output != "json" {
		return fmt.Errorf("--output %q; want table or json", r.output)
	}
	if r.passwordFile != "" {
		text, err := os.ReadFile(r.passwordFile)
		if err != nil {
			return err
		}
		r.Password = strings.TrimRight(string(text), "\r\n")
	}
	if r.Client, err = client.New(r.Options); err != nil {
		return fmt.Errorf("--admin %w", err)
	}
	return nil
}

// display calls the API, and prints the answer: as it came, or what table makes of
// it.
func display[T any](ctx context.Context, r *remote, method, path string, body any, table func(T)) error {
	var answer json.RawMessage
	if err := r.Call(ctx, method, path, body, &answer); err != nil {
		return err
	}
	return present(r, answer, table)
}

func present[T any](r *remote, answer json.RawMessage, table func(T)) error {
	if r.output == "json" {
		_, err := fmt.Fprintf(r.out, "%s\n", strings.TrimRight(string(answer), "\n"))
		return err
	}
	var v T
	if err := json.Unmarshal(answer, &v); err != nil {
		return err
	}
	table(v)
	return nil
}

// columns prints a table, whose first row is its heading. An empty cell is a
// dash.
func (r *remote) columns(rows [][]string) {
	w := tabwriter.NewWriter(r.out, 0, 8, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			// A tab of a peer's would begin another column.
			fmt.Fprint(w, printable(strings.ReplaceAll(cmp.Or(cell, "-"), "\t", " ")))
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}

// brief writes a time as somebody would say it: 350ms, 4.2s, 3m12s, 5h02m.
func brief(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < 10*time.Millisecond:
		return d.Round(time.Millisecond / 10).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < 10*time.Second:
		return d.Round(time.Second / 10).String()
	}
	switch d = d.Round(time.Second); {
	case d < time.Hour:
		return d.String()
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

// route joins the parts of a path, whatever is in them.
func route(parts ...string) string {
	path := ""
	for _, p := range parts {
		path += "/" + url.PathEscape(p)
	}
	return path
}
