package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"agiproxy/internal/agisim"
)

// callFlags are the flags of call.
type callFlags struct {
	set         []string
	callerID    string
	digits      string
	prompt      time.Duration
	hangupAfter time.Duration
	timeout     time.Duration
	quiet       bool
}

func newCall() *cobra.Command {
	var f callFlags
	cmd := &cobra.Command{
		Use:   "call agi://HOST:PORT/SCRIPT [ARG...]",
		Short: "Play Asterisk for one session, and print the dialogue",
		Long: `call does what AGI(agi://HOST:PORT/SCRIPT,ARG,...) does in a dialplan: it connects
within two seconds, sends the header and obeys the server's commands until the
server closes. Prompts are silence, variables are kept, a digit that is asked
for is typed from --digits.

It prints each command (<) and reply (>) with the seconds since the start, and
what the dialplan would find in AGISTATUS and AGIPROXYSTATUS. The exit code is 0
if the server closed in its own turn, be its script done or dead; with no command
at all a hint says so. To be sure, have the script set a variable. The first interrupt (^C) hangs up, the second
breaks off.`,
		Example: `  agiproxy call agi://127.0.0.1:4577/welcome
  agiproxy call agi://127.0.0.1:4577/ivr?lang=de one "two words" --set PIN=1234 --digits 12#
  agiproxy call agi://127.0.0.1:4577/ivr --callerid '"Ann" <5551234>' --hangup-after 3s
  agiproxy call --quiet --timeout 30s agi://10.0.0.11:4573/ivr || echo "ivr1 does not serve"`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("want agi://HOST:PORT/SCRIPT")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			call, err := f.call(args)
			if err != nil {
				return &wrongError{fmt.Errorf("call %w", err)}
			}
			return playCall(cmd.OutOrStdout(), f, call)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.set, "set", nil, "channel variable, as `NAME=VALUE`; may be repeated")
	flags.StringVar(&f.callerID, "callerid", "", "the caller, as `'\"Name\" <number>'` or number")
	flags.StringVar(&f.digits, "digits", "", "`digits` that the caller types when asked")
	flags.DurationVar(&f.prompt, "prompt", 200*time.Millisecond, "how long every prompt plays")
	flags.DurationVar(&f.hangupAfter, "hangup-after", 0, "the caller leaves after this `time`; 0: stays")
	flags.DurationVar(&f.timeout, "timeout", 0, "break off after this `time`, which is a failure; 0: as long as the server likes")
	flags.BoolVar(&f.quiet, "quiet", false, "print the last line only")
	return cmd
}

// call is what the arguments and flags ask for.
func (f callFlags) call(args []string) (agisim.Call, error) {
	call, err := agisim.NewCall(args[0], args[1:]...)
	if err != nil {
		return call, err
	}
	call.Digits = f.digits
	call.Variables = map[string]string{}
	for _, s := range f.set {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return call, fmt.Errorf("--set %q: want NAME=VALUE", s)
		}
		call.Variables[name] = value
	}
	env := &call.Environment
	env.CallerName, env.CallerID = splitCaller(f.callerID)
	now := time.Now()
	env.UniqueID = fmt.Sprintf("%d.%d", now.Unix(), now.Nanosecond()/1000) // as Asterisk's, and no two alike
	env.Version, _, _ = strings.Cut(versionText(), " (")
	return call, nil
}

// splitCaller takes "Name" <number> apart.
func splitCaller(s string) (name, number string) {
	m := regexp.MustCompile(`^\s*"?([^"<]*?)"?\s*<([^>]*)>\s*$`).FindStringSubmatch(s)
	if m == nil {
		return "", s
	}
	return m[1], m[2]
}

// playCall makes the call, and judges it.
func playCall(out io.Writer, f callFlags, call agisim.Call) error {
	ctx, breakOff := context.WithCancelCause(context.Background())
	defer breakOff(nil)
	caller, hangUp := context.WithCancel(ctx)
	defer hangUp()
	if f.timeout > 0 {
		defer time.AfterFunc(f.timeout, func() { breakOff(fmt.Errorf("not over within %v", f.timeout)) }).Stop()
	}
	if f.hangupAfter > 0 {
		defer time.AfterFunc(f.hangupAfter, hangUp).Stop()
	}
	call.Hangup = caller.Done()

	interrupts := make(chan os.Signal, 2)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	go func() {
		for n := 1; ; n++ {
			select {
			case <-interrupts:
			case <-ctx.Done():
				return
			}
			if hangUp(); n > 1 {
				breakOff(errors.New("interrupted"))
			}
		}
	}()

	if !f.quiet {
		call.Trace = newPrinter(out).print
	}
	asterisk := agisim.Asterisk{Prompt: f.prompt}
	result := asterisk.Run(ctx, call)
	if hint := hint(result); hint != "" && !f.quiet {
		fmt.Fprintf(out, "hint: %s\n", hint)
	}
	fmt.Fprintf(out, "AGISTATUS=%s AGIPROXYSTATUS=%s\n", result.Status, result.ProxyStatus())
	if why := unserved(result); why != "" {
		return fmt.Errorf("call %s: %s", call.Address, why)
	}
	return nil
}

// unserved says why a call was not served to its end, or "" if it was.
func unserved(r agisim.Result) string {
	switch {
	case r.Served():
		return ""
	case r.Err != nil:
		return r.Err.Error()
	case r.ProxyStatus() != "" && r.ProxyStatus() != "OK":
		return "agiproxy could not serve it: " + r.ProxyStatus()
	case r.Status == agisim.HungUp:
		return "the caller hung up"
	}
	return "a command failed, or the server said failure"
}

// hint explains what AGISTATUS alone would hide.
func hint(r agisim.Result) string {
	switch {
	case r.Status == agisim.Success && r.Err != nil:
		return "the dialplan goes on as if the script had run: Asterisk says SUCCESS of every server that could be connected to"
	case r.Status == agisim.Success && r.Commands == 0:
		return "the server closed without a command; Asterisk says SUCCESS of that, be it a script with nothing to say or a dying server"
	case r.Status == agisim.Failure && r.Err != nil:
		return "Asterisk could not connect; its dialplan goes on with FAILURE"
	}
	return ""
}
