//go:build linux

// Bench compares agiproxy with HAProxy, nginx and no proxy at all, under a load
// of its own making, and writes what it finds into docs/performance.md.
//
//	bench compare    measures everything, interleaved, and writes tables and charts
//	bench report     writes tables and charts anew from an earlier run's results
//	bench load       makes one kind of load against whatever listens somewhere
//
// Testbed/bench/run builds and runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

const usage = `usage: bench compare|report|load [FLAGS]; bench COMMAND -h tells the flags`

// run is the whole program but for the exit.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	commands := map[string]func(context.Context, []string, io.Writer, io.Writer) error{
		"compare": compareCommand, "report": reportCommand, "load": loadCommand,
	}
	if len(args) == 0 || commands[args[0]] == nil {
		fmt.Fprintln(stderr, usage)
		return 2
	}
	switch err := commands[args[0]](ctx, args[1:], stdout, stderr); {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2 // package flag has said why
	default:
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return 1
	}
}

var errUsage = errors.New("wrong usage")

// parse parses a command's flags; there are no other arguments.
func parse(flags *flag.FlagSet, args []string, stderr io.Writer) error {
	flags.SetOutput(stderr)
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "bench %s: %q is no flag\n", flags.Name(), flags.Arg(0))
		return errUsage
	}
	return nil
}
