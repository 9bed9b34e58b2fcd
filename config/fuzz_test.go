package config

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"agiproxy/agi"
)

// FuzzParse asserts that no file makes Parse panic, that what it refuses has
// faults with places in order, and that what it accepts is what Config promises.
func FuzzParse(f *testing.F) {
	for _, file := range []string{"testdata/full.yaml", filepath.FromSlash("../deploy/agiproxy.example.yaml")} {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(smallest))
	f.Add([]byte(bombOf("a%d: &a%d [%s]\n", "*a%d", 4)))
	f.Add([]byte(bombOf("a%d: &a%d {<<: [%s]}\n", "*a%d", 4)))
	for _, c := range faultCases {
		f.Add([]byte(c.file))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data)
		if err == nil {
			checkPromises(t, c)
			return
		}
		faults, ok := errors.AsType[Faults](err)
		if !ok || len(faults) == 0 || c != nil {
			t.Fatalf("Parse = %v, %v; want nothing and Faults", c, err)
		}
		for i, fault := range faults {
			if fault.Message == "" || fault.File != "f" || fault.Line < 0 || fault.Column < 0 {
				t.Errorf("a fault without place or message: %#v", fault)
			}
			if strings.ContainsAny(fault.Error(), "\n\r") {
				t.Errorf("a fault of several lines: %q", fault.Error())
			}
			if i > 0 && (fault.Line < faults[i-1].Line) {
				t.Errorf("faults out of order: %v", err)
			}
		}
	})
}

// checkPromises checks what the comments of Config and its parts say.
func checkPromises(t *testing.T, c *Config) {
	t.Helper()
	check := func(what string, ok bool) {
		t.Helper()
		if !ok {
			t.Errorf("%s, in %+v", what, c)
		}
	}
	within := func(what string, n, low, high int) {
		t.Helper()
		check(what+" is out of bounds", n >= low && n <= high)
	}
	lasting := func(what string, d, low, high time.Duration) {
		t.Helper()
		check(what+" is out of bounds", d >= low && d <= high)
	}
	oneOf := func(what, s string, words ...string) {
		t.Helper()
		check(what+" is no choice", slices.Contains(words, s))
	}
	check("no listener", len(c.Listeners) > 0)
	for i, l := range c.Listeners {
		canonical, err := listenAddress(l.Address)
		check("a listener's address is not canonical", err == nil && canonical == l.Address)
		check("nobody is allowed", len(l.Allow) > 0)
		for _, p := range l.Allow {
			check("a bad prefix", p.IsValid() && p == p.Masked() && !p.Addr().Is4In6())
		}
		for _, other := range c.Listeners[:i] {
			check("listeners overlap", !overlap(l.Address, other.Address))
		}
		within("max_sessions", l.MaxSessions, 1, maxSessions)
		within("max_header_bytes", l.MaxHeaderBytes, 1<<10, 1<<20)
		lasting("header_timeout", l.HeaderTimeout, 10*time.Millisecond, 5*time.Minute)
	}
	names := make(map[string]bool)
	check("no pool", len(c.Pools) > 0)
	for _, p := range c.Pools {
		check("a pool's name", checkName(p.Name) == nil && !names[p.Name])
		names[p.Name] = true
		oneOf("balance", p.Balance, "round-robin", "least-connections", "random", "hash", "first")
		oneOf("replay", p.Replay, "unread", "unanswered", "never")
		oneOf("on_backend_loss", p.OnBackendLoss, "failure", "resume", "close")
		within("attempts", p.Attempts, 1, 100)
		check("hash_field", p.HashField == "script" || fieldName.MatchString(p.HashField))
		check("hedge_delay is not less than connect_timeout", p.HedgeDelay >= 0 && p.HedgeDelay < p.ConnectTimeout)
		check("resume that can't", p.OnBackendLoss != "resume" || p.Attempts > 1 && p.Replay != "never")
		lasting("queue.timeout", p.Queue.Timeout, 0, time.Hour)
		within("queue.limit", p.Queue.Limit, 0, maxSessions)
		check("half a queue", (p.Queue.Timeout > 0) == (p.Queue.Limit > 0) && (p.Queue.Limit > 0 || p.Queue.Music == ""))
		check("music is no word", !strings.ContainsAny(p.Queue.Music, " \t\r\n\"\\"))
		for _, line := range p.Fallback.Commands {
			check("a command", agi.CheckCommand(line) == nil)
		}
		oneOf("then", p.Fallback.Then, "failure", "completed")
		check("completed without commands", p.Fallback.Then == "failure" || len(p.Fallback.Commands) > 0)
		within("ejection.failures", p.Ejection.Failures, 0, 1000)
		lasting("ejection.time", p.Ejection.Time, 10*time.Millisecond, p.Ejection.MaxTime)
		lasting("ejection.max_time", p.Ejection.MaxTime, p.Ejection.Time, 24*time.Hour)
		within("ejection.max_percent", p.Ejection.MaxPercent, 1, 100)
		within("panic_threshold", p.PanicThreshold, 0, 100)
		lasting("slow_start", p.SlowStart, 0, time.Hour)
		lasting("connect_timeout", p.ConnectTimeout, time.Millisecond, p.DispatchTimeout)
		lasting("first_command_timeout", p.FirstCommandTimeout, 0, 24*time.Hour)
		lasting("think_timeout", p.ThinkTimeout, 0, 24*time.Hour)
		lasting("hangup_timeout", p.HangupTimeout, 10*time.Millisecond, 24*time.Hour)
		oneOf("probe", p.Health.Probe, "agi", "tcp", "none")
		oneOf("expect", p.Health.Expect, "command", "close", "any")
		oneOf("on_down", p.Health.OnDown, "keep", "lose")
		check("no script", p.Health.Script != "" && !strings.ContainsAny(p.Health.Script, " \r\n"))
		lasting("interval", p.Health.Interval, 10*time.Millisecond, time.Hour)
		lasting("fast_interval", p.Health.FastInterval, 10*time.Millisecond, p.Health.Interval)
		lasting("timeout", p.Health.Timeout, time.Millisecond, time.Minute)
		within("rise", p.Health.Rise, 1, 100)
		within("fall", p.Health.Fall, 1, 100)
		check("no backend", len(p.Backends) > 0)
		seen, addresses := make(map[string]bool), make(map[string]bool)
		for _, b := range p.Backends {
			canonical, err := backendAddress(b.Address)
			check("a backend's address is not canonical", err == nil && canonical == b.Address)
			check("a backend's name", b.Name != "" && !seen[b.Name])
			check("an address comes twice", !addresses[b.Address])
			seen[b.Name], addresses[b.Address] = true, true
			within("weight", b.Weight, 1, 256)
			within("max_sessions", b.MaxSessions, 0, maxSessions)
			for _, l := range c.Listeners {
				check("a loop", !loopsBack(l.Address, b.Address))
			}
		}
	}
	check("no routes", len(c.Routes) > 0 || len(c.Pools) == 1)
	for _, r := range c.Routes {
		check("a route to nowhere", names[r.Pool])
		for _, m := range r.Match {
			check("a field", m.Field == "script" || m.Field == "host" || fieldName.MatchString(m.Field))
			check("a pattern", checkPattern(m.Pattern) == nil)
			if expression, ok := strings.CutPrefix(m.Pattern, "~"); ok {
				regexp.MustCompile(expression)
			}
		}
	}
	if c.Admin.Address != "" {
		canonical, err := adminAddress(c.Admin.Address)
		check("admin's address", err == nil && canonical == c.Admin.Address)
	}
	lasting("drain_timeout", c.DrainTimeout, 0, 24*time.Hour)
	within("loops", c.Loops, 0, 256)
	oneOf("level", c.Log.Level, "trace", "debug", "info", "warn", "error")
	oneOf("format", c.Log.Format, "text", "json")
}
