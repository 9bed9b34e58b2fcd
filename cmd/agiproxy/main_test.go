package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const goodFile = `
pools:
  ivr:
    backends: [{address: "10.0.0.1:4573"}, {address: "10.0.0.2:4573"}]
  night:
    backends: [{address: "10.0.0.3:4573"}]
routes:
  - match: {script: "night/*"}
    pool: night
  - pool: ivr
`

const badFile = `pools:
  ivr:
    atempts: 3
    balance: fastest
    backends: [{address: "10.0.0.1:4573"}]
`

// write puts a configuration where a command can read it.
func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestExitCodesAndMessages(t *testing.T) {
	good, bad := write(t, "good.yaml", goodFile), write(t, "bad.yaml", badFile)
	for _, test := range []struct {
		args   []string
		code   int
		stdout string // a part of it; "" is nothing at all
		stderr string
	}{
		{nil, 2, "", "agiproxy: no command given"},
		{[]string{"--help"}, 0, "agiproxy demo", ""},
		{[]string{"--version"}, 0, "agiproxy devel", ""},
		{[]string{"version"}, 0, "agiproxy devel", ""},
		{[]string{"version", "x"}, 2, "", "agiproxy: version: 1 arguments given; want none; see agiproxy version --help\n"},
		{[]string{"chek"}, 2, "", `agiproxy: no command "chek", did you mean check?; see agiproxy --help` + "\n"},
		{[]string{"check"}, 2, "", "agiproxy: check: 0 arguments given; want one FILE; see agiproxy check --help\n"},
		{[]string{"check", good}, 0, good + ": ok: 1 listener, 2 pools, 3 backends, 2 routes, metrics on 127.0.0.1:9577\n", ""},
		{[]string{"check", bad}, 2, "", "agiproxy: " + bad + `:3:5: unknown key "atempts"`},
		{[]string{"check", bad}, 2, "", "\nagiproxy: " + bad + ":4:14: "},
		{[]string{"check", "no/such.yaml"}, 2, "", "agiproxy: open no/such.yaml: no such file or directory\n"},
		{[]string{"call"}, 2, "", "agiproxy: call: want agi://HOST:PORT/SCRIPT; see agiproxy call --help\n"},
		{[]string{"call", "http://x"}, 2, "", `agiproxy: call "http://x": scheme "http"; want agi://HOST:PORT/SCRIPT` + "\n"},
		{[]string{"call", "agi://x", "--set", "X"}, 2, "", `agiproxy: call --set "X": want NAME=VALUE` + "\n"},
		{[]string{"call", "--nosuch"}, 2, "", "agiproxy: call: unknown flag: --nosuch; see agiproxy call --help\n"},
		{[]string{"completion"}, 2, "", "agiproxy: completion: 0 arguments given; want bash, zsh or fish; see agiproxy completion --help\n"},
		{[]string{"completion", "tcsh"}, 2, "", `agiproxy: completion: shell "tcsh"; want bash, zsh or fish; see agiproxy completion --help` + "\n"},
		{[]string{"completion", "bash"}, 0, "__start_agiproxy", ""},
		{[]string{"completion", "zsh"}, 0, "#compdef agiproxy", ""},
		{[]string{"completion", "fish"}, 0, "complete -c agiproxy", ""},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			var stdout, stderr strings.Builder
			if code := run(test.args, &stdout, &stderr); code != test.code {
				t.Errorf("exit code %d; want %d", code, test.code)
			}
			for _, stream := range []struct{ name, got, want string }{
				{"standard output", stdout.String(), test.stdout},
				{"standard error", stderr.String(), test.stderr},
			} {
				if !strings.Contains(stream.got, stream.want) || stream.want == "" && stream.got != "" {
					t.Errorf("%s is\n%s\nwant it to hold\n%s", stream.name, stream.got, stream.want)
				}
			}
		})
	}
}

// Every command shows how it is used.
func TestEveryCommandHasAnExample(t *testing.T) {
	for _, cmd := range newRoot().Commands() {
		if cmd.Example == "" || cmd.Short == "" {
			t.Errorf("agiproxy %s has no example or no short description", cmd.Name())
		}
	}
}
