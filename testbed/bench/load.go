//go:build linux

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"time"

	"agiproxy/testbed/bench/load"
)

// loadCommand makes one load and prints its result as JSON. An incorrect run is
// an error.
func loadCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	var (
		plan   load.Plan
		port   = flags.Uint("port", 0, "where the FastAGI servers listen, on every loopback address; 0: a free port, for a run without a proxy")
		target = flags.String("target", "", "where the callers connect, `127.0.0.1:4577`; none: the servers, without a proxy")
		mode   = flags.String("mode", string(load.Setup), "setup, saturated, open, idle or churn")
	)
	settle := flags.Duration("settle", 0, "servers answer for so long before the first caller connects, so that a proxy that was there before finds them")
	flags.IntVar(&plan.Sessions, "sessions", 100, "at one time")
	flags.IntVar(&plan.Beside, "beside", 0, "idle sessions held besides (saturated, open)")
	flags.IntVar(&plan.From, "from", 1, "fewest commands of a session (churn)")
	flags.IntVar(&plan.To, "to", 3, "most commands of a session (churn), or its commands (setup)")
	flags.Float64Var(&plan.Rate, "rate", 0, "commands (open) or sessions (churn) a second")
	flags.Float64Var(&plan.Hangups, "hangups", 0, "share of sessions that the caller ends (churn)")
	flags.DurationVar(&plan.Think, "think", 20*time.Millisecond, "between a reply and the next command (churn)")
	flags.BoolVar(&plan.Goodbye, "goodbye", false, "callers send HANGUP after the server's close, as Asterisk does")
	flags.BoolVar(&plan.Split, "split", false, "the environment comes as two segments, as from Asterisk")
	flags.Uint64Var(&plan.Seed, "seed", 1, "of what is random (churn)")
	flags.DurationVar(&plan.Warmup, "warmup", time.Second, "not measured")
	flags.DurationVar(&plan.Duration, "for", 5*time.Second, "measured")
	flags.Uint64Var(&plan.Count, "count", 0, "ends after so many commands, or sessions; 0: no limit")
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	plan.Mode = load.Mode(*mode)

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	g, err := load.New(uint16(*port))
	if err != nil {
		return err
	}
	defer g.Close()
	plan.Target = g.Servers(1)[0]
	if *target != "" {
		if plan.Target, err = netip.ParseAddrPort(*target); err != nil {
			return fmt.Errorf("-target: %w", err)
		}
	}
	g.Serve(*settle, func() bool { return false })
	plan.End = ctx.Err
	result, err := g.Run(plan)
	if err != nil {
		return err
	}
	out := json.NewEncoder(stdout)
	out.SetIndent("", "  ")
	if err := out.Encode(result); err != nil {
		return err
	}
	return result.Err()
}
