package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"agiproxy/config"
	"agiproxy/internal/app"
)

func newCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Say what serve would say of a configuration file",
		Long: `check reads a configuration file as serve does, and prints every fault with its
place, one a line, on standard error. What is allowed and hardly meant is a warning
there, with exit code 0. Nothing is listened on or connected to.`,
		Example: "  agiproxy check /etc/agiproxy/agiproxy.yaml && systemctl reload agiproxy",
		Args:    wants(1, "one FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := config.Load(args[0])
			if err != nil {
				return &wrongError{err}
			}
			warnings, err := app.Check(cfg)
			if err != nil {
				return &wrongError{fmt.Errorf("%s: %w", args[0], err)}
			}
			for _, w := range warnings {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s: warning: %s\n", args[0], w)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: ok: %s\n", args[0], summary(cfg))
			return nil
		},
	}
}

// summary counts what a configuration has.
func summary(cfg *config.Config) string {
	backends := 0
	for _, p := range cfg.Pools {
		backends += len(p.Backends)
	}
	parts := []string{
		count(len(cfg.Listeners), "listener"),
		count(len(cfg.Pools), "pool"),
		count(backends, "backend"),
	}
	if len(cfg.Routes) > 0 {
		parts = append(parts, count(len(cfg.Routes), "route"))
	}
	if cfg.Admin.Address == "" {
		parts = append(parts, "no metrics")
	} else {
		parts = append(parts, "metrics on "+cfg.Admin.Address)
	}
	return strings.Join(parts, ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
