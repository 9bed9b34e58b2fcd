// Package config reads agiproxy's YAML file.
//
// It is strict: an unknown key, a wrong type, a duplicate name or an impossible
// value is a [Fault] with file, line, column and key, and all of them are
// reported at once. What it returns is whole and checked: every absent key has
// its default, every address its canonical form, every route its pool. A key
// whose feature does not exist yet is refused.
//
// The file is parsed to nodes once (document.go), and each section is a table
// of key and decode function over a copy of its defaults (sections.go, and
// pools.go for those of a pool). What concerns several sections is checked at
// the end (check.go).
package config

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"
)

// Config is a whole, checked configuration. Only [Parse], [Load] and [Simple]
// make one; nothing in it changes afterwards.
type Config struct {
	Listeners    []Listener    // at least one
	Pools        []Pool        // at least one, in the file's order
	Routes       []Route       // the first that matches wins; empty: everything goes to the only pool
	Admin        Admin         // metrics and health of agiproxy itself
	DrainTimeout time.Duration // how long sessions may go on once it stops; 0 ends them at once
	Loops        int           // event loops; 0 = chosen by the number of cores
	Engine       string        // "auto", "epoll" or "io_uring"
	Log          Log           // the program's log on standard error
}

// Listener is one address that Asterisk connects to.
type Listener struct {
	Address        string         // host:port; an empty host is every address, port 0 one that the system chooses
	Allow          []netip.Prefix // clients that may connect, at least one; compare with an address unmapped and without zone
	MaxSessions    int            // sessions at one time, at least 1
	HeaderTimeout  time.Duration  // from accept to the header's empty line
	MaxHeaderBytes int            // the header, its empty line included
	TLS            *ListenerTLS   // nil = plain TCP

	MaxSessionsPerSource int            // sessions at one time from one address, or one /64 of IPv6; 0 = no limit
	Rate                 Rate           // at which one source may begin sessions
	TokenFile            string         // the shared secrets, one of which a session must know; "" = none is asked for
	AcceptProxyProtocol  []netip.Prefix // clients whose connections begin with a PROXY header; compare as Allow
}

// Rate bounds how many sessions begin. The zero value doesn't.
type Rate struct {
	SessionsPerSecond float64 // in the long run; 0 = no limit
	Burst             int     // at once, after a silence; 0 exactly where SessionsPerSecond is 0
}

// ListenerTLS is how a listener shows who it is. Paths are absolute, or seen from the
// process's directory.
type ListenerTLS struct {
	CertFile, KeyFile string // both given
	ClientCAFile      string // whose clients may connect; "" = whoever may
}

// PoolTLS is how a pool's backends are connected to by TLS.
type PoolTLS struct {
	CAFile            string // that has signed the backends' certificates; "" = one that the system knows
	CertFile, KeyFile string // that agiproxy shows; "" in both = none
	ServerName        string // that the backends' certificates are for; "" = each backend's host
}

// Pool is a set of backends that serve the same scripts.
type Pool struct {
	Name                string        // letters, digits, dot, dash and underscore
	Balance             string        // "round-robin", "least-connections", "random", "hash" or "first"
	HashField           string        // for "hash": "script" or an agi_… name
	ConnectTimeout      time.Duration // for one attempt's connection
	HedgeDelay          time.Duration // after which another backend is tried beside a slow one, less than ConnectTimeout; 0 = never
	FirstCommandTimeout time.Duration // from the header sent to the first command; 0 = no limit
	DispatchTimeout     time.Duration // for all attempts together, at least ConnectTimeout
	Attempts            int           // backends that one session may try, at least 1
	Replay              string        // "unread", "unanswered" or "never"
	OnBackendLoss       string        // "failure", "resume" (Attempts is 2 at least then) or "close"
	ThinkTimeout        time.Duration // a backend's turn; 0 = no limit
	HangupTimeout       time.Duration // what a backend gets after HANGUP
	Queue               Queue
	Fallback            Fallback
	Commands            Commands
	Health              Health
	Ejection            Ejection
	PanicThreshold      int           // percent of the backends; with fewer usable, all of them serve as a last resort; 0 = never
	SlowStart           time.Duration // what a backend that comes back takes to its full weight; 0 = none
	MaxSessions         int           // sessions at one time, on all backends together; 0 = no limit
	SendProxyProtocol   string        // "none", "v1" or "v2": what a connection to a backend begins with
	TLS                 *PoolTLS      // nil = plain TCP
	Backends            []Backend     // at least one; names and addresses are unique in the pool
}

// Queue is where sessions wait for a backend. The zero value is none.
type Queue struct {
	Timeout time.Duration // for one session; 0 exactly where Limit is 0
	Limit   int           // sessions that wait at one time
	Music   string        // the class of music on hold that the caller hears, "" = none
}

// Fallback is what Asterisk does when nothing can serve.
type Fallback struct {
	Commands []string // without line ends; each is one that Asterisk runs
	Then     string   // "failure" or, where there are commands, "completed"
}

// Commands is what a pool's backends may send to Asterisk. A rule is the words that
// a line begins with, the first of them AGI's own; a * ends one whose last word may
// go on.
type Commands struct {
	Allow   []string // none: everything but what is denied
	Deny    []string
	Strict  bool // what is no AGI command is refused, too
	MaxLine int  // bytes of a line, its line feed included, that Asterisk takes for one
}

// Ejection is when a backend is taken out for its sessions' sake.
type Ejection struct {
	Failures   int           // in a row; 0 = never
	Time       time.Duration // of the first ejection; the n-th in a row takes n times as long
	MaxTime    time.Duration // of any, at least Time
	MaxPercent int           // of the pool's backends at one time, 1 to 100
}

// Health is how a pool's backends are probed.
type Health struct {
	Probe        string        // "agi", "tcp" or "none"
	Script       string        // agi_network_script that the agi probe sends
	Expect       string        // "command", "close" or "any"
	OnDown       string        // "keep" or "lose" the sessions under way
	Interval     time.Duration // between probes
	FastInterval time.Duration // between probes while between up and down, at most Interval
	Timeout      time.Duration // of one probe; may be more than Interval
	Rise, Fall   int           // probes in a row that turn a backend up or down, at least 1
}

// Backend is one FastAGI server.
type Backend struct {
	Name        string // unique in its pool; its Address when the file gives none
	Address     string // host:port; the host is an IP address or a name
	Weight      int    // its share, 1 to 256
	MaxSessions int    // sessions at one time; 0 = no limit
	Backup      bool   // chosen only when no other can serve
}

// Route sends the sessions whose header it matches to a pool.
type Route struct {
	Match []Match // all must match, in the file's order; none: always
	Pool  string  // the name of one of the pools
}

// Match is a condition on one field of a session's header.
type Match struct {
	Field   string // "script", "host" (of agi_request), or an agi_… name
	Pattern string // a valid glob, in which * matches / too, or a valid regular expression after "~"
}

// Admin is where agiproxy shows its metrics and its own health.
type Admin struct {
	Address       string   // host:port, port 0 one that the system chooses, loopback unless there is a WebConfigFile; "" = none
	Profiling     bool     // whether Go's profiles are shown beside them
	Hosts         []string // names, in lower case, by which the port may be asked for beside addresses and localhost
	WebConfigFile string   // TLS and users, in the format of Prometheus' exporter-toolkit; "" = none
}

// Log is how the program logs.
type Log struct {
	Level  string // "trace", "debug", "info", "warn" or "error"
	Format string // "text" or "json"
}

// maxFileBytes bounds the file: a thousand backends take a tenth of it.
const maxFileBytes = 1 << 20

// Load reads and parses the file at path. A file that can't be read gives the
// error of package os, one that is wrong gives [Faults].
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// One byte more than allowed, so that Parse sees that there is too much.
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	return Parse(path, data)
}

// Parse reads a configuration from data; name stands for the file in faults.
// The error is always [Faults], sorted by place.
func Parse(name string, data []byte) (*Config, error) {
	d := &decoder{name: name}
	if root := d.document(data); root != nil {
		cfg := d.file(root)
		if len(d.faults) == 0 {
			return cfg, nil
		}
	}
	return nil, d.sorted()
}

// Simple is a configuration without a file: one listener, and one pool named
// "default" whose backends are named by their addresses. All else has its
// default; an empty listen too. The error is always [Faults], which name the
// flags --listen and --backend.
func Simple(listen string, backends []string) (*Config, error) {
	var faults Faults
	fault := func(format string, args ...any) {
		faults = append(faults, Fault{Message: fmt.Sprintf(format, args...)})
	}
	cfg := defaultConfig()
	listener := &cfg.Listeners[0]
	if listen != "" {
		address, err := listenAddress(listen)
		if err != nil {
			fault("--listen %q: %v", listen, err)
		}
		listener.Address = address
	}
	pool := defaultPool()
	pool.Name = "default"
	if len(backends) == 0 {
		fault("--backend: none given; want at least one HOST:PORT")
	}
	seen := make(map[string]bool)
	for _, given := range backends {
		address, err := backendAddress(given)
		switch {
		case err != nil:
			fault("--backend %q: %v", given, err)
			continue
		case seen[address]:
			fault("--backend %q: given twice", given)
			continue
		case loopsBack(listener.Address, address):
			fault("--backend %q: this is agiproxy's own --listen address %s; sessions would go round in a loop", given, listener.Address)
		}
		seen[address] = true
		b := defaultBackend()
		b.Name, b.Address = address, address
		pool.Backends = append(pool.Backends, b)
	}
	if len(faults) > 0 {
		return nil, faults
	}
	cfg.Pools = []Pool{pool}
	return &cfg, nil
}
