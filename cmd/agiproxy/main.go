// Agiproxy stands between Asterisk and several FastAGI servers. This is its
// command line: subcommands, flags, signals and exit codes; `agiproxy --help`
// is the way in.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"agiproxy/internal/systemd"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// Exit codes; 0 is fine.
const (
	exitFailed = 1
	exitUsage  = 2 // wrong usage or configuration
)

// A wrongError says that the usage or the configuration is wrong, rather than
// that something failed.
type wrongError struct{ err error }

func (e *wrongError) Error() string { return e.err.Error() }
func (e *wrongError) Unwrap() error { return e.err }

// errSaid ends the program as failed when all has been said.
var errSaid = errors.New("failed")

// run is the whole program but for the exit.
func run(args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	begun := false // until then only the usage can be wrong
	root.PersistentPreRun = func(*cobra.Command, []string) { begun = true }

	cmd, err := root.ExecuteC()
	switch _, wrong := errors.AsType[*wrongError](err); {
	case err == nil:
		return 0
	case err == errSaid:
		return exitFailed
	case wrong:
		report(stderr, err.Error())
		return exitUsage
	case !begun:
		if cmd.HasParent() {
			err = fmt.Errorf("%s: %w", cmd.Name(), err)
		}
		report(stderr, fmt.Sprintf("%v; see %s --help", err, cmd.CommandPath()))
		return exitUsage
	}
	report(stderr, err.Error())
	return exitFailed
}

// report writes an error, of which each line is one.
func report(w io.Writer, message string) {
	mark := ""
	if systemd.IsJournal(w) {
		mark = systemd.Error
	}
	for line := range strings.Lines(message) {
		fmt.Fprintf(w, "%sagiproxy: %s\n", mark, strings.TrimSuffix(line, "\n"))
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "agiproxy",
		Short: "A proxy between Asterisk and several FastAGI servers",
		Long: `agiproxy stands between Asterisk and several FastAGI servers: it reads what
Asterisk sends, picks a healthy server and carries the session; when a server
dies, calls go on.`,
		Example: `  agiproxy demo                                        see it work, with nothing installed
  agiproxy serve --backend 10.0.0.11:4573 --backend 10.0.0.12:4573
  agiproxy serve --config /etc/agiproxy/agiproxy.yaml
  agiproxy call agi://127.0.0.1:4577/welcome           play Asterisk for one session
  agiproxy status                                      how a running agiproxy is`,
		Version:       versionText(),
		Args:          noCommand,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(cmd.ErrOrStderr())
			return errors.Join(cmd.Help(), &wrongError{errors.New("no command given")})
		},
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SuggestionsMinimumDistance = 2
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(newDemo(), newServe(), newRoute(), newCall(), newCheck(), newVersion(), newCompletion(), newMan())
	root.AddCommand(newStatus(), newSessions(), newDrain(), newEnable(), newDisable(), newWeight(), newKill(), newTrace(), newReload(), newUpgrade())
	return root
}

// noCommand refuses a word that is no command, and says which one may be meant.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	message := fmt.Sprintf("no command %q", args[0])
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		message += ", did you mean " + strings.Join(similar, " or ") + "?"
	}
	return errors.New(message)
}

// wants is the check of a command's arguments: there must be n, which are
// called what.
func wants(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return fmt.Errorf("%d arguments given; want %s", len(args), what)
		}
		return nil
	}
}
