package config

import (
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"gopkg.in/yaml.v3"
)

// Bounds that several keys share.
const (
	maxSessions  = 1_000_000
	maxListeners = 64
	maxEntries   = 1000 // pools, backends of one, routes, networks: all are gone through one by one
)

// file decodes the whole file, and then checks what lies between its sections.
func (d *decoder) file(root *yaml.Node) *Config {
	c := defaultConfig()
	s := d.mapping("", root, d.fileFields(&c))
	if !s.has("listeners") {
		d.places.listeners = []*yaml.Node{nil} // the default one
	}
	d.places.pools.section = s.at("pools")
	d.places.admin = s.at("admin")
	d.check(&c)
	return &c
}

func (d *decoder) fileFields(c *Config) fields {
	return fields{
		"listeners": func(key string, n *yaml.Node) {
			c.Listeners = nil
			d.each(maxListeners, func(key string, n *yaml.Node) {
				c.Listeners = append(c.Listeners, d.listener(key, n))
			})(key, n)
			if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
				d.fault(n, "%s: the list is empty; want at least one, or no such key for the default one", key)
			}
		},
		"pools": func(key string, n *yaml.Node) { c.Pools = d.pools(key, n) },
		"routes": d.each(maxEntries, func(key string, n *yaml.Node) {
			c.Routes = append(c.Routes, d.route(key, n))
		}),
		"admin":         func(key string, n *yaml.Node) { d.admin(key, n, &c.Admin) },
		"drain_timeout": d.durationOrZero(&c.DrainTimeout, time.Millisecond, 24*time.Hour),
		"engine":        d.choice(&c.Engine, "auto", "epoll", "io_uring"),
		"loops":         d.integer(&c.Loops, 0, 256),
		"log":           func(key string, n *yaml.Node) { d.mapping(key, n, d.logFields(&c.Log)) },
	}
}

// listener decodes one entry of listeners, over the defaults.
func (d *decoder) listener(key string, n *yaml.Node) Listener {
	l := defaultListener()
	s := d.item(key, n, d.listenerFields(&l))
	d.places.listeners = append(d.places.listeners, s.at("address"))
	return l
}

func (d *decoder) listenerFields(l *Listener) fields {
	return fields{
		"address":                 d.checked(&l.Address, "an address such as :4577", listenAddress),
		"allow":                   func(key string, n *yaml.Node) { l.Allow = d.allow(key, n) },
		"max_sessions":            d.integer(&l.MaxSessions, 1, maxSessions),
		"header_timeout":          d.duration(&l.HeaderTimeout, 10*time.Millisecond, 5*time.Minute),
		"max_header_bytes":        d.size(&l.MaxHeaderBytes, 1<<10, 1<<20),
		"max_sessions_per_source": d.integer(&l.MaxSessionsPerSource, 0, maxSessions),
		"rate":                    func(key string, n *yaml.Node) { d.rate(key, n, &l.Rate) },
		"token_file":              d.checked(&l.TokenFile, "a file's path", d.path),
		"accept_proxy_protocol":   func(key string, n *yaml.Node) { l.AcceptProxyProtocol = d.proxies(key, n) },
		"tls":                     func(key string, n *yaml.Node) { l.TLS = d.listenerTLS(key, n) },
	}
}

// allow decodes the list of clients that may connect.
func (d *decoder) allow(key string, n *yaml.Node) []netip.Prefix {
	return d.networks(key, n, ", so that nobody could connect; want networks such as 10.0.0.0/8, private or any")
}

// networks decodes a list of networks; empty is what to say of one without any.
func (d *decoder) networks(key string, n *yaml.Node, empty string) (prefixes []netip.Prefix) {
	d.each(maxEntries, func(key string, n *yaml.Node) {
		value, ok := d.scalar(key, n, "a network such as 10.0.0.0/8")
		if !ok {
			return
		}
		networks, err := parseNetworks(value)
		if err != nil {
			d.fault(n, "%s: %s: %v", key, quote(value), err)
			return
		}
		prefixes = append(prefixes, networks...)
	})(key, n)
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		d.fault(n, "%s: the list is empty%s", key, empty)
	}
	return prefixes
}

// backend decodes one entry of backends, which may be just its address, and
// tells where its address stands.
func (d *decoder) backend(key string, n *yaml.Node) (Backend, *yaml.Node) {
	b := defaultBackend()
	if n.Kind == yaml.ScalarNode {
		d.checked(&b.Address, "an address such as 10.0.0.11:4573", backendAddress)(key, n)
		b.Name = b.Address
		return b, n
	}
	s := d.item(key, n, d.backendFields(&b))
	if n.Kind == yaml.MappingNode && !s.has("address") && !s.has("srv") && !s.has("dns") && !s.has("exec") {
		d.fault(n, "%s: a backend without an address; want host:port, such as 10.0.0.11:4573", key)
	}
	if b.Name == "" {
		b.Name = b.Address
	}
	return b, s.at("address")
}

func (d *decoder) backendFields(b *Backend) fields {
	const address = "want address: HOST:PORT instead"
	return fields{
		"name":         d.checked(&b.Name, "a name", backendName),
		"address":      d.checked(&b.Address, "an address such as 10.0.0.11:4573", backendAddress),
		"weight":       d.weight(&b.Weight),
		"max_sessions": d.integer(&b.MaxSessions, 0, maxSessions),
		"backup":       d.boolean(&b.Backup),
		"srv":          d.notYet(address),
		"dns":          d.notYet(address),
		"exec":         d.notYet(address),
		"workers":      d.notYet("leave it out"),
	}
}

// weight decodes a backend's share. Elsewhere 0 often means "none for now", so
// it gets an answer of its own.
func (d *decoder) weight(to *int) decode {
	number := d.integer(to, 1, 256)
	return func(key string, n *yaml.Node) {
		if n.Kind == yaml.ScalarNode && n.Value == "0" {
			d.fault(n, "%s: a backend of weight 0 would never be chosen; want 1 to 256, or remove the backend: on reload its sessions drain", key)
			return
		}
		number(key, n)
	}
}

// admin decodes the admin port. Who may connect to it can end calls, so that only
// this machine may, unless there is a file that says who else.
func (d *decoder) admin(key string, n *yaml.Node, a *Admin) {
	s := d.mapping(key, n, d.adminFields(a))
	if a.Address == "" || s.bad["web_config_file"] {
		return
	}
	if host, _, _ := net.SplitHostPort(a.Address); !isLoopback(host) && a.WebConfigFile == "" {
		d.fault(s.at("address"), "%s: %s is open to others; want a loopback address such as 127.0.0.1:9577, or web_config_file with TLS and users",
			dotted(key, "address"), quote(a.Address))
	}
}

func (d *decoder) adminFields(a *Admin) fields {
	return fields{
		"address": d.checked(&a.Address, `an address such as 127.0.0.1:9577, or ""`, adminAddress),
		"hosts": d.each(maxEntries, func(key string, n *yaml.Node) {
			var host string
			if d.checked(&host, "a name such as proxy1.example.org", askedFor)(key, n); host != "" {
				a.Hosts = append(a.Hosts, host)
			}
		}),
		"profiling":       d.boolean(&a.Profiling),
		"web_config_file": d.checked(&a.WebConfigFile, "a file's path", d.path),
	}
}

// path returns a file's path; a relative one is seen from this file's directory.
func (d *decoder) path(s string) (string, error) {
	if s == "" || filepath.IsAbs(s) {
		return s, nil
	}
	return filepath.Join(filepath.Dir(d.name), s), nil
}

func (d *decoder) logFields(l *Log) fields {
	return fields{
		"level":  d.choice(&l.Level, "trace", "debug", "info", "warn", "error"),
		"format": d.choice(&l.Format, "text", "json"),
	}
}
