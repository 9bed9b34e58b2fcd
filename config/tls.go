package config

import (
	"errors"
	"net/netip"
	"strings"

	"gopkg.in/yaml.v3"
)

// listenerTLS decodes how a listener speaks TLS. The section turns it on, even where
// it is empty: nobody who has written it wants plain TCP.
func (d *decoder) listenerTLS(key string, n *yaml.Node) *ListenerTLS {
	t := new(ListenerTLS)
	s := d.mapping(key, n, d.listenerTLSFields(t))
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for _, file := range []string{"cert_file", "key_file"} {
		if !s.has(file) {
			d.fault(s.node, "%s: no %s; want both cert_file and key_file, or no tls for plain TCP", key, file)
		}
	}
	return t
}

func (d *decoder) listenerTLSFields(t *ListenerTLS) fields {
	return fields{
		"cert_file":      d.checked(&t.CertFile, "a file's path", d.filePath),
		"key_file":       d.checked(&t.KeyFile, "a file's path", d.filePath),
		"client_ca_file": d.checked(&t.ClientCAFile, "a file's path", d.filePath),
	}
}

// poolTLS decodes how backends are connected to by TLS. An empty section is enough.
func (d *decoder) poolTLS(key string, n *yaml.Node) *PoolTLS {
	t := new(PoolTLS)
	s := d.mapping(key, n, d.poolTLSFields(t))
	if n.Kind != yaml.MappingNode {
		return nil
	}
	switch {
	case s.has("cert_file") && !s.has("key_file"):
		d.fault(s.at("cert_file"), "%s: no key_file for it; want both, or neither", dotted(key, "cert_file"))
	case s.has("key_file") && !s.has("cert_file"):
		d.fault(s.at("key_file"), "%s: no cert_file for it; want both, or neither", dotted(key, "key_file"))
	}
	return t
}

func (d *decoder) poolTLSFields(t *PoolTLS) fields {
	return fields{
		"ca_file":     d.checked(&t.CAFile, "a file's path", d.filePath),
		"cert_file":   d.checked(&t.CertFile, "a file's path", d.filePath),
		"key_file":    d.checked(&t.KeyFile, "a file's path", d.filePath),
		"server_name": d.checked(&t.ServerName, "a host's name", serverName),
	}
}

// filePath is path for a file that has to be there.
func (d *decoder) filePath(s string) (string, error) {
	if s == "" {
		return "", errors.New("no path; want one, or no such key")
	}
	return d.path(s)
}

// serverName takes a name that a certificate can be for.
func serverName(s string) (string, error) {
	if _, err := netip.ParseAddr(s); err == nil {
		return s, nil
	}
	if s == "" || strings.ContainsAny(s, ":/ *\t") {
		return "", errors.New("not a name; want one such as ivr.example.com, without a port")
	}
	return s, nil
}
