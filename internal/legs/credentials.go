package legs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// Files are where one side of TLS has what it shows and whom it trusts, as PEM.
type Files struct {
	Cert, Key string // "" in both: it shows nothing
	CA        string // of the other side; "" means the system's, or, for a server, that nobody is asked
}

// A Material is what files had in them at one time.
type Material struct {
	files  Files
	cert   *tls.Certificate // nil: there is none
	ca     *x509.CertPool   // nil: there is none
	until  time.Time        // when the first of the certificate and those behind it expires
	states [3]os.FileInfo   // of the files
}

// Load reads files. The error names the file.
func Load(f Files) (*Material, error) {
	m := &Material{files: f, states: f.states()} // before they are read, lest a change be missed
	if f.Cert != "" {
		cert, err := readPair(f.Cert, f.Key)
		if err != nil {
			return nil, err
		}
		m.cert, m.until = cert, expires(cert)
	}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, err
		}
		m.ca = x509.NewCertPool()
		if !m.ca.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: no certificate in PEM format", f.CA)
		}
	}
	return m, nil
}

func readPair(certFile, keyFile string) (*tls.Certificate, error) {
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s with %s: %w", certFile, keyFile, err)
	}
	return &cert, nil
}

// states returns what tells that the files have changed; nil for one that is not
// there.
func (f Files) states() (all [3]os.FileInfo) {
	for i, name := range []string{f.Cert, f.Key, f.CA} {
		if name != "" {
			all[i], _ = os.Stat(name) // one that can't be looked at isn't there
		}
	}
	return all
}

func same(a, b [3]os.FileInfo) bool {
	for i := range a {
		switch {
		case a[i] == nil && b[i] == nil:
		case a[i] == nil || b[i] == nil, !os.SameFile(a[i], b[i]), a[i].Size() != b[i].Size(), !a[i].ModTime().Equal(b[i].ModTime()):
			return false
		}
	}
	return true
}

// Expires returns when what is shown expires; zero if nothing is.
func (m *Material) Expires() time.Time { return m.until }

func expires(cert *tls.Certificate) (first time.Time) {
	for _, der := range cert.Certificate {
		if c, err := x509.ParseCertificate(der); err == nil && (first.IsZero() || c.NotAfter.Before(first)) {
			first = c.NotAfter
		}
	}
	return first
}

// Server returns how to accept connections. A client has to show a certificate of the
// CA's, if there is one. There are no tickets by which a client would be let in again
// without having its certificate looked at.
func (m *Material) Server() *tls.Config {
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true,
		Certificates: []tls.Certificate{*m.cert},
	}
	if m.ca != nil {
		cfg.ClientCAs, cfg.ClientAuth = m.ca, tls.RequireAndVerifyClientCert
	}
	return cfg
}

// Client returns how to connect to a server of that name.
func (m *Material) Client(server string) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: m.ca, ServerName: server}
	if m.cert != nil {
		// Shown whatever authorities the server names: it gives the clearer refusal.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.cert, nil }
	}
	return cfg
}

// Credentials are the material of some files that is in use. They are safe for
// concurrent use.
type Credentials struct {
	current atomic.Pointer[Material]
	seen    [3]os.FileInfo // by the last Refresh
	told    [3]os.FileInfo // of the last error
	failed  bool           // there was one, of the files as they are
}

// NewCredentials returns credentials with that material.
func NewCredentials(m *Material) *Credentials {
	c := &Credentials{seen: m.states}
	c.current.Store(m)
	return c
}

// Material returns what is in use.
func (c *Credentials) Material() *Material { return c.current.Load() }

// Set puts other material into use, for connections to come.
func (c *Credentials) Set(m *Material) { c.current.Store(m) }

// Refresh looks whether the files have changed, and puts what they have into use. It
// reports whether it did. An error, which is told once, means that the files can't be
// used: what was in use stays so. Files that are written one after the other don't fit
// for a moment, so one is told only of files that have stood still since the last call.
// Refresh must not be called twice at a time.
func (c *Credentials) Refresh() (changed bool, err error) {
	now := c.Material().files.states()
	settled := same(now, c.seen)
	c.seen = now
	if same(now, c.Material().states) || c.failed && same(now, c.told) {
		return false, nil
	}
	m, err := Load(c.Material().files)
	switch {
	case err == nil:
		c.failed = false
		c.Set(m)
		return true, nil
	case !settled:
		return false, nil
	}
	c.told, c.failed = now, true
	return false, err
}

// Files returns where it is from.
func (m *Material) Files() Files { return m.files }
