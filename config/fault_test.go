package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// inPool, inHealth, inBackend and inListener are files with one line of
// interest, which stands in line 4, from column 5 or 7.
func inPool(line string) string {
	return "pools:\n  ivr:\n    backends: [10.0.0.11:4573]\n    " + line + "\n"
}

// inFallback has the commands from line 6 on, in column 9.
func inFallback(commands ...string) string {
	return inPool("fallback:\n      commands:\n      " + strings.Join(commands, "\n      "))
}

func inHealth(line string) string {
	return "pools:\n  ivr:\n    health:\n      " + line + "\n    backends: [10.0.0.11:4573]\n"
}

func inBackend(line string) string {
	return "pools:\n  ivr:\n    backends:\n    - " + line + "\n"
}

func inListener(line string) string {
	return "pools: {ivr: {backends: [10.0.0.11:4573]}}\nlisteners:\n-\n    " + line + "\n"
}

// withRoutes has the pools a and b; the routes start in line 5.
func withRoutes(lines ...string) string {
	return "pools:\n  a: {backends: [10.0.0.1:4573]}\n  b: {backends: [10.0.0.2:4573]}\nroutes:\n" + strings.Join(lines, "\n") + "\n"
}

func TestFaults(t *testing.T) {
	for _, tt := range faultCases {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse("f", []byte(tt.file))
			faults, ok := errors.AsType[Faults](err)
			if !ok || c != nil {
				t.Fatalf("Parse = %v, %v; want Faults for\n%s", c, err, tt.file)
			}
			if got, want := faults.Error(), strings.Join(tt.want, "\n"); got != want {
				t.Errorf("Parse of\n%s\ngives\n%s\nwant\n%s", tt.file, got, want)
			}
		})
	}
}

var faultCases = []struct {
	name, file string
	want       []string
}{
	{"empty file", "", []string{`f:1:1: the file is empty; want at least pools, with one pool and one backend`}},
	{"only a comment", "# nothing\n", []string{`f:1:1: the file is empty; want at least pools, with one pool and one backend`}},
	{"null", "~\n", []string{`f:1:1: the file is empty; want at least pools, with one pool and one backend`}},
	{"a list at the top", "- a\n", []string{`f:1:1: want a mapping of keys and values, got a list`}},
	{"text at the top", "agiproxy\n", []string{`f:1:1: want a mapping of keys and values, got "agiproxy"`}},
	{"no pools", "loops: 1\n", []string{`f:1:1: pools: none given; want at least one, with at least one backend`}},
	{"pools are empty", "pools: {}\n", []string{`f:1:8: pools: none given; want at least one, with at least one backend`}},
	{"pools are a list", "pools: [a]\n", []string{`f:1:8: pools: want a mapping of keys and values, got a list`}},
	{"two documents", smallest + "---\n" + smallest, []string{`f:2:1: a second document begins here; want one document, without --- between its parts`}},
	{"an empty second document", smallest + "---\n", []string{`f:2:1: a second document begins here; want one document, without --- between its parts`}},
	{"a tab in the indentation", "pools:\n  ivr:\n\tattempts: 3\n", []string{`f:3:1: a tab in the indentation; YAML wants spaces`}},
	{"a tab after spaces", "pools:\n  \tivr: {}\n    x\n", []string{`f:2:3: a tab in the indentation; YAML wants spaces`}},
	{"no UTF-8", "pools:\n  ivr: \"\xe4\"\n", []string{`f:2:9: byte 0xe4 is not UTF-8; save the file as UTF-8`}},
	{"UTF-16", "\xff\xfep\x00o\x00", []string{`f:1:1: byte 0xff is not UTF-8; save the file as UTF-8`}},
	{"a control character", "pools: \x00\n", []string{`f:1:8: control character U+0000; want plain text`}},
	{"a bad dedent", "pools:\n  ivr:\n    backends:\n      - a:1\n   attempts: 3\nlog: {}\n", []string{`f:5:4: this is no YAML from here on: did not find expected key`}},
	{"an open bracket", "pools:\n  ivr:\n    backends: [a:1\n    attempts: 3\n", []string{`f:3:15: this is no YAML from here on: did not find expected ',' or ']'`}},
	{"an open quote", "pools:\n  ivr:\n    balance: \"hash\n    attempts: 3\n", []string{`f:3:14: this is no YAML from here on: found unexpected end of stream`}},
	{"a colon in a value", "pools:\n  ivr:\n    balance: a: b\n", []string{`f:3:15: this is no YAML from here on: mapping values are not allowed in this context`}},
	{"an unknown anchor", "pools:\n  ivr: *other\n", []string{`f:2:8: this is no YAML from here on: unknown anchor 'other' referenced`}},
	{"an alias to what contains it", "pools: &p\n  ivr: *p\n", []string{`f:2:8: alias *p stands for something that contains it`}},
	{"a merge of itself", "pools:\n  ivr: &p\n    <<: *p\n", []string{`f:3:9: alias *p stands for something that contains it`}},
	{"a merge of a list", inPool("<<: [1]"), []string{`f:4:10: pools.ivr.<<: want a mapping of keys and values, got "1"`}},
	{"a key that is no text", "[a, b]: c\n" + smallest, []string{`f:1:1: want a key, got a list`}},
	{"a null key", "~: c\n" + smallest, []string{`f:1:1: want a key, got a value with the tag !!null`}},
	{"a tag of its own", inPool("replay: !secret never"), []string{`f:4:13: replay: want unread, unanswered or never, got a value with the tag !secret`}},
	{"a mapping with a tag of its own", inPool("health: !x {rise: 1}"), []string{`f:4:13: health: want a mapping of keys and values, got a value with the tag !x`}},
	{"a value under a null tag", inPool("replay: !!null never"), []string{`f:4:13: replay: want unread, unanswered or never, got a value with the tag !!null`}},
	{"unknown key", inPool("atempts: 3"), []string{`f:4:5: unknown key "atempts"; want one of attempts, backends, balance, commands, connect_timeout, dispatch_timeout, ejection, fallback, first_command_timeout, hangup_timeout, hash_field, health, hedge_delay, max_sessions, on_backend_loss, panic_threshold, queue, replay, send_proxy_protocol, slow_start, think_timeout, tls; did you mean attempts?`}},
	{"unknown key far from all", smallest + "colour: blue\n", []string{`f:2:1: unknown key "colour"; want one of admin, drain_timeout, engine, listeners, log, loops, pools, routes`}},
	{"unknown key in health", inHealth("risen: 2"), []string{`f:4:7: unknown key "health.risen"; want one of expect, fall, fast_interval, interval, on_down, probe, rise, script, timeout; did you mean rise?`}},
	{"unknown key in a backend", inBackend("{address: \"10.0.0.11:4573\", wieght: 2}"), []string{`f:4:35: unknown key "wieght"; want one of address, backup, dns, exec, max_sessions, name, srv, weight, workers; did you mean weight?`}},
	{"duplicate key", inPool("backends: []"), []string{`f:4:5: duplicate key "backends"; it is in line 3 already`}},
	{"duplicate pool", "pools:\n  ivr: {backends: [10.0.0.11:4573]}\n  ivr: {backends: [10.0.0.11:4573]}\n", []string{`f:3:3: duplicate key "ivr"; it is in line 2 already`}},
	{"a pool's name with a space", "pools:\n  my ivr: {backends: [10.0.0.11:4573]}\n", []string{`f:2:3: pools: "my ivr": no name for a pool; want up to 64 letters, digits, dots, dashes and underscores`}},
	{"a pool without backends", "pools:\n  ivr:\n  night: {attempts: 2}\nroutes: [{match: {script: a}, pool: ivr}, {pool: night}]\n", []string{
		`f:2:3: pool "ivr": no backends; want at least one, such as {address: "10.0.0.11:4573"}`,
		`f:3:3: pool "night": no backends; want at least one, such as {address: "10.0.0.11:4573"}`,
	}},
	{"a pool with an empty list of backends", "pools:\n  ivr: {backends: []}\n", []string{`f:2:3: pool "ivr": no backends; want at least one, such as {address: "10.0.0.11:4573"}`}},
	{"a pool that is text", "pools:\n  ivr: 10.0.0.11:4573\n", []string{`f:2:8: pools.ivr: want a mapping of keys and values, got "10.0.0.11:4573"`}},
	{"unknown choice", inPool("balance: leastconn"), []string{`f:4:14: balance: "leastconn" is unknown; want round-robin, least-connections, random, hash or first; did you mean least-connections?`}},
	{"unknown choice close to one", inPool("replay: unansward"), []string{`f:4:13: replay: "unansward" is unknown; want unread, unanswered or never; did you mean unanswered?`}},
	{"a list where a word should be", inPool("replay: [never]"), []string{`f:4:13: replay: want unread, unanswered or never, got a list`}},
	{"a mapping where a number should be", inPool("attempts: {max: 3}"), []string{`f:4:15: attempts: want a whole number from 1 to 100, got a mapping`}},
	{"a number too small", inPool("attempts: 0"), []string{`f:4:15: attempts: 0 is out of bounds; want a whole number from 1 to 100`}},
	{"a number too large", inPool("attempts: 99999999999999999999999"), []string{`f:4:15: attempts: 99999999999999999999999 is out of bounds; want a whole number from 1 to 100`}},
	{"a number in quotes", inPool("attempts: \"3\""), []string{`f:4:15: attempts: "3" is text; want a whole number from 1 to 100, without quotes`}},
	{"a number that is none", inPool("attempts: three"), []string{`f:4:15: attempts: "three" is no whole number; want one from 1 to 100`}},
	{"a fraction", inPool("attempts: 1.5"), []string{`f:4:15: attempts: "1.5" is no whole number; want one from 1 to 100`}},
	{"an octal number", inPool("attempts: 010"), []string{`f:4:15: attempts: "010" is no whole number; want one from 1 to 100`}},
	{"a hexadecimal number", inPool("attempts: 0x10"), []string{`f:4:15: attempts: "0x10" is no whole number; want one from 1 to 100`}},
	{"no duration", inPool("connect_timeout: soon"), []string{`f:4:22: connect_timeout: "soon" is no duration; want a number with ms, s, m or h, such as 5s or 250ms`}},
	{"a unit that is unknown", inPool("connect_timeout: 1d"), []string{`f:4:22: connect_timeout: "1d" is no duration; want a number with ms, s, m or h, such as 5s or 250ms`}},
	{"a duration without its unit", inPool("connect_timeout: 5"), []string{`f:4:22: connect_timeout: 5 lacks its unit; want a duration such as 5s or 250ms`}},
	{"a duration too short", inPool("connect_timeout: 0s"), []string{`f:4:22: connect_timeout: 0s is out of bounds; want 1ms to 1m`}},
	{"a duration too long", inPool("connect_timeout: 61s"), []string{`f:4:22: connect_timeout: 61s is out of bounds; want 1ms to 1m`}},
	{"a negative duration", inPool("think_timeout: -1s"), []string{`f:4:20: think_timeout: -1s is out of bounds; want 0s, or 10ms to 24h`}},
	{"less dispatch_timeout than connect_timeout", inPool("dispatch_timeout: 500ms"), []string{`f:4:23: dispatch_timeout: 500ms is less than connect_timeout, 1s`}},
	{"more connect_timeout than dispatch_timeout", inPool("connect_timeout: 30s"), []string{`f:4:22: dispatch_timeout: 20s is less than connect_timeout, 30s`}},
	{"no size", inListener("max_header_bytes: 64KB"), []string{`f:4:23: max_header_bytes: "64KB" is no size; want bytes, or a whole number with KiB or MiB, such as 64KiB`}},
	{"a size too small", inListener("max_header_bytes: 100"), []string{`f:4:23: max_header_bytes: 100 is out of bounds; want 1KiB to 1MiB`}},
	{"a size too large", inListener("max_header_bytes: 4095MiB"), []string{`f:4:23: max_header_bytes: 4095MiB is out of bounds; want 1KiB to 1MiB`}},
	{"no boolean", inBackend("{address: \"10.0.0.11:4573\", backup: yes}"), []string{`f:4:43: backup: "yes" is neither true nor false`}},
	{"fast_interval over interval", inPool("health: {interval: 1s, fast_interval: 2s, timeout: 3s}"), []string{`f:4:43: health.fast_interval: 2s is more than health.interval, 1s`}},
	{"health over nothing judges nothing", inPool("health: {interval: 1x, fast_interval: 5s}"), []string{`f:4:24: health.interval: "1x" is no duration; want a number with ms, s, m or h, such as 5s or 250ms`}},
	{"a probe's script with a space", inHealth("script: my probe"), []string{`f:4:15: health.script: "my probe": spaces or control characters; want a plain name, such as agiproxy-probe`}},
	{"a probe's script that is empty", inHealth("script: \"\""), []string{`f:4:15: health.script: "": the name is empty; want one that the backend knows, or agiproxy-probe`}},
	{"rise out of bounds", inHealth("rise: 101"), []string{`f:4:13: health.rise: 101 is out of bounds; want a whole number from 1 to 100`}},
	{"weight 0", inBackend("{address: \"10.0.0.11:4573\", weight: 0}"), []string{`f:4:43: weight: a backend of weight 0 would never be chosen; want 1 to 256, or remove the backend: on reload its sessions drain`}},
	{"a weight too large", inBackend("{address: \"10.0.0.11:4573\", weight: 257}"), []string{`f:4:43: weight: 257 is out of bounds; want a whole number from 1 to 256`}},
	{"a backend without address", inBackend("{name: a}"), []string{`f:4:7: backends: a backend without an address; want host:port, such as 10.0.0.11:4573`}},
	{"a backend that is a list", inBackend("[a]"), []string{`f:4:7: backends: want a mapping of keys and values, got a list`}},
	{"an empty backend", inBackend(""), []string{`f:4:6: backends: an empty entry`}},
	{"a backend without port", inBackend("10.0.0.11"), []string{`f:4:7: backends: "10.0.0.11": the port is missing; want host:port`}},
	{"a backend without host", inBackend("\":4573\""), []string{`f:4:7: backends: ":4573": the host is missing; want host:port, such as 10.0.0.11:4573`}},
	{"a backend at port 0", inBackend("10.0.0.11:0"), []string{`f:4:7: backends: "10.0.0.11:0": nothing can be reached at port 0; want 1 to 65535`}},
	{"a backend at a port's name", inBackend("10.0.0.11:fastagi"), []string{`f:4:7: backends: "10.0.0.11:fastagi": the port "fastagi" is wrong; want a number from 1 to 65535`}},
	{"a backend at port 65536", inBackend("10.0.0.11:65536"), []string{`f:4:7: backends: "10.0.0.11:65536": the port "65536" is wrong; want a number from 1 to 65535`}},
	{"a backend with an impossible IP address", inBackend("10.0.0.300:4573"), []string{`f:4:7: backends: "10.0.0.300:4573": "10.0.0.300" is neither an IP address nor a host's name`}},
	{"a backend at the unspecified address", inBackend("0.0.0.0:4573"), []string{`f:4:7: backends: "0.0.0.0:4573": nothing can be reached at the unspecified address; want the server's own`}},
	{"a backend with a space in its host", inBackend("ivr 1:4573"), []string{`f:4:7: backends: "ivr 1:4573": "ivr 1" is no host's name; want an IP address or a name of letters, digits, dashes and dots`}},
	{"a backend with IPv6 without brackets", inBackend("\"2001:db8::1\""), []string{`f:4:7: backends: "2001:db8::1": the port is missing; want an IPv6 address in brackets and a port, such as [2001:db8::1]:4573`}},
	{"a backend with IPv6 without brackets, whose end may be a port", inBackend("\"fe80::1:4573\""), []string{`f:4:7: backends: "fe80::1:4573": the brackets are missing, or the port too; want [fe80::1]:4573, or [fe80::1:4573]:4573`}},
	{"a backend with a scheme and no port", inBackend("\"agi://ivr1\""), []string{`f:4:7: backends: "agi://ivr1": "agi://" does not belong here; want host:port alone, such as ivr1:4573`}},
	{"a backend with a scheme", inBackend("\"agi://ivr1:4573/welcome\""), []string{`f:4:7: backends: "agi://ivr1:4573/welcome": "agi://" does not belong here; want host:port alone, such as ivr1:4573`}},
	{"a backend with IPv6, a port and no brackets", inBackend("\"2001:db8::1:zz\""), []string{`f:4:7: backends: "2001:db8::1:zz": too many colons; want host:port, an IPv6 address in brackets: [2001:db8::1]:4573`}},
	{"a backend with IPv4 in brackets", inBackend("\"[10.0.0.1]:4573\""), []string{`f:4:7: backends: "[10.0.0.1]:4573": only an IPv6 address stands in brackets`}},
	{"a backend with a name in brackets", inBackend("\"[ivr]:4573\""), []string{`f:4:7: backends: "[ivr]:4573": "ivr" is no IPv6 address`}},
	{"a backend's name with a space", inBackend("{name: ivr 1, address: \"10.0.0.11:4573\"}"), []string{`f:4:14: name: "ivr 1": no name for a backend; want letters, digits, dots, dashes, underscores and colons`}},
	{"a backend's address twice", inBackend("ivr1:4573\n    - {name: other, address: \"IVR1:4573\"}"), []string{`f:5:30: pool "ivr": the address ivr1:4573 is in line 4 already`}},
	{"a backend's name twice", inBackend("{name: a, address: \"ivr1:4573\"}\n    - {name: a, address: \"ivr2:4573\"}"), []string{`f:5:26: pool "ivr": the name a is in line 4 already`}},
	{"a backend that is the listener", inBackend("127.0.0.1:4577"), []string{`f:4:7: pool "ivr": 127.0.0.1:4577 is agiproxy's own listener, :4577; sessions would go round in a loop`}},
	{"a backend that is the listener by name", inBackend("localhost:4577"), []string{`f:4:7: pool "ivr": localhost:4577 is agiproxy's own listener, :4577; sessions would go round in a loop`}},
	{"a backend that is the listener's own address", "listeners: [{address: \"10.0.0.1:4577\"}]\npools: {ivr: {backends: [10.0.0.1:4577]}}\n", []string{`f:2:26: pool "ivr": 10.0.0.1:4577 is agiproxy's own listener, 10.0.0.1:4577; sessions would go round in a loop`}},
	{"a listener without port", inListener("address: 0.0.0.0"), []string{`f:4:14: address: "0.0.0.0": the port is missing; want host:port`}},
	{"a listener that is a port", inListener("address: 4577"), []string{`f:4:14: address: "4577": the port is missing; want host:port`}},
	{"an empty list of listeners", smallest + "listeners: []\n", []string{`f:2:12: listeners: the list is empty; want at least one, or no such key for the default one`}},
	{"two equal listeners", smallest + "listeners:\n- address: \":4577\"\n- address: 127.0.0.1:4577\n", []string{`f:4:12: address: "127.0.0.1:4577" is taken by the listener in line 3`}},
	{"two default listeners", smallest + "listeners:\n- {}\n- max_sessions: 5\n", []string{`f:4:3: address: ":4577" is taken by the listener in line 3`}},
	{"a listener on the admin's address", smallest + "listeners: [{address: \":9577\"}]\n", []string{`f:2:23: address: ":9577" is taken by admin.address, 127.0.0.1:9577`}},
	{"nobody allowed", inListener("allow: []"), []string{`f:4:12: allow: the list is empty, so that nobody could connect; want networks such as 10.0.0.0/8, private or any`}},
	{"a network that is none", inListener("allow: [10.0.0.0/33, privat]"), []string{
		`f:4:13: allow: "10.0.0.0/33": no such network; want a CIDR such as 10.0.0.0/8, an address, private or any`,
		`f:4:26: allow: "privat": no such network; want a CIDR such as 10.0.0.0/8, an address, private or any`,
	}},
	{"a network with host bits", inListener("allow: [10.0.0.5/8]"), []string{`f:4:13: allow: "10.0.0.5/8": this is an address inside of a network; want the network 10.0.0.0/8 or the address 10.0.0.5`}},
	{"a network of mapped addresses", inListener("allow: [\"::ffff:10.0.0.0/104\"]"), []string{`f:4:13: allow: "::ffff:10.0.0.0/104": an IPv4 network in IPv6's clothes would match nobody; want it as IPv4`}},
	{"an address with a zone", inListener("allow: [\"fe80::1%eth0\"]"), []string{`f:4:13: allow: "fe80::1%eth0": an address with a zone; want it without, fe80::1`}},
	{"allow without a list", inListener("allow: private"), []string{`f:4:12: allow: want a list, got "private"`}},
	{"max_sessions 0", inListener("max_sessions: 0"), []string{`f:4:19: max_sessions: 0 is out of bounds; want a whole number from 1 to 1000000`}},
	{"several pools and no routes", "pools:\n  a: {backends: [10.0.0.1:4573]}\n  b: {backends: [10.0.0.2:4573]}\n", []string{`f:2:3: routes: none given, but 2 pools; want routes that say which sessions go where`}},
	{"a route to nowhere", withRoutes("- {match: {script: a}, pool: c}", "- pool: b"), []string{`f:5:30: pool: "c" does not exist; want one of a, b`}},
	{"a route without pool", withRoutes("- match: {script: a}", "- pool: b"), []string{`f:5:3: routes: a route without its pool; want pool: NAME`}},
	{"a route with an empty pool", withRoutes("- {match: {script: a}, pool: \"\"}", "- pool: b"), []string{`f:5:3: routes: a route without its pool; want pool: NAME`}},
	{"a pool without route", withRoutes("- pool: b"), []string{`f:2:3: pool "a": no route leads to it`}},
	{"a route behind one that always matches", withRoutes("- pool: a", "- match: {script: x}", "  pool: b"), []string{`f:6:3: routes: this one is never reached: the one in line 5 takes all that it matches`}},
	{"a route behind a wider one", withRoutes("- {match: {script: x}, pool: a}", "- {match: {host: y, script: x}, pool: b}"), []string{`f:6:3: routes: this one is never reached: the one in line 5 takes all that it matches`}},
	{"a bad match says nothing of later routes", withRoutes("- {match: {scrip: x}, pool: a}", "- {pool: b}"), []string{`f:5:12: unknown key "match.scrip"; want script, host, or a header field such as agi_context`}},
	{"a match on an unknown field", withRoutes("- {match: {context: x}, pool: a}", "- {pool: b}"), []string{`f:5:12: unknown key "match.context"; want script, host, or a header field such as agi_context`}},
	{"a match on a field in capitals", withRoutes("- {match: {agi_Context: x}, pool: a}", "- {pool: b}"), []string{`f:5:12: unknown key "match.agi_Context"; want script, host, or a header field such as agi_context`}},
	{"a match without pattern", withRoutes("- {match: {script: ~}, pool: a}", "- {pool: b}"), []string{`f:5:20: match.script: no pattern; want a glob, or a regular expression after ~ (a ~ alone is YAML's null)`}},
	{"a bad regular expression", withRoutes("- {match: {script: \"~a(b\"}, pool: a}", "- {pool: b}"), []string{`f:5:20: match.script: "~a(b": missing closing ): "a(b"`}},
	{"a bad regular expression of two lines", withRoutes("- {match: {script: \"~(\\n\"}, pool: a}", "- {pool: b}"), []string{`f:5:20: match.script: "~(\n": missing closing ): "(\n"`}},
	{"a pattern too long", withRoutes("- {match: {script: "+strings.Repeat("x", 1001)+"}, pool: a}", "- {pool: b}"), []string{`f:5:20: match.script: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…": the pattern is too long; want at most 1000 bytes`}},
	{"a long number", inPool("attempts: " + strings.Repeat("9", 100)), []string{`f:4:15: attempts: 999999999999999999999999999999999999999999999999999999999999… is out of bounds; want a whole number from 1 to 100`}},
	{"a bad glob", withRoutes("- {match: {script: \"a[b\"}, pool: a}", "- {pool: b}"), []string{`f:5:20: match.script: "a[b": syntax error in pattern`}},
	{"a glob that ends in a backslash", withRoutes("- {match: {script: 'a*\\'}, pool: a}", "- {pool: b}"), []string{`f:5:20: match.script: "a*\\": syntax error in pattern`}},
	{"a match that is text", withRoutes("- {match: \"x\", pool: a}", "- {pool: b}"), []string{`f:5:11: match: want a mapping of keys and values, got "x"`}},
	{"admin on every address", smallest + "admin: {address: \":9577\"}\n", []string{`f:2:18: admin.address: ":9577" is open to others; want a loopback address such as 127.0.0.1:9577, or web_config_file with TLS and users`}},
	{"admin on another host", smallest + "admin: {address: 10.0.0.1:9577}\n", []string{`f:2:18: admin.address: "10.0.0.1:9577" is open to others; want a loopback address such as 127.0.0.1:9577, or web_config_file with TLS and users`}},
	{"unknown level and format", smallest + "log: {level: warning, format: jason}\n", []string{
		`f:2:14: log.level: "warning" is unknown; want trace, debug, info, warn or error; did you mean warn?`,
		`f:2:31: log.format: "jason" is unknown; want text or json; did you mean json?`,
	}},
	{"loops out of bounds", smallest + "loops: 1000\n", []string{`f:2:8: loops: 1000 is out of bounds; want a whole number from 0 to 256`}},
	{"a field to hash that is none", inPool("balance: hash\n    hash_field: callerid"), []string{`f:5:17: hash_field: "callerid": no such field; want script, or a header field such as agi_uniqueid`}},
	{"a field to hash that is empty", inPool("balance: hash\n    hash_field: \"\""), []string{`f:5:17: hash_field: "": no such field; want script, or a header field such as agi_uniqueid`}},
	{"a field to hash and no hash", inPool("hash_field: agi_callerid"), []string{`f:4:17: hash_field: nobody looks at it under balance: least-connections; want balance: hash, or no such key`}},
	{"a field to hash under a bad policy", inPool("balance: maglev\n    hash_field: script"), []string{`f:4:14: balance: "maglev" is unknown; want round-robin, least-connections, random, hash or first`}},
	{"a hedge_delay as long as connect_timeout", inPool("connect_timeout: 200ms\n    hedge_delay: 200ms"), []string{`f:5:18: hedge_delay: 200ms is not less than connect_timeout, 200ms; want less, or 0 for never`}},
	{"a hedge_delay beyond the default connect_timeout", inPool("hedge_delay: 2s"), []string{`f:4:18: hedge_delay: 2s is not less than connect_timeout, 1s; want less, or 0 for never`}},
	{"a hedge_delay too short", inPool("hedge_delay: 1ms"), []string{`f:4:18: hedge_delay: 1ms is out of bounds; want 0s, or 10ms to 1m`}},
	{"a hedge_delay beside a bad connect_timeout", inPool("connect_timeout: 0\n    hedge_delay: 30s"), []string{`f:4:22: connect_timeout: 0 is out of bounds; want 1ms to 1m`}},
	{"a bad hedge_delay beside a short connect_timeout", inPool("connect_timeout: 100ms\n    hedge_delay: 1"), []string{`f:5:18: hedge_delay: 1 lacks its unit; want a duration such as 5s or 250ms`}},
	{"resume with one attempt", inPool("attempts: 1\n    on_backend_loss: resume"), []string{`f:5:22: on_backend_loss: resume takes another backend, which attempts: 1 forbids; want attempts: 2 or more`}},
	{"resume without replay", inPool("replay: never\n    on_backend_loss: resume"), []string{`f:5:22: on_backend_loss: resume replays the header, which replay: never forbids; want unread or unanswered`}},
	{"resume with attempts out of bounds", inPool("attempts: 0\n    on_backend_loss: resume"), []string{`f:4:15: attempts: 0 is out of bounds; want a whole number from 1 to 100`}},
	{"a queue without limit", inPool("queue: {timeout: 30s}"), []string{`f:4:22: queue.timeout: without queue.limit nobody waits; want both, or neither`}},
	{"a queue of limit 0", inPool("queue: {timeout: 30s, limit: 0}"), []string{`f:4:22: queue.timeout: without queue.limit nobody waits; want both, or neither`}},
	{"a queue without timeout", inPool("queue: {limit: 10}"), []string{`f:4:20: queue.limit: without queue.timeout nobody waits; want both, or neither`}},
	{"music without queue", inPool("queue: {music: default}"), []string{`f:4:20: queue.music: without queue.timeout and limit nobody waits to hear it`}},
	{"a class of music that is two words", inPool("queue: {timeout: 5s, limit: 10, music: my music}"), []string{`f:4:44: queue.music: "my music": blanks, quotes, backslashes or control characters; want a plain word, such as default`}},
	{"a class of music in quotes", inPool("queue: {timeout: 5s, limit: 10, music: '\"a\"'}"), []string{`f:4:44: queue.music: "\"a\"": blanks, quotes, backslashes or control characters; want a plain word, such as default`}},
	{"a class of music with a backslash", inPool("queue: {timeout: 5s, limit: 10, music: 'a\\b'}"), []string{`f:4:44: queue.music: "a\\b": blanks, quotes, backslashes or control characters; want a plain word, such as default`}},
	{"a class of music too long", inPool("queue: {timeout: 5s, limit: 10, music: " + strings.Repeat("x", 80) + "}"), []string{`f:4:44: queue.music: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…": the name is too long; want at most 79 bytes`}},
	{"a queue out of bounds", inPool("queue: {timeout: 2h, limit: 1000001, music: x}"), []string{
		`f:4:22: queue.timeout: 2h is out of bounds; want 0s, or 10ms to 1h`,
		`f:4:33: queue.limit: 1000001 is out of bounds; want a whole number from 0 to 1000000`,
	}},
	{"an unknown key of the queue", inPool("queue: {time: 30s}"), []string{`f:4:13: unknown key "queue.time"; want one of limit, music, timeout; did you mean timeout?`}},
	{"a command that is misspelt", inFallback("- EXEX Playback sorry", "- stream fil sorry \"\"", "- SET VAR X 1", "- WAIT FOR DIGITS 100"), []string{
		`f:6:9: fallback.commands: "EXEX Playback sorry": no command that Asterisk knows; did you mean EXEC?`,
		`f:7:9: fallback.commands: "stream fil sorry \"\"": no command that Asterisk knows; did you mean STREAM FILE?`,
		`f:8:9: fallback.commands: "SET VAR X 1": no command that Asterisk knows; did you mean SET VARIABLE?`,
		`f:9:9: fallback.commands: "WAIT FOR DIGITS 100": no command that Asterisk knows; did you mean WAIT FOR DIGIT?`,
	}},
	{"an application without EXEC", inFallback("- Playback(sorry)", "- \"\""), []string{
		`f:6:9: fallback.commands: "Playback(sorry)": no command that Asterisk knows; want one of AGI's own, with the dialplan's applications behind EXEC, such as EXEC Playback sorry`,
		`f:7:9: fallback.commands: "": no command that Asterisk knows; want one of AGI's own, with the dialplan's applications behind EXEC, such as EXEC Playback sorry`,
	}},
	{"commands that Asterisk would not run", inFallback("- failure", "- \"ANSWER\\nHANGUP\"", "- NOOP "+strings.Repeat("x", 8186), "- NOOP"+strings.Repeat(" x", 127), "- EXEC Playback \"sorry", "- SET VARIABLE X two words"), []string{
		`f:6:9: fallback.commands: "failure": this ends the session with AGISTATUS=FAILURE and is no command`,
		`f:7:9: fallback.commands: "ANSWER\nHANGUP": a line break or NUL inside; one command is one line`,
		`f:8:9: fallback.commands: "NOOP xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…": too long; Asterisk takes at most 8190 bytes`,
		`f:9:9: fallback.commands: "NOOP x x x x x x x x x x x x x x x x x x x x x x x x x x x x…": 128 words are too many; Asterisk takes at most 127`,
		`f:10:9: fallback.commands: "EXEC Playback \"sorry": a quote that isn't closed`,
		`f:11:9: fallback.commands: "SET VARIABLE X two words": SET VARIABLE has 3 arguments; want 2 at most, with quotes around one that has blanks`,
	}},
	{"a command behind a hangup", inFallback("- ANSWER", "- hangup", "- NOOP"), []string{`f:8:9: fallback.commands: "NOOP": nothing runs after HANGUP`}},
	{"rules for no command", inPool("commands:\n      deny:\n      - System\n      - EXE System\n      - SET VARIABEL X\n      - <html>\n      allow: [SET VAR*, SETT*]"), []string{
		`f:6:9: commands.deny: "System": no command that Asterisk knows; want one of AGI's own, with the dialplan's applications behind EXEC, such as EXEC Playback sorry`,
		`f:7:9: commands.deny: "EXE System": no command that Asterisk knows; did you mean EXEC?`,
		`f:8:9: commands.deny: "SET VARIABEL X": no command that Asterisk knows; did you mean SET VARIABLE?`,
		`f:9:9: commands.deny: "<html>": no command that Asterisk knows; want one of AGI's own, with the dialplan's applications behind EXEC, such as EXEC Playback sorry`,
		`f:10:25: commands.allow: "SETT*": no command that Asterisk knows; want one of AGI's own, with the dialplan's applications behind EXEC, such as EXEC Playback sorry`,
	}},
	{"rules that nobody can mean", inPool("commands:\n      deny:\n      - EXEC *\n      - EXEC Sys*em\n      - ''\n      - EXEC a b c d e f g h\n      - \"EXEC a\\nb\"\n      - [EXEC, System]"), []string{
		`f:6:9: commands.deny: "EXEC *": a * alone; a rule matches whatever follows its words, and * ends a word that may go on, such as SHELL(*`,
		`f:7:9: commands.deny: "EXEC Sys*em": a * that isn't at the end; it ends a last word that may go on, such as SHELL(*`,
		`f:8:9: commands.deny: "": no word; want the first words of an AGI command, such as EXEC System`,
		`f:9:9: commands.deny: "EXEC a b c d e f g h": 9 words are too many; want at most 8`,
		`f:10:9: commands.deny: "EXEC a\nb": a line break, or more than 200 bytes; want the first words of an AGI command, such as EXEC System`,
		`f:11:9: commands.deny: want the first words of an AGI command, such as EXEC System, got a list`,
	}},
	{"a line that is too long or too short", inPool("commands: {max_line: 8192}"), []string{`f:4:26: commands.max_line: 8192 is out of bounds; want a whole number from 512 to 8191`}},
	{"a fallback that is longer than a line may be", inPool("commands: {max_line: 512}\n    fallback: {commands: [NOOP, NOOP " + strings.Repeat("x", 507) + "]}"), []string{
		`f:5:15: fallback.commands: one is of 512 bytes; commands.max_line allows 511`,
	}},
	{"a command that is a mapping", inFallback("- EXEC: Playback"), []string{`f:6:9: fallback.commands: want an AGI command such as EXEC Playback sorry, got a mapping`}},
	{"a list of lists", inFallback("- [ANSWER, HANGUP]"), []string{`f:6:9: fallback.commands: want an AGI command such as EXEC Playback sorry, got a list`}},
	{"an empty command", inFallback("-"), []string{`f:6:8: fallback.commands: an empty entry`}},
	{"commands without a list", inPool("fallback: {commands: ANSWER}"), []string{`f:4:26: fallback.commands: want a list, got "ANSWER"`}},
	{"too many commands", inFallback(slices.Repeat([]string{"- NOOP"}, 101)...), []string{`f:106:9: fallback.commands: 101 entries are too many; want at most 100`}},
	{"completed without commands", inPool("fallback: {then: completed}"), []string{`f:4:22: fallback.then: without commands, completed would hide from the dialplan that nothing served the call; want commands, or failure`}},
	{"completed with an empty list", inPool("fallback: {then: completed, commands: []}"), []string{`f:4:22: fallback.then: without commands, completed would hide from the dialplan that nothing served the call; want commands, or failure`}},
	{"completed with a bad command", inPool("fallback: {then: completed, commands: [DIAL]}"), []string{`f:4:44: fallback.commands: "DIAL": no command that Asterisk knows; want one of AGI's own, with the dialplan's applications behind EXEC, such as EXEC Playback sorry`}},
	{"an end that is unknown", inPool("fallback: {then: success, commands: [ANSWER]}"), []string{`f:4:22: fallback.then: "success" is unknown; want failure or completed`}},
	{"ejection out of bounds", inPool("ejection: {failures: 1001, time: 0s, max_time: 25h, max_percent: 0}"), []string{
		`f:4:26: ejection.failures: 1001 is out of bounds; want a whole number from 0 to 1000`,
		`f:4:38: ejection.time: 0s is out of bounds; want 10ms to 24h`,
		`f:4:52: ejection.max_time: 25h is out of bounds; want 10ms to 24h`,
		`f:4:70: ejection.max_percent: 0 is out of bounds; want a whole number from 1 to 100`,
	}},
	{"more than all ejected", inPool("ejection: {max_percent: 101}"), []string{`f:4:29: ejection.max_percent: 101 is out of bounds; want a whole number from 1 to 100`}},
	{"ejection's max_time below its time", inPool("ejection: {time: 1m, max_time: 30s}"), []string{`f:4:36: ejection.max_time: 30s is less than ejection.time, 1m`}},
	{"ejection's max_time below the default time", inPool("ejection: {max_time: 5s}"), []string{`f:4:26: ejection.max_time: 5s is less than ejection.time, 10s`}},
	{"a panic_threshold above 100", inPool("panic_threshold: 101"), []string{`f:4:22: panic_threshold: 101 is out of bounds; want a whole number from 0 to 100`}},
	{"a panic_threshold in percent", inPool("panic_threshold: 50%"), []string{`f:4:22: panic_threshold: "50%" is no whole number; want one from 0 to 100`}},
	{"a slow_start without unit", inPool("slow_start: 30"), []string{`f:4:17: slow_start: 30 lacks its unit; want a duration such as 5s or 250ms`}},
	{"a slow_start too long", inPool("slow_start: 2h"), []string{`f:4:17: slow_start: 2h is out of bounds; want 0s, or 10ms to 1h`}},
	{"TLS to backends with an unknown key", inPool("tls: {ca_file: ca.pem, key: k}"), []string{
		`f:4:28: unknown key "tls.key"; want one of ca_file, cert_file, key_file, server_name`,
	}},
	{"whose connections have a PROXY header is to be said", inListener("accept_proxy_protocol: true"), []string{`f:4:28: accept_proxy_protocol: want a list of the networks whose connections begin with a PROXY header, such as [10.0.0.2], or false; got "true"`}},
	{"nobody has PROXY headers is false", inListener("accept_proxy_protocol: []"), []string{`f:4:28: accept_proxy_protocol: the list is empty; want networks such as 10.0.0.2, or false`}},
	{"a proxy's network is wrong", inListener("accept_proxy_protocol: [10.0.0.1/8]"), []string{`f:4:29: accept_proxy_protocol: "10.0.0.1/8": this is an address inside of a network; want the network 10.0.0.0/8 or the address 10.0.0.1`}},
	{"a rate is a number", inListener("rate: {sessions_per_second: fast}"), []string{`f:4:33: rate.sessions_per_second: "fast" is no number; want one such as 10 or 0.5`}},
	{"a rate in quotes", inListener("rate: {sessions_per_second: \"5\"}"), []string{`f:4:33: rate.sessions_per_second: "5" is no number; want one such as 10 or 0.5`}},
	{"a rate that is none", inListener("rate: {sessions_per_second: .nan}"), []string{`f:4:33: rate.sessions_per_second: ".nan" is no number; want one such as 10 or 0.5`}},
	{"a rate below zero", inListener("rate: {sessions_per_second: -1}"), []string{`f:4:33: rate.sessions_per_second: -1 is out of bounds; want 0, or 0.001 to 1000000`}},
	{"a rate that never lets anybody in", inListener("rate: {sessions_per_second: 0.0001}"), []string{`f:4:33: rate.sessions_per_second: 0.0001 is out of bounds; want 0, or 0.001 to 1000000`}},
	{"a burst without a rate", inListener("rate: {burst: 5}"), []string{`f:4:19: rate.burst: without rate.sessions_per_second nothing is limited; want both, or neither`}},
	{"TLS to backends with half a certificate", inPool("tls: {cert_file: c.pem}"), []string{`f:4:22: tls.cert_file: no key_file for it; want both, or neither`}},
	{"TLS to backends with the other half", inPool("tls: {key_file: k.pem}"), []string{`f:4:21: tls.key_file: no cert_file for it; want both, or neither`}},
	{"TLS to backends that is no mapping", inPool("tls: true"), []string{`f:4:10: tls: want a mapping of keys and values, got "true"`}},
	{"a server_name with a port", inPool("tls: {server_name: \"ivr.example.com:4573\", ca_file: ''}"), []string{
		`f:4:24: tls.server_name: "ivr.example.com:4573": not a name; want one such as ivr.example.com, without a port`,
		`f:4:57: tls.ca_file: "": no path; want one, or no such key`,
	}},
	{"TLS from Asterisk without a key", inListener("tls: {cert_file: c.pem}"), []string{`f:4:10: tls: no key_file; want both cert_file and key_file, or no tls for plain TCP`}},
	{"TLS from Asterisk with nothing", inListener("tls: {}"), []string{
		`f:4:10: tls: no cert_file; want both cert_file and key_file, or no tls for plain TCP`,
		`f:4:10: tls: no key_file; want both cert_file and key_file, or no tls for plain TCP`,
	}},
	{"SRV names are not there yet", inBackend("{srv: _agi._tcp.ivr.example.com}"), []string{`f:4:13: srv is not supported yet; want address: HOST:PORT instead`}},
	{"DNS names are not there yet", inBackend("{dns: \"ivr.example.com:4573\"}"), []string{`f:4:13: dns is not supported yet; want address: HOST:PORT instead`}},
	{"local programs are not there yet", inBackend("{exec: [/bin/agi], workers: 4, max_sessions: 50}"), []string{
		`f:4:14: exec is not supported yet; want address: HOST:PORT instead`,
		`f:4:35: workers is not supported yet; leave it out`,
	}},
	{"profiling that is an address", smallest + "admin: {profiling: \"127.0.0.1:6060\"}\n", []string{`f:2:20: admin.profiling: "127.0.0.1:6060" is neither true nor false`}},
	{"a host with a port", smallest + "admin: {hosts: [\"proxy1:9577\"]}\n", []string{`f:2:17: admin.hosts: "proxy1:9577": no name of a machine; want one such as proxy1.example.org, without port or path`}},
	{"a host that is an address with a path", smallest + "admin: {hosts: [\"http://proxy1/\"]}\n", []string{`f:2:17: admin.hosts: "http://proxy1/": no name of a machine; want one such as proxy1.example.org, without port or path`}},
	{"hosts that are no list", smallest + "admin: {hosts: proxy1}\n", []string{`f:2:16: admin.hosts: want a list, got "proxy1"`}},
	{"admin on every address with a bad file", smallest + "admin: {address: \":9577\", web_config_file: [x]}\n", []string{`f:2:44: admin.web_config_file: want a file's path, got a list`}},
	{"the admin on the default listener's address", smallest + "admin: {address: \"127.0.0.1:4577\"}\n", []string{`f:2:8: address: ":4577" is taken by admin.address, 127.0.0.1:4577`}},
	{"a listener that is text", smallest + "listeners: [\":4577\"]\n", []string{`f:2:13: listeners: want a mapping of keys and values, got ":4577"`}},
	{"a route that is text", withRoutes("- a"), []string{`f:5:3: routes: want a mapping of keys and values, got "a"`}},
	{"all faults at once", inPool("attempts: 0\n    replay: x\n    foo: 1"), []string{
		`f:4:15: attempts: 0 is out of bounds; want a whole number from 1 to 100`,
		`f:5:13: replay: "x" is unknown; want unread, unanswered or never`,
		`f:6:5: unknown key "foo"; want one of attempts, backends, balance, commands, connect_timeout, dispatch_timeout, ejection, fallback, first_command_timeout, hangup_timeout, hash_field, health, hedge_delay, max_sessions, on_backend_loss, panic_threshold, queue, replay, send_proxy_protocol, slow_start, think_timeout, tls`,
	}},
	{"a fault that two aliases lead to", "pools:\n  a: &a {backends: [10.0.0.1:4573], attempts: 0}\n  b: *a\nroutes: [{match: {script: x}, pool: a}, {pool: b}]\n", []string{`f:2:47: attempts: 0 is out of bounds; want a whole number from 1 to 100`}},
	{"too many listeners", smallest + "listeners: [" + strings.Repeat("{},", 65) + "]\n", []string{`f:2:205: listeners: 65 entries are too many; want at most 64`}},
}

func TestFaultsComeByPlace(t *testing.T) {
	_, err := Parse("f", []byte("log: {level: loud}\nroutes: [{pool: b}]\npools: {a: {backends: [x]}}\nloops: -1\nlisteners: [{allow: [nobody]}]\n"))
	faults, _ := errors.AsType[Faults](err)
	if len(faults) != 5 || !slices.IsSortedFunc(faults, func(a, b Fault) int { return a.Line - b.Line }) {
		t.Errorf("faults:\n%v\nwant five, one in each line, in order", faults)
	}
}

// The search for the place ends early in a large file, and must not claim more
// than it has found then.
func TestSyntaxFaultsOfLargeFiles(t *testing.T) {
	filler := strings.Repeat("a: [b, c, d]\n", 3_000)
	for _, tt := range []struct{ name, file, want string }{
		{"at the end", filler + "  x: ]]\n", "f:3001:3: this is no YAML from here on"},
		{"at the start", "x: ]]\n" + filler, "f:1:4: this is no YAML from here on"},
		{"a quote that stays open", "# its line is the parser's\nx: \"\n" + filler, "f:2: this is no YAML from near here on"},
	} {
		_, err := Parse("f", []byte(tt.file))
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: %v; want %s", tt.name, err, tt.want)
		}
	}
}

func TestFaultsAreBounded(t *testing.T) {
	var file strings.Builder
	for i := range 50_000 {
		fmt.Fprintf(&file, "key%d: 1\n", i)
	}
	_, err := Parse("f", []byte(file.String()))
	faults, _ := errors.AsType[Faults](err)
	if got, want := len(faults), maxFaults+1; got != want {
		t.Fatalf("%d faults; want %d", got, want)
	}
	if got, want := faults[maxFaults].Error(), "f:1000:1: too many faults; 49001 more are not shown"; got != want {
		t.Errorf("the last is %q; want %q", got, want)
	}
}

// An alias bomb is a small file that stands for billions of values.
func TestAliasBombsAreRefused(t *testing.T) {
	for name, bomb := range map[string]string{
		"lists":         bombOf("a%d: &a%d [%s]\n", "*a%d", 9),
		"merges":        bombOf("a%d: &a%d {<<: [%s]}\n", "*a%d", 9),
		"many to large": "a: &a [" + strings.Repeat("x,", 50_000) + "]\nb: [" + strings.Repeat("*a,", 50_000) + "]\n",
	} {
		_, err := Parse("f", []byte(bomb))
		if err == nil || !strings.Contains(err.Error(), "too many values, aliases written out; want at most 262144") {
			t.Errorf("%s: %v; want that there are too many values", name, err)
		}
	}
}

// bombOf has one line for each level, which holds ten aliases to the level
// before.
func bombOf(line, alias string, levels int) string {
	bomb := "a0: &a0 {x: y}\n"
	for i := 1; i <= levels; i++ {
		aliases := strings.TrimSuffix(strings.Repeat(fmt.Sprintf(alias, i-1)+",", 10), ",")
		bomb += fmt.Sprintf(line, i, i, aliases)
	}
	return bomb
}

func TestFaultSaysWhatItKnows(t *testing.T) {
	for _, tt := range []struct {
		fault Fault
		want  string
	}{
		{Fault{"f.yaml", 4, 5, "wrong"}, "f.yaml:4:5: wrong"},
		{Fault{"f.yaml", 4, 0, "wrong"}, "f.yaml:4: wrong"},
		{Fault{"f.yaml", 0, 0, "wrong"}, "f.yaml: wrong"},
		{Fault{"", 0, 0, "--listen: wrong"}, "--listen: wrong"},
	} {
		if got := tt.fault.Error(); got != tt.want {
			t.Errorf("%#v.Error() = %q; want %q", tt.fault, got, tt.want)
		}
	}
}
