package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"agiproxy/config"
	"agiproxy/internal/app"
)

// maxHeaderFile bounds what route reads; no header that a listener takes is
// larger.
const maxHeaderFile = 16 << 20

func newRoute() *cobra.Command {
	var header, file string
	cmd := &cobra.Command{
		Use:   "route --header FILE --config FILE",
		Short: "Say which route and pool a header leads to, and why",
		Long: `route reads a header as Asterisk sends it (lines "agi_name: value", ended by an
empty line) and says which route of the configuration takes it, and why those
before it do not. The exit code is 1 if none does.`,
		Example: `  agiproxy route --config /etc/agiproxy/agiproxy.yaml --header call.txt
  printf 'agi_network: yes\nagi_network_script: billing/x\n\n' |
    agiproxy route --config agiproxy.yaml --header -`,
		Args: wants(0, "none"),
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if header == "" || file == "" {
				return &wrongError{fmt.Errorf("route: want --header FILE and --config FILE; see %s --help", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(file)
			if err != nil {
				return &wrongError{err}
			}
			data, err := readHeader(cmd.InOrStdin(), header)
			if err != nil {
				return err
			}
			d, err := app.Explain(cfg, data)
			if err != nil {
				return fmt.Errorf("route %s: %w", header, err)
			}
			return printDecision(cmd.OutOrStdout(), d, len(cfg.Routes))
		},
	}
	cmd.Flags().StringVar(&header, "header", "", "`FILE` with the header; - is standard input")
	cmd.Flags().StringVar(&file, "config", "", "configuration `FILE`")
	return cmd
}

func readHeader(stdin io.Reader, file string) ([]byte, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		stdin = f
	}
	data, err := io.ReadAll(io.LimitReader(stdin, maxHeaderFile))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return data, nil
}

// printDecision writes why, and then what.
func printDecision(out io.Writer, d app.Decision, routes int) error {
	for _, step := range d.Steps {
		fmt.Fprintln(out, step)
	}
	switch {
	case d.Route < 0:
		return errors.New("route: no route takes it; Asterisk would see FAILURE, AGIPROXYSTATUS=NOROUTE")
	case routes == 0:
		fmt.Fprintf(out, "no routes: everything goes to pool %s\n", d.Pool)
	default:
		fmt.Fprintf(out, "route %d takes it: pool %s\n", d.Route+1, d.Pool)
	}
	return nil
}
