package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// What this program was built from. The linker sets them for a release
// (-ldflags "-X main.version=1.2.3 -X main.commit=… -X main.date=…"); empty ones
// come from what the Go command knows.
var (
	version string
	commit  string
	date    string // of the commit, RFC 3339
)

// build is what is known of this program's origin.
type build struct{ version, commit, date string }

func buildInfo() build {
	b := build{version, commit, date}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return build{cmp.Or(b.version, "devel"), cmp.Or(b.commit, "unknown"), cmp.Or(b.date, "unknown")}
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	revision := settings["vcs.revision"]
	if revision != "" && settings["vcs.modified"] == "true" {
		revision += "-dirty"
	}
	module := info.Main.Version
	if module == "(devel)" {
		module = ""
	}
	return build{
		version: cmp.Or(b.version, module, "devel"),
		commit:  cmp.Or(b.commit, revision, "unknown"),
		date:    cmp.Or(b.date, settings["vcs.time"], "unknown"),
	}
}

func versionText() string {
	b := buildInfo()
	return fmt.Sprintf("agiproxy %s (commit %s, date %s, %s, %s/%s)",
		b.version, b.commit, b.date, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version, and what it was built from",
		Example: "  agiproxy version",
		Args:    wants(0, "none"),
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintln(cmd.OutOrStdout(), versionText())
		},
	}
}
