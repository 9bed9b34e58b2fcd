package config

import (
	"errors"
	"flag"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// smallest is the smallest useful file.
const smallest = "pools: {ivr: {backends: [10.0.0.11:4573]}}\n"

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse("agiproxy.yaml", []byte(text))
	if err != nil {
		t.Fatalf("Parse: %v; want no fault in\n%s", err, text)
	}
	return c
}

func TestSmallestFileGetsAllDefaults(t *testing.T) {
	golden(t, "testdata/defaults.golden", mustParse(t, smallest))
}

func TestFullFileGivesWhatItSays(t *testing.T) {
	c, err := Load("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/full.golden", c)
}

// golden compares c, written as YAML, with a file.
func golden(t *testing.T, file string, c *Config) {
	t.Helper()
	got, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("the configuration differs from %s (-update rewrites it); got:\n%s", file, got)
	}
}

func TestExampleFileIsRight(t *testing.T) {
	c, err := Load(filepath.FromSlash("../deploy/agiproxy.example.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Pools) == 0 || len(c.Pools[0].Backends) < 2 {
		t.Errorf("the example has pools %v; want one with several backends", c.Pools)
	}
}

// What is written differently and means the same.
func TestEqualFiles(t *testing.T) {
	pool := func(lines string) string { return smallest[:len(smallest)-3] + ", " + lines + "}}\n" }
	for _, tt := range []struct{ name, file, same string }{
		{"a backend may be its address", `pools: {ivr: {backends: [{address: "10.0.0.11:4573"}]}}`, smallest},
		{"a backend is named by its address", `pools: {ivr: {backends: [{name: "10.0.0.11:4573", address: "10.0.0.11:4573"}]}}`, smallest},
		{"null is absent", "listeners:\npools: {ivr: {backends: [10.0.0.11:4573], attempts: , health: ~, tls: null}}\nroutes:\nadmin: {address: }\nlog:\nloops:", smallest},
		{"an empty list of routes is none", smallest + "routes: []", smallest},
		{"a byte order mark is skipped", "\ufeff" + smallest, smallest},
		{"lines may end as in Windows", strings.ReplaceAll(smallest, "\n", "\r\n"), smallest},
		{"a document may be marked", "---\n" + smallest + "...\n", smallest},
		{"an alias is what it stands for", "pools:\n  a: {backends: &b [10.0.0.1:1]}\n  b: {backends: *b}\nroutes: [{match: {script: a}, pool: a}, {pool: b}]",
			"pools:\n  a: {backends: [10.0.0.1:1]}\n  b: {backends: [10.0.0.1:1]}\nroutes: [{match: {script: a}, pool: a}, {pool: b}]"},
		{"a merge adds what is not given", "pools:\n  a: &a {attempts: 5, replay: never, backends: [10.0.0.1:1]}\n  b: {<<: *a, attempts: 7}\nroutes: [{match: {script: a}, pool: a}, {pool: b}]",
			"pools:\n  a: {attempts: 5, replay: never, backends: [10.0.0.1:1]}\n  b: {attempts: 7, replay: never, backends: [10.0.0.1:1]}\nroutes: [{match: {script: a}, pool: a}, {pool: b}]"},
		{"0 needs no unit", pool("think_timeout: 0, first_command_timeout: 0"), smallest},
		{"a bare number is bytes", "listeners: [{max_header_bytes: 65536}]\n" + smallest, smallest},
		{"an alias name of the private networks", "listeners: [{allow: [127.0.0.0/8, 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 169.254.0.0/16, '::1', 'fe80::/10', 'fc00::/7']}]\n" + smallest, smallest},
		{"a listener's inert values", "listeners: [{max_sessions_per_source: 0, rate: {sessions_per_second: 0, burst: 0}, token_file: , accept_proxy_protocol: false}]\n" + smallest, smallest},
		{"a burst follows its rate", "listeners: [{rate: {sessions_per_second: 0.1}}, {address: ':1', rate: {sessions_per_second: 20}}]\n" + smallest, "listeners: [{rate: {sessions_per_second: 0.1, burst: 1}}, {address: ':1', rate: {sessions_per_second: 20, burst: 20}}]\n" + smallest},
		{"TLS with all defaults", pool("tls: {ca_file: , cert_file: , key_file: , server_name: }"), pool("tls: {}")},
		{"no queue, no fallback", pool("queue: {timeout: 0, limit: 0, music: ''}, fallback: {commands: [], then: failure}"), smallest},
		{"no rules for commands", pool("commands: {allow: [], deny: [], strict: false, max_line: 8191}"), smallest},
		{"a pool's defaults written out", pool("balance: least-connections, hedge_delay: 250ms, ejection: {failures: 3, time: 10s, max_time: 300s, max_percent: 50}, panic_threshold: 50, slow_start: 0"), smallest},
		{"a pool's new keys without values", pool("hash_field: , hedge_delay: , queue: , fallback: {commands: , then: }, commands: {allow: , deny: , strict: , max_line: }, ejection: {time: }, panic_threshold: , slow_start: "), smallest},
		{"a longer time of ejection lengthens max_time", pool("ejection: {time: 10m}"), pool("ejection: {time: 10m, max_time: 10m}")},
		{"a short connect_timeout needs no hedge", pool("connect_timeout: 250ms"), pool("connect_timeout: 250ms, hedge_delay: 0")},
		{"the default field to hash", pool("balance: hash"), pool("balance: hash, hash_field: agi_uniqueid")},
		{"no TLS and users", smallest + "admin: {address: 127.0.0.1:9577, web_config_file: ''}", smallest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, want := mustParse(t, tt.file), mustParse(t, tt.same)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("Parse(%s) = %+v\nwant the same as %s: %+v", tt.file, got, tt.same, want)
			}
		})
	}
}

func TestShortHealthIntervalShortensFastInterval(t *testing.T) {
	c := mustParse(t, "pools: {ivr: {backends: [10.0.0.11:4573], health: {interval: 200ms}}}")
	if got, want := c.Pools[0].Health.FastInterval, 200*time.Millisecond; got != want {
		t.Errorf("interval 200ms gives fast_interval %v; want %v", got, want)
	}
}

func TestHealthTimeoutMayExceedInterval(t *testing.T) {
	c := mustParse(t, "pools: {ivr: {backends: [10.0.0.11:4573], health: {timeout: 3s}}}")
	if got, want := c.Pools[0].Health.Timeout, 3*time.Second; got != want {
		t.Errorf("timeout 3s over the default interval gives %v; want %v", got, want)
	}
}

func TestAddressesBecomeCanonical(t *testing.T) {
	for _, tt := range []struct{ given, want string }{
		{"10.0.0.1:4573", "10.0.0.1:4573"},
		{"IVR1.Example.COM:4573", "ivr1.example.com:4573"},
		{"fastagi_1:4573", "fastagi_1:4573"},
		{"[2001:DB8:0::1]:4573", "[2001:db8::1]:4573"},
		{"[::ffff:10.0.0.1]:4573", "10.0.0.1:4573"},
		{"[fe80::1%eth0]:4573", "[fe80::1%eth0]:4573"},
		{"10.0.0.1:04573", "10.0.0.1:4573"},
	} {
		got, err := backendAddress(tt.given)
		if got != tt.want || err != nil {
			t.Errorf("backendAddress(%q) = %q, %v; want %q", tt.given, got, err, tt.want)
		}
	}
}

func TestAllowExpands(t *testing.T) {
	c := mustParse(t, "listeners: [{allow: [any, 192.0.2.7, '::ffff:192.0.2.8']}]\n"+smallest)
	want := []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"),
		netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("192.0.2.8/32"),
	}
	if got := c.Listeners[0].Allow; !reflect.DeepEqual(got, want) {
		t.Errorf("allow = %v; want %v", got, want)
	}
}

func TestPoolsKeepTheFilesOrder(t *testing.T) {
	c := mustParse(t, "pools: {z: {backends: [a:1]}, a: {backends: [a:1]}, m: {backends: [a:1]}}\nroutes: [{match: {script: z}, pool: z}, {match: {script: a}, pool: a}, {pool: m}]")
	var names []string
	for _, p := range c.Pools {
		names = append(names, p.Name)
	}
	if got, want := strings.Join(names, " "), "z a m"; got != want {
		t.Errorf("pools come as %s; want %s", got, want)
	}
}

func TestLoadTellsAMissingFileFromAWrongOne(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(filepath.Join(dir, "none.yaml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of no file: %v; want fs.ErrNotExist", err)
	}
	wrong := filepath.Join(dir, "wrong.yaml")
	if err := os.WriteFile(wrong, []byte("pool: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(wrong)
	if faults, ok := errors.AsType[Faults](err); !ok || faults[0].File != wrong {
		t.Errorf("Load of a wrong file: %v; want Faults in %s", err, wrong)
	}
	large := filepath.Join(dir, "large.yaml")
	if err := os.WriteFile(large, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(large); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("Load of 3 MiB: %v; want that it is too large", err)
	}
}

func TestSimpleIsTheFileWithOnePool(t *testing.T) {
	got, err := Simple("127.0.0.1:4577", []string{"10.0.0.1:4573", "IVR2:4573"})
	if err != nil {
		t.Fatal(err)
	}
	want := mustParse(t, "listeners: [{address: '127.0.0.1:4577'}]\npools: {default: {backends: [10.0.0.1:4573, ivr2:4573]}}")
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Simple = %+v\nwant %+v", got, want)
	}
	if got, err := Simple("", []string{"10.0.0.1:4573"}); err != nil || got.Listeners[0].Address != ":4577" {
		t.Errorf("Simple without an address = %+v, %v; want :4577", got, err)
	}
}

func TestSimpleNamesTheFlags(t *testing.T) {
	for _, tt := range []struct {
		listen   string
		backends []string
		want     string
	}{
		{"", nil, "--backend: none given; want at least one HOST:PORT"},
		{"4577", []string{"10.0.0.1"}, `--listen "4577": the port is missing; want host:port
--backend "10.0.0.1": the port is missing; want host:port`},
		{":4577", []string{"a:1", "A:1"}, `--backend "A:1": given twice`},
		{":4577", []string{"localhost:4577"}, `--backend "localhost:4577": this is agiproxy's own --listen address :4577; sessions would go round in a loop`},
	} {
		_, err := Simple(tt.listen, tt.backends)
		if _, ok := errors.AsType[Faults](err); !ok || err.Error() != tt.want {
			t.Errorf("Simple(%q, %q): %v\nwant %s", tt.listen, tt.backends, err, tt.want)
		}
	}
}

func TestAdminMayBeOpenBehindAWebConfigFile(t *testing.T) {
	for _, test := range []struct{ name, admin, address, file string }{
		{"agiproxy.yaml", `{address: ":9577", web_config_file: /etc/web.yml}`, ":9577", "/etc/web.yml"},
		{"/etc/agiproxy/agiproxy.yaml", `{address: 10.0.0.1:9577, web_config_file: web.yml}`, "10.0.0.1:9577", "/etc/agiproxy/web.yml"},
		{"agiproxy.yaml", `{web_config_file: tls/web.yml}`, "127.0.0.1:9577", "tls/web.yml"},
	} {
		c, err := Parse(test.name, []byte(smallest+"admin: "+test.admin))
		if err != nil {
			t.Errorf("%s: %v", test.admin, err)
			continue
		}
		if want := (Admin{Address: test.address, WebConfigFile: test.file}); !reflect.DeepEqual(c.Admin, want) {
			t.Errorf("%s in %s: %+v; want %+v", test.admin, test.name, c.Admin, want)
		}
	}
}
