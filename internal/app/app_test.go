package app

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"agiproxy/agi"
	"agiproxy/config"

	"github.com/hashicorp/go-hclog"
)

// serve runs an App of that configuration for the test.
func serve(t *testing.T, yaml string) *App {
	t.Helper()
	cfg, err := config.Parse("test.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(Options{Config: cfg, Log: hclog.New(&hclog.LoggerOptions{Output: testWriter{t}, Level: hclog.Debug})})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		a.Close()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	return a
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", strings.TrimSpace(string(p)))
	return len(p), nil
}

// backend is a FastAGI server that sends one command and closes.
func startBackend(t *testing.T, name string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					if err != nil || line == "\n" {
						break
					}
				}
				fmt.Fprintf(c, "VERBOSE %s\n", name)
				r.ReadString('\n')
			}()
		}
	}()
	return ln.Addr().String()
}

// call plays Asterisk and returns the lines that came.
func call(t *testing.T, addr string) []string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	c.Write((&agi.Environment{Script: "welcome"}).AppendTo(nil))
	var lines []string
	for sc := bufio.NewScanner(c); sc.Scan(); {
		lines = append(lines, sc.Text())
		if sc.Text() != "failure" {
			fmt.Fprintf(c, "200 result=1\n")
		}
	}
	fmt.Fprintf(c, "HANGUP\n")
	return lines
}

func TestServesAndFailsOver(t *testing.T) {
	good := startBackend(t, "good")
	a := serve(t, fmt.Sprintf(`
listeners: [{address: "127.0.0.1:0"}]
pools:
  ivr:
    balance: round-robin
    health: {probe: none}
    backends: [{name: good, address: %q}, {name: dead, address: "127.0.0.1:1"}]
admin: {address: ""}
`, good))
	for range 20 {
		if got := call(t, a.Addr().String()); len(got) != 1 || got[0] != "VERBOSE good" {
			t.Fatalf("call: %q; want VERBOSE good", got)
		}
	}
}

func TestTellsFailure(t *testing.T) {
	a := serve(t, `
listeners: [{address: "127.0.0.1:0"}]
pools: {ivr: {health: {probe: none}, backends: [{name: dead, address: "127.0.0.1:1"}]}}
admin: {address: ""}
`)
	got := strings.Join(call(t, a.Addr().String()), "|")
	if want := "SET VARIABLE AGIPROXYSTATUS NOBACKEND|failure"; got != want {
		t.Errorf("call: %q; want %q", got, want)
	}
}
