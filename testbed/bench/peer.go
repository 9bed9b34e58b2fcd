//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A setting is what a peer is to be configured for.
type setting struct {
	dir     string // for its files; it is there
	at      netip.AddrPort
	admin   netip.AddrPort // of agiproxy
	servers []netip.AddrPort
	threads int           // event loops, threads or processes; 0: what it thinks best for this machine
	probe   time.Duration // between health checks of a server
}

// A peer is something to put between callers and servers, in one configuration.
type peer struct {
	name    string
	label   string // in tables and charts
	family  string // of configurations, the best of which counts
	program string // "" is no proxy at all
	logs    bool   // one record a session goes into the file "log"
	// configure writes files and returns the program's arguments.
	configure func(setting) ([]string, error)
}

// Families of peers.
const (
	agiproxyFamily = "agiproxy"
	haproxyFamily  = "haproxy"
	nginxFamily    = "nginx"
	directFamily   = "direct"
)

// others returns the peers that aren't agiproxy.
func others() []peer {
	return []peer{
		{name: "haproxy", label: "HAProxy", family: haproxyFamily, program: "haproxy", configure: haproxy(false, false)},
		{name: "haproxy-log", label: "HAProxy, log", family: haproxyFamily, program: "haproxy", logs: true, configure: haproxy(true, false)},
		{name: "haproxy-rule", label: "HAProxy, rule", family: haproxyFamily, program: "haproxy", configure: haproxy(false, true)},
		{name: "haproxy-log-rule", label: "HAProxy, log and rule", family: haproxyFamily, program: "haproxy", logs: true, configure: haproxy(true, true)},
		{name: "nginx", label: "nginx stream", family: nginxFamily, program: "nginx", configure: nginx},
		{name: "direct", label: "no proxy", family: directFamily},
	}
}

// agiproxy returns agiproxy as -agiproxy describes it:
// NAME=PATH[;LINE OF THE CONFIGURATION…].
func agiproxy(spec string) (peer, error) {
	name, rest, ok := strings.Cut(spec, "=")
	if !ok || name == "" || rest == "" {
		return peer{}, fmt.Errorf("-agiproxy %s: want NAME=PATH, and lines of its configuration after semicolons", spec)
	}
	parts := strings.Split(rest, ";")
	return peer{
		name: name, label: name, family: agiproxyFamily, program: parts[0], logs: true,
		configure: func(s setting) ([]string, error) { return configureAgiproxy(s, parts[1:]) },
	}, nil
}

// patience is how long a step may take before it is an error. On a busy machine,
// as of CI, seconds may go by without a process having run at all, and a test
// that fails by that tells nothing. Nobody is slower or faster by it.
const patience = 30 * time.Second

// configureAgiproxy has everything on that is on by default: probes, metrics,
// and one record a session.
func configureAgiproxy(s setting, lines []string) ([]string, error) {
	var w strings.Builder
	fmt.Fprintf(&w, "listeners:\n  - {address: %q, max_sessions: 20000, header_timeout: %v}\n", s.at, patience)
	fmt.Fprintf(&w, "pools:\n  bench:\n    balance: least-connections\n    connect_timeout: %v\n    dispatch_timeout: %v\n    health: {probe: agi, interval: %v, timeout: %v}\n    backends:\n",
		patience, 2*patience, s.probe, patience)
	for _, a := range s.servers {
		fmt.Fprintf(&w, "      - %q\n", a)
	}
	fmt.Fprintf(&w, "admin: {address: %q}\nlog: {level: info, format: text}\n", s.admin)
	own := slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "loops:") })
	if s.threads > 0 && !own {
		fmt.Fprintf(&w, "loops: %d\n", s.threads)
	}
	for _, l := range lines {
		fmt.Fprintln(&w, l)
	}
	file := filepath.Join(s.dir, "agiproxy.yaml")
	return []string{"serve", "--config", file}, write(file, w.String())
}

// haproxy is HAProxy in TCP mode, with health checks, as for long calls. Nothing
// is set that would cost it a system call and isn't needed: no keep-alives.
func haproxy(log, rule bool) func(setting) ([]string, error) {
	return func(s setting) ([]string, error) {
		var w strings.Builder
		// Of 20,000 descriptors a session takes two, and a server's check one.
		fmt.Fprintf(&w, "global\n  maxconn %d\n  nbthread %d\n", 9450-len(s.servers)/2, max(s.threads, 1))
		if log {
			fmt.Fprintf(&w, "  log stdout format raw local0\n")
		}
		fmt.Fprintf(&w, "defaults\n  mode tcp\n  timeout connect %v\n  timeout client 2h\n  timeout server 2h\n", patience)
		if log {
			fmt.Fprintf(&w, "  log global\n  option tcplog\n  option dontlognull\n")
		}
		fmt.Fprintf(&w, "frontend asterisk\n  bind %v\n", s.at)
		if rule {
			fmt.Fprintf(&w, "  tcp-request inspect-delay %v\n"+
				"  tcp-request content accept if { req.payload(0,0) -m sub \"agi_network_script: \" }\n"+
				"  use_backend billing if { req.payload(0,0) -m sub \"agi_network_script: billing/\" }\n", patience)
		}
		fmt.Fprintf(&w, "  default_backend ivr\n")
		pools := []string{"ivr"}
		if rule {
			pools = append(pools, "billing")
		}
		for _, pool := range pools {
			fmt.Fprintf(&w, "backend %s\n  balance leastconn\n", pool)
			for i, a := range s.servers {
				if pool == "billing" && i > 0 {
					break // it is there to be chosen from
				}
				fmt.Fprintf(&w, "  server s%d %v check inter %dms fall 3 rise 2\n", i, a, s.probe.Milliseconds())
			}
		}
		file := filepath.Join(s.dir, "haproxy.cfg")
		return []string{"-db", "-f", file}, write(file, w.String())
	}
}

// nginxModule is where Debian has nginx's stream module, if it isn't built in.
const nginxModule = "/usr/lib/nginx/modules/ngx_stream_module.so"

// nginx is nginx's stream proxy, which has no active health checks.
func nginx(s setting) ([]string, error) {
	var w strings.Builder
	if _, err := os.Stat(nginxModule); err == nil {
		fmt.Fprintf(&w, "load_module %s;\n", nginxModule)
	}
	fmt.Fprintf(&w, "daemon off;\nuser root;\npid %s/nginx.pid;\nerror_log %s/error.log warn;\n", s.dir, s.dir)
	fmt.Fprintf(&w, "worker_processes %d;\nworker_rlimit_nofile 20000;\nevents { worker_connections 19500; }\n", max(s.threads, 1))
	fmt.Fprintf(&w, "stream {\n  upstream ivr {\n    least_conn;\n")
	for _, a := range s.servers {
		fmt.Fprintf(&w, "    server %v;\n", a)
	}
	fmt.Fprintf(&w, "  }\n  server {\n    listen %v backlog=4096;\n    proxy_pass ivr;\n    proxy_connect_timeout %v;\n    proxy_timeout 2h;\n  }\n}\n", s.at, patience)
	file := filepath.Join(s.dir, "nginx.conf")
	return []string{"-p", s.dir, "-e", filepath.Join(s.dir, "error.log"), "-c", file}, write(file, w.String())
}

func write(file, text string) error { return os.WriteFile(file, []byte(text), 0o644) }
