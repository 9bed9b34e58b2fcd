package app

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"agiproxy/agi"
	"agiproxy/config"
	"agiproxy/internal/agisim"
	"agiproxy/proxy"
)

// An authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	o := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, o, o, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// identity is the files of one side.
type identity struct{ cert, key, ca string }

// issue writes a certificate for this machine under the host's name, which may have
// been changed, and what the side trusts.
func (a *authority) issue(dir string, change ...func(*x509.Certificate)) identity {
	a.t.Helper()
	o := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "site"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(20 * 24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	for _, f := range change {
		f(o)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, o, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	id := identity{filepath.Join(dir, "site.crt"), filepath.Join(dir, "site.key"), filepath.Join(dir, "ca.crt")}
	writePEM(a.t, id.key, "PRIVATE KEY", pkcs8)
	writePEM(a.t, id.cert, "CERTIFICATE", der)
	writePEM(a.t, id.ca, "CERTIFICATE", a.cert.Raw)
	return id
}

func writePEM(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func expired(c *x509.Certificate)   { c.NotAfter = time.Now().Add(-time.Hour) }
func wrongName(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} }

// secured is a file with one listener and one pool; tls is what stands in each of
// their sections, "" for none.
func secured(listenerTLS, poolTLS string, backends ...string) string {
	section := func(s string) string {
		if s == "" {
			return ""
		}
		return ", tls: {" + s + "}"
	}
	return fmt.Sprintf("listeners: [{address: \"127.0.0.1:0\", header_timeout: 1s%s}]\nadmin: {address: \"127.0.0.1:0\"}\n"+
		"pools: {ivr: {health: {probe: none}%s, backends: [%s]}}\n", section(listenerTLS), section(poolTLS), strings.Join(backends, ", "))
}

// server and client are the identity as the two sides' sections.
func (id identity) server() string {
	return fmt.Sprintf("cert_file: %s, key_file: %s, client_ca_file: %s", id.cert, id.key, id.ca)
}

func (id identity) client() string {
	return fmt.Sprintf("cert_file: %s, key_file: %s, ca_file: %s", id.cert, id.key, id.ca)
}

// at is a backend at another program's listener.
func at(p *program) string { return fmt.Sprintf("{name: hop, address: %q}", p.addr(0)) }

// A hop is two programs with TLS between them.
type hop struct {
	server *server
	a, b   *program
}

func startHop(t *testing.T, client, far identity) *hop {
	t.Helper()
	h := &hop{server: startServer(t, "ivr1")}
	h.b = serve(t, secured(far.server(), "", h.server.entry("")))
	h.a = serve(t, secured("", client.client(), at(h.b)))
	return h
}

func TestHopByTLS(t *testing.T) {
	ca := newAuthority(t)
	h := startHop(t, ca.issue(t.TempDir()), ca.issue(t.TempDir()))
	for range 10 {
		place(t, h.a.addr(0), "menu").wantServed("ivr1")
	}
	held := hold(t, h.a.addr(0), "hold", h.server)
	h.server.release()
	held.wantServed("ivr1")
	h.a.wantOutcomes(map[string]uint64{"completed": 11})
	h.b.wantOutcomes(map[string]uint64{"completed": 11})
	h.b.wantSeries(11, "agiproxy_attempts_total", "ivr1", "ivr", "served")
	if _, ok := h.a.series("agiproxy_tls_certificate_expiry_timestamp_seconds", "", "ivr"); !ok {
		t.Error("nothing says when the pool's certificate expires")
	}
}

// Each refusal is told by both sides, with its cause, and the dialplan is told as well.
func TestHopRefused(t *testing.T) {
	for _, tt := range []struct {
		name           string
		client, server func(ca, other *authority, dir string) identity
		atA, atB       string // what the logs say
	}{
		{name: "the server's certificate has expired",
			server: func(ca, _ *authority, dir string) identity { return ca.issue(dir, expired) },
			atA:    "x509: certificate has expired or is not yet valid", atB: "remote error: tls: "},
		{name: "the server's certificate is for another name",
			server: func(ca, _ *authority, dir string) identity { return ca.issue(dir, wrongName) },
			atA:    "x509: certificate is valid for 192.0.2.1, not 127.0.0.1", atB: "remote error: tls: "},
		{name: "the server's authority is unknown",
			server: func(ca, other *authority, dir string) identity {
				id := other.issue(dir)
				writePEM(t, id.ca, "CERTIFICATE", ca.cert.Raw)
				return id
			},
			atA: "x509: certificate signed by unknown authority", atB: "remote error: tls: "},
		{name: "the client's certificate has expired",
			client: func(ca, _ *authority, dir string) identity { return ca.issue(dir, expired) },
			atA:    "the peer refuses: remote error: tls: ", atB: "x509: certificate has expired or is not yet valid"},
		{name: "the client shows no certificate",
			client: func(ca, _ *authority, dir string) identity { return identity{ca: ca.issue(dir).ca} },
			atA:    "the peer refuses: remote error: tls: ", atB: "client didn't provide a certificate"},
		{name: "the client's authority is unknown",
			client: func(ca, other *authority, dir string) identity {
				id := other.issue(dir)
				writePEM(t, id.ca, "CERTIFICATE", ca.cert.Raw)
				return id
			},
			atA: "the peer refuses: remote error: tls: ", atB: "x509: certificate signed by unknown authority"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ca, other := newAuthority(t), newAuthority(t)
			client, server := ca.issue(t.TempDir()), ca.issue(t.TempDir())
			if tt.client != nil {
				client = tt.client(ca, other, t.TempDir())
			}
			if tt.server != nil {
				server = tt.server(ca, other, t.TempDir())
			}
			h := startHop(t, client, server)
			place(t, h.a.addr(0), "menu").wantFailure("NOBACKEND")
			h.a.wantSeries(1, "agiproxy_attempts_total", "hop", "ivr", "tls")
			h.a.log.wantSoon(tt.atA)
			h.b.log.wantSoon(tt.atB)
			h.b.wantSeries(1, "agiproxy_rejected_connections_total", "127.0.0.1:0", "tls")
			if n := h.server.read(&h.server.begun); n != 0 {
				t.Errorf("%d scripts have begun; want none", n)
			}
		})
	}
}

// A client is locked out by taking its authority out of the file, and calls under way
// go on.
func TestClientRevokedByRemoval(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	server := ca.issue(t.TempDir())
	h := startHop(t, ca.issue(t.TempDir()), server)
	held := hold(t, h.a.addr(0), "hold", h.server)
	writePEM(t, server.ca, "CERTIFICATE", other.cert.Raw)
	eventually(t, "the new file is in use", func() bool { return h.b.log.count("certificates reloaded") > 0 })
	place(t, h.a.addr(0), "menu").wantFailure("NOBACKEND")
	h.a.log.wantSoon("the peer refuses: remote error: tls: ")
	h.b.log.wantSoon("x509: certificate signed by unknown authority")
	h.server.release()
	held.wantServed("ivr1")
}

// Certificates that are replaced are taken into use by themselves and by a reload,
// and never if they can't be used.
func TestCertificatesReplaced(t *testing.T) {
	ca := newAuthority(t)
	dir := t.TempDir()
	server := ca.issue(dir)
	h := startHop(t, ca.issue(t.TempDir()), server)
	serial := func() *big.Int {
		cfg := &tls.Config{InsecureSkipVerify: true}
		c, err := tls.Dial("tcp", h.b.addr(0), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber
	}
	first := serial()
	held := hold(t, h.a.addr(0), "hold", h.server)
	ca.issue(dir)
	eventually(t, "the new certificate", func() bool { return serial().Cmp(first) != 0 })

	second := serial()
	ca.issue(dir)
	h.b.reload(h.b.file)
	if third := serial(); third.Cmp(second) == 0 {
		t.Error("a reload has left the certificate before in use")
	}

	third := serial()
	if err := os.WriteFile(server.cert, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.b.Reload(); err == nil || !strings.Contains(err.Error(), "listener 127.0.0.1:0: tls: "+server.cert) {
		t.Errorf("Reload() with a broken certificate = %v; want an error that names the listener and the file", err)
	}
	eventually(t, "the error is told", func() bool { return h.b.log.count("certificates not reloaded") > 0 })
	if serial().Cmp(third) != 0 {
		t.Error("a broken certificate has changed what is in use")
	}
	place(t, h.a.addr(0), "menu").wantServed("ivr1")
	h.server.release()
	held.wantServed("ivr1")
}

// TLS of a listener goes on and off with a reload, on the same socket.
func TestReloadTurnsTLSOnAndOff(t *testing.T) {
	ca := newAuthority(t)
	id := ca.issue(t.TempDir())
	s := startServer(t, "ivr1")
	plain := secured("", "", s.entry(""))
	p := serve(t, plain)
	a := serve(t, secured("", id.client(), at(p)))
	addr := p.addr(0)
	held := hold(t, addr, "hold", s)
	p.reload(secured(id.server(), "", s.entry("")))
	if p.addr(0) != addr {
		t.Errorf("the listener is on %s; want %s as before", p.addr(0), addr)
	}
	place(t, a.addr(0), "menu").wantServed("ivr1")
	if r := place(t, addr, "menu").result(); r.Status != "FAILURE" {
		t.Errorf("a plain call to a TLS listener: %s (%v); want FAILURE", r.Status, r.Err)
	}
	p.log.wantSoon("it speaks plain FastAGI, and this listener wants TLS")
	p.reload(plain)
	place(t, addr, "menu").wantServed("ivr1")
	place(t, a.addr(0), "menu").wantFailure("NOBACKEND")
	a.log.wantSoon("the peer doesn't speak TLS")
	p.log.wantSoon("it speaks TLS, and this listener doesn't")
	s.release()
	held.wantServed("ivr1")
}

// A listener that is open to all by TLS, and to nobody here by plain TCP, serves no
// plain call at any moment while a reload leads from one to the other.
func TestReloadNeverMixesLimits(t *testing.T) {
	ca := newAuthority(t)
	s := startServer(t, "ivr1")
	allow := func(networks, tls string) string {
		return strings.Replace(secured(tls, "", s.entry("")), "header_timeout", "allow: ["+networks+"], header_timeout", 1)
	}
	closed, open := allow("10.0.0.0/8", ""), allow("any", ca.issue(t.TempDir()).server())
	p := serve(t, closed)
	to, done := p.addr(0), make(chan struct{})
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				c, err := net.Dial("tcp", to)
				if err != nil {
					continue
				}
				c.SetDeadline(time.Now().Add(patience))
				io.WriteString(c, "agi_network: yes\nagi_network_script: menu\n\n")
				if text, _ := io.ReadAll(io.LimitReader(c, 8)); len(text) > 0 && string(text) != proxy.FailureLine {
					t.Errorf("a plain call was told %q; want no more than a failure", text)
				}
				c.Close()
			}
		})
	}
	for range 400 {
		p.reload(open)
		p.reload(closed)
	}
	close(done)
	callers.Wait()
}

// A session by TLS stays with the process that has it.
func TestUpgradeDrainsTLS(t *testing.T) {
	ca := newAuthority(t)
	h := startHop(t, ca.issue(t.TempDir()), ca.issue(t.TempDir()))
	held := hold(t, h.a.addr(0), "hold", h.server)
	b := h.b.upgrade(h.b.file)
	a := h.a.upgrade(h.a.file)
	for _, p := range []*program{h.a, h.b} {
		if p.server.Sessions() != 1 || len(p.end) > 0 {
			t.Errorf("%d sessions are left; want 1, and the process there", p.server.Sessions())
		}
	}
	place(t, a.addr(0), "menu").wantServed("ivr1")
	h.server.release()
	held.wantServed("ivr1")
	h.a.ended()
	h.b.ended()
	for _, p := range []*program{a, b} {
		eventually(t, "the counts of the process before", func() bool {
			n, _ := p.series("agiproxy_sessions_total", "completed", "ivr")
			return n == 2
		})
	}
}

// Probes go by TLS too, and a client certificate that is refused shows in both kinds.
func TestProbesByTLS(t *testing.T) {
	for _, probe := range []string{"agi", "tcp"} {
		t.Run(probe, func(t *testing.T) {
			ca, other := newAuthority(t), newAuthority(t)
			far := ca.issue(t.TempDir())
			s := startServer(t, "ivr1")
			b := serve(t, secured(far.server(), "", s.entry("")))
			stranger := other.issue(t.TempDir())
			writePEM(t, stranger.ca, "CERTIFICATE", ca.cert.Raw)
			probed := func(id identity) string {
				return strings.Replace(secured("", id.client(), at(b)), "probe: none", "probe: "+probe+", interval: 20ms, fast_interval: 20ms", 1)
			}
			a := serve(t, probed(ca.issue(t.TempDir())))
			place(t, a.addr(0), "menu").wantServed("ivr1")
			a.state("hop", "up")
			a.reload(probed(stranger))
			eventually(t, "the backend is down", func() bool { return !a.backend("hop").Healthy() })
			if n, _ := a.series("agiproxy_probe_failures_total", "hop", "ivr", "tls"); n == 0 {
				t.Error("no failed probe has the reason tls")
			}
			a.log.wantSoon("the peer refuses: remote error: tls: ")
		})
	}
}

// A client that connects and says nothing is gone after header_timeout, and one that
// nobody has invited gets no handshake.
func TestHandshakeIsBounded(t *testing.T) {
	ca := newAuthority(t)
	id := ca.issue(t.TempDir())
	s := startServer(t, "ivr1")
	f := secured(id.server(), "", s.entry(""))
	p := serve(t, f)
	silent, err := net.Dial("tcp", p.addr(0))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	silent.Write([]byte{recordHandshake})
	silent.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadAll(silent); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a handshake that is not gone on with: %v; want %v", err, syscall.ECONNRESET)
	}
	p.log.wantSoon("TLS handshake: not over in time")

	p.reload(strings.Replace(f, "header_timeout", "allow: [192.0.2.1], header_timeout", 1))
	if _, err := tls.Dial("tcp", p.addr(0), &tls.Config{InsecureSkipVerify: true}); err == nil || !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") {
		t.Errorf("a client that is not welcome: %v; want an end without a byte", err)
	}
	eventually(t, "it is counted", func() bool {
		n, _ := p.series("agiproxy_rejected_connections_total", "127.0.0.1:0", "not_allowed")
		return n == 1
	})
}

// recordHandshake begins a connection by TLS.
const recordHandshake = 22

func TestTooManyHandshakes(t *testing.T) {
	ca := newAuthority(t)
	id := ca.issue(t.TempDir())
	s := startServer(t, "ivr1")
	p := serve(t, strings.Replace(secured(id.server(), "", s.entry("")), "header_timeout: 1s", "header_timeout: 5m", 1))
	var conns []net.Conn
	for i := range mostHandshakes + 3 {
		conns = append(conns, silence(t, i/mostHandshakesOfOne+1, p.addr(0)))
	}
	eventually(t, "the last are refused", func() bool {
		n, _ := p.series("agiproxy_rejected_connections_total", "127.0.0.1:0", "tls_handshakes")
		return n == 3
	})
	if n := p.log.count("reason=tls_handshakes"); n > 2 {
		t.Errorf("%d records of refusals within a moment; want one a second", n)
	}
	for _, c := range conns {
		c.Close()
	}
	a := serve(t, secured("", id.client(), at(p)))
	eventually(t, "there is room again", func() bool { return p.handshakes.n.Load() == 0 })
	place(t, a.addr(0), "menu").wantServed("ivr1")
}

// silence begins a handshake from 127.0.0.n and goes on with nothing.
func silence(t *testing.T, n int, address string) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(n))}}).Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.Write([]byte{recordHandshake})
	return c
}

// One source that says nothing leaves room for the others.
func TestOneSourceShakesHandsWithoutEnd(t *testing.T) {
	ca := newAuthority(t)
	id := ca.issue(t.TempDir())
	s := startServer(t, "ivr1")
	p := serve(t, strings.Replace(secured(id.server(), "", s.entry("")), "header_timeout: 1s", "header_timeout: 5m", 1))
	for range mostHandshakes {
		silence(t, 66, p.addr(0))
	}
	eventually(t, "three quarters of one source's are refused", func() bool {
		n, _ := p.series("agiproxy_rejected_connections_total", "127.0.0.1:0", "tls_handshakes")
		return n == mostHandshakes-mostHandshakesOfOne
	})
	p.log.wantSoon("too many TLS handshakes of this source are under way")
	a := serve(t, secured("", id.client(), at(p)))
	place(t, a.addr(0), "menu").wantServed("ivr1")
}

// A connection counts for its source from the handshake on, once.
func TestSourceLimitsHoldForHandshakes(t *testing.T) {
	ca := newAuthority(t)
	id := ca.issue(t.TempDir())
	s := startServer(t, "ivr1")
	for _, c := range []struct{ name, limit, reason string }{
		{"sessions", "max_sessions_per_source: 2", "source_max_sessions"},
		{"rate", "rate: {sessions_per_second: 0.001, burst: 2}", "rate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := serve(t, strings.Replace(secured(id.server(), "", s.entry("")), "header_timeout: 1s", c.limit+", header_timeout: 5m", 1))
			first, second := silence(t, 1, p.addr(0)), silence(t, 1, p.addr(0))
			eventually(t, "two handshakes", func() bool { return p.handshakes.n.Load() == 2 })
			silence(t, 1, p.addr(0))
			eventually(t, "a third is refused", func() bool {
				n, _ := p.series("agiproxy_rejected_connections_total", "127.0.0.1:0", c.reason)
				return n == 1
			})
			first.Close()
			second.Close()
			eventually(t, "the end of the handshakes", func() bool { return p.handshakes.n.Load() == 0 })
			if c.name == "rate" {
				return // they have used it up
			}
			a := serve(t, secured("", id.client(), at(p)))
			for range 5 { // none of which leaves anything counted
				place(t, a.addr(0), "menu").wantServed("ivr1")
				eventually(t, "its end", func() bool { return p.server.Sessions() == 0 })
			}
			held := hold(t, a.addr(0), "hold", s)
			silence(t, 1, p.addr(0))
			eventually(t, "a handshake beside a call", func() bool { return p.handshakes.n.Load() == 1 })
			silence(t, 1, p.addr(0))
			eventually(t, "one more is refused", func() bool {
				n, _ := p.series("agiproxy_rejected_connections_total", "127.0.0.1:0", c.reason)
				return n == 2
			})
			s.release()
			held.wantServed("ivr1")
		})
	}
}

// wantSoon is want for what is told a moment later than the test sees it happen.
func (j *journal) wantSoon(text string) {
	j.t.Helper()
	for end := time.Now().Add(patience); j.count(text) == 0 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	j.want(text)
}

// The Asterisk's address goes along, inside of TLS.
func TestPROXYHeaderByTLS(t *testing.T) {
	ca := newAuthority(t)
	far, near := ca.issue(t.TempDir()), ca.issue(t.TempDir())
	s := startServer(t, "ivr1")
	b := serve(t, strings.Replace(secured(far.server(), "", s.entry("")), "header_timeout", "accept_proxy_protocol: [127.0.0.1], header_timeout", 1))
	a := serve(t, strings.Replace(secured("", near.client(), at(b)), "probe: none}", "probe: none}, send_proxy_protocol: v2", 1))
	asterisk := agisim.Asterisk{Dial: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 77)}}).DialContext}
	r := asterisk.Run(t.Context(), agisim.Call{Address: a.addr(0), Environment: agi.Environment{Script: "menu"}})
	if r.Variables["SERVED_BY"] != "ivr1" {
		t.Errorf("call: %s (%v); want it served", r.Status, r.Err)
	}
	b.log.wantSoon("client=127.0.0.77:")
}

// A handshake that is under way when agiproxy is told to stop still becomes a call.
func TestDrainAwaitsHandshakes(t *testing.T) {
	ca := newAuthority(t)
	id := ca.issue(t.TempDir())
	s := startServer(t, "ivr1")
	p := serve(t, strings.Replace(secured(id.server(), "", s.entry("")), "header_timeout: 1s", "header_timeout: 1m", 1))
	pair, err := tls.LoadX509KeyPair(id.cert, id.key)
	if err != nil {
		t.Fatal(err)
	}
	gate := make(chan struct{})
	asterisk := agisim.Asterisk{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		raw, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return tls.Client(&hesitant{raw, gate, false}, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}), nil
	}}
	done := make(chan agisim.Result, 1)
	go func() {
		done <- asterisk.Run(t.Context(), agisim.Call{Address: p.addr(0), Environment: agi.Environment{Script: "menu"}})
	}()
	eventually(t, "a handshake under way", func() bool { return p.handshakes.n.Load() == 1 })
	p.stop()
	p.log.wantSoon("draining")
	time.Sleep(2 * drainLook)
	close(gate)
	if r := <-done; r.Variables["SERVED_BY"] != "ivr1" {
		t.Errorf("a call whose handshake was under way at the stop: %s (%v); want it served", r.Status, r.Err)
	}
}

// A hesitant connection sends one byte, and the rest when its gate is open.
type hesitant struct {
	net.Conn
	gate  chan struct{}
	begun bool
}

func (h *hesitant) Write(p []byte) (int, error) {
	if h.begun {
		return h.Conn.Write(p)
	}
	h.begun = true
	if _, err := h.Conn.Write(p[:1]); err != nil {
		return 0, err
	}
	<-h.gate
	n, err := h.Conn.Write(p[1:])
	return n + 1, err
}

// check says what a start would.
func TestCheckLoadsCertificates(t *testing.T) {
	ca := newAuthority(t)
	id := ca.issue(t.TempDir())
	p := &program{t: t, file: secured(id.server(), id.client(), "127.0.0.1:1")}
	cfg, err := p.read()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Check(cfg); err != nil {
		t.Errorf("Check() = %v; want nil", err)
	}
	os.Remove(id.key)
	want := "listener 127.0.0.1:0: tls: open " + id.key + ": no such file or directory"
	if _, err := Check(cfg); err == nil || err.Error() != want {
		t.Errorf("Check() = %v; want %s", err, want)
	}
	if _, err := New(Options{Config: cfg}); err == nil || err.Error() != want {
		t.Errorf("New() = %v; want %s", err, want)
	}
}

func TestWarnsOfExpiry(t *testing.T) {
	ca := newAuthority(t)
	id := ca.issue(t.TempDir(), func(c *x509.Certificate) { c.NotAfter = time.Now().Add(13 * 24 * time.Hour) })
	s := startServer(t, "ivr1")
	p := serve(t, secured(id.server(), "", s.entry("")))
	eventually(t, "a warning", func() bool { return p.log.count("certificate is about to expire") == 1 })
}

func TestCheckWarnsOfExpiry(t *testing.T) {
	ca := newAuthority(t)
	day := func(n int) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Duration(n)*24*time.Hour + time.Hour) }
	}
	dead, soon, later := ca.issue(t.TempDir(), expired), ca.issue(t.TempDir(), day(13)), ca.issue(t.TempDir(), day(15))
	for _, c := range []struct {
		listener, pool string
		want           []string
	}{
		{dead.server(), "", []string{"certificate " + dead.cert + " has expired: the other side refuses it"}},
		{later.server(), soon.client(), []string{"certificate " + soon.cert + " expires in 13 days"}},
		{later.server(), later.client(), nil},
	} {
		cfg, err := config.Parse("f", []byte(secured(c.listener, c.pool, "10.0.0.1:4573")))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Check(cfg); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("Check() = %q, %v; want %q", got, err, c.want)
		}
	}
}
