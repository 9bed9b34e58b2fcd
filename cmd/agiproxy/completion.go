package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newCompletion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that completes agiproxy's commands in a shell",
		Example: `  source <(agiproxy completion bash)
  agiproxy completion zsh > "${fpath[1]}/_agiproxy"
  agiproxy completion fish > ~/.config/fish/completions/agiproxy.fish`,
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return wants(1, "bash, zsh or fish")(cmd, args)
			}
			if err := cobra.OnlyValidArgs(cmd, args); err != nil {
				return fmt.Errorf("shell %q; want bash, zsh or fish", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			out := cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(out, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(out)
			default:
				return cmd.Root().GenFishCompletion(out, true)
			}
		},
	}
}
