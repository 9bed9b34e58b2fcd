//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCompareWithoutProxy(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "results.json")
	var out, errs bytes.Buffer
	code := run(context.Background(), []string{"compare", "-peers", "direct", "-scenarios", "^(setup|open-5000)$", "-pin=false",
		"-rounds", "2", "-warmup", "10ms", "-for", "100ms", "-json", file, "-docs", filepath.Join(dir, "performance.md")}, &out, &errs)
	if code != 0 {
		t.Fatalf("compare: exit code %d\n%s%s", code, &out, &errs)
	}
	r, err := readResults(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Samples) != 4 {
		t.Errorf("%d samples; want 4: two rounds of two scenarios", len(r.Samples))
	}
	for _, s := range r.Samples {
		if s.Commands == 0 || s.Err() != nil {
			t.Errorf("%s, round %d: %d commands, %v; want some, and no error", s.Scenario, s.Round, s.Commands, s.Err())
		}
	}
}

func TestChoosePeers(t *testing.T) {
	program, err := os.Executable() // any that is there
	if err != nil {
		t.Fatal(err)
	}
	engines := []string{"epoll=" + program + ";engine: epoll", "io_uring=" + program + ";engine: io_uring"}
	for _, c := range []struct {
		name  string
		specs []string
		peers string
		want  string
		err   string
	}{
		{"all of them", engines, "agiproxy,direct", "epoll,io_uring,direct", ""},
		{"by their names", engines, "io_uring,epoll", "io_uring,epoll", ""},
		{"one", engines, "direct,io_uring", "direct,io_uring", ""},
		{"one, then all", engines, "io_uring,agiproxy", "io_uring,epoll", ""},
		{"twice", engines, "epoll,epoll", "epoll", ""},
		{"unknown", engines, "epoll,uring", "", `no peer "uring"; there are epoll, io_uring, haproxy,`},
		{"no specs", nil, "agiproxy", "", `no peer "agiproxy"`},
		{"two of one name", append(engines, engines[0]), "agiproxy", "", "there is a peer of that name already"},
		{"another's name", []string{"nginx=" + program}, "agiproxy", "", "there is a peer of that name already"},
	} {
		peers, err := choosePeers(c.specs, strings.Split(c.peers, ","), false, io.Discard)
		var names []string
		for _, p := range peers {
			names = append(names, p.name)
		}
		if got := strings.Join(names, ","); got != c.want {
			t.Errorf("%s: %s; want %s", c.name, got, c.want)
		}
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: error %v; want %q", c.name, err, c.err)
		}
	}
}

func TestWrongUsage(t *testing.T) {
	for args, want := range map[string]int{
		"":                          2,
		"nonsense":                  2,
		"compare -nonsense":         2,
		"compare argument":          2,
		"compare -h":                0,
		"compare -peers nonsense":   1,
		"compare -scenarios x{9}y(": 1,
		"report -runs nowhere":      1,
		"compare -runs x -short":    2,
		"load -mode nonsense":       1,
		"compare -agiproxy nonsense -peers direct": 1,
	} {
		var out, errs bytes.Buffer
		if got := run(context.Background(), strings.Fields(args), &out, &errs); got != want {
			t.Errorf("bench %s: exit code %d; want %d\n%s", args, got, want, &errs)
		}
	}
}

func TestConfigurationsHaveTheirServers(t *testing.T) {
	ours, err := agiproxy("agiproxy=./agiproxy;engine: epoll;loops: 2")
	if err != nil {
		t.Fatal(err)
	}
	set := setting{
		at: netip.MustParseAddrPort("127.0.0.1:4577"), admin: netip.MustParseAddrPort("127.0.0.1:9577"), threads: 1, probe: 2 * time.Second,
		servers: []netip.AddrPort{netip.MustParseAddrPort("127.1.0.1:4573"), netip.MustParseAddrPort("127.1.0.2:4573")},
	}
	for _, p := range append(others(), ours) {
		if p.configure == nil {
			continue
		}
		set.dir = t.TempDir()
		if _, err := p.configure(set); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(set.dir, "*"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%s wrote %v, %v; want one file", p.name, files, err)
		}
		text, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"127.0.0.1:4577", "127.1.0.1:4573", "127.1.0.2:4573"} {
			if !bytes.Contains(text, []byte(want)) {
				t.Errorf("%s: no %s in\n%s", p.name, want, text)
			}
		}
		if p.name == "agiproxy" && (!bytes.Contains(text, []byte("\nengine: epoll\n")) || strings.Count(string(text), "loops:") != 1) {
			t.Errorf("agiproxy's own lines are missing, or stand beside others:\n%s", text)
		}
	}
}

func TestProcessTellsWhatItUses(t *testing.T) {
	// A shell that computes for a while, and a child of it that doesn't.
	p, err := start(t.TempDir(), -1, "/bin/sh", "-c", "sleep 60 & i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo outcome; wait")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	}()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if n, err := p.records(); err != nil || time.Now().After(end) {
			t.Fatalf("%d records, %v; want one", n, err)
		} else if n == 1 {
			break
		}
	}
	if pids, err := p.pids(); err != nil || len(pids) != 2 {
		t.Errorf("processes %v, %v; want the shell and its child", pids, err)
	}
	if used, err := p.cpu(); err != nil || used < time.Millisecond {
		t.Errorf("cpu() = %v, %v; want more than 1ms", used, err)
	}
	if rss, err := p.rss(); err != nil || rss < 100<<10 {
		t.Errorf("rss() = %d, %v; want more than 100 KiB", rss, err)
	}
}

func TestTraceSaysThatItIsNotPossible(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "strace"), []byte("#!/bin/sh\necho Operation not permitted >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	p, err := start(t.TempDir(), -1, "/bin/sleep", "60")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	}()
	if _, err := p.trace(); !errors.Is(err, errNoTrace) || !strings.Contains(err.Error(), "not permitted") {
		t.Errorf("trace: %v; want %v, and why", err, errNoTrace)
	}
}

func TestParseCalls(t *testing.T) {
	got, err := parseCalls(`    calls syscall
--------- ----------------
     4061 epoll_pwait
        8 close
--------- ----------------
     4069 total
`)
	if want := map[string]int{"epoll_pwait": 4061, "close": 8}; err != nil || !maps.Equal(got, want) {
		t.Errorf("parseCalls = %v, %v; want %v", got, err, want)
	}
	if got, err := parseCalls("strace: nobody there\n"); err == nil {
		t.Errorf("parseCalls of a message = %v; want an error", got)
	}
	if got, want := breakdown(map[string]int{"read": 200, "write": 200, "close": 1}, 100), "read 2.0, write 2.0"; got != want {
		t.Errorf("breakdown = %q; want %q", got, want)
	}
}
