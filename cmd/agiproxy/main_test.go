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
	doubtful := write(t, "doubtful.yaml", "pools: {ivr: {on_backend_loss: resume, backends: [\"10.0.0.1:4573\"]}}\n")
	only := write(t, "only.yaml", strings.Replace(goodFile, "- pool: ivr", "- {match: {script: x}, pool: ivr}", 1))
	header := func(script string) string {
		return write(t, "header.txt", "agi_network: yes\nagi_network_script: "+script+"\n\n")
	}
	night, day, cut := header("night/x"), header("day"), write(t, "cut.txt", "agi_network: yes\n")
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
		{[]string{"serve"}, 2, "", "agiproxy: serve: want --config FILE, or --backend HOST:PORT; see agiproxy serve --help\n"},
		{[]string{"serve", "--config", bad}, 2, "", "agiproxy: " + bad + `:3:5: unknown key "atempts"`},
		{[]string{"serve", "--config", good, "--backend", "x:1"}, 2, "", "agiproxy: serve: --config and --backend exclude each other"},
		{[]string{"serve", "--config", good, "--listen", ":1"}, 2, "", "agiproxy: serve: --listen goes with --backend"},
		{[]string{"serve", "--backend", "x"}, 2, "", `agiproxy: --backend "x": the port is missing; want host:port` + "\n"},
		{[]string{"serve", "nope.yml"}, 2, "", "agiproxy: serve: unknown argument \"nope.yml\"; a configuration file is given by --config nope.yml; see agiproxy serve --help\n"},
		{[]string{"check", doubtful}, 0, doubtful + ": ok: ", doubtful + ": warning: pool ivr: on_backend_loss: resume finds no other backend: there is only one\n"},
		{[]string{"serve", "--backend", "x:1", "--admin", "0.0.0.0:1"}, 2, "", "agiproxy: --admin "},
		{[]string{"serve", "--backend", "x:1", "--log-level", "loud"}, 2, "", `agiproxy: serve: --log-level "loud"; want trace, debug, info, warn or error; see agiproxy serve --help` + "\n"},
		{[]string{"route", "--config", good}, 2, "", "agiproxy: route: want --header FILE and --config FILE; see agiproxy route --help\n"},
		{[]string{"route", "--config", bad, "--header", day}, 2, "", "unknown key"},
		{[]string{"route", "--config", good, "--header", night}, 0, "route 1 takes it: pool night\n", ""},
		{[]string{"route", "--config", good, "--header", day}, 0, "route 2 takes it: pool ivr\n", ""},
		{[]string{"route", "--config", only, "--header", day}, 1, "route 1 to night: ", "agiproxy: route: no route takes it; Asterisk would see FAILURE, AGIPROXYSTATUS=NOROUTE\n"},
		{[]string{"route", "--config", good, "--header", cut}, 1, "", "agiproxy: route " + cut + ": header has no empty line at its end\n"},
		{[]string{"demo", "--duration", "-1s"}, 2, "", "agiproxy: demo: --duration -1s; want a time, or 0 for no end\n"},
		{[]string{"demo", "--listen", "nowhere"}, 2, "", "agiproxy: "},
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
