package admin

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// hash is what `htpasswd -nbBC 4 "" secret` prints.
const hash = "$2a$04$/Q72QehVlxlTUml88OJIKOAwBc7hNw4TNQrShLY.mmIbKVjCjGnty"

// An authority signs certificates for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	cert, key := a.sign("authority", true)
	a.pem = cert
	block, _ := pem.Decode(key)
	parsed, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	der, _ := pem.Decode(cert)
	a.cert, err = x509.ParseCertificate(der.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	a.key = parsed
	return a
}

// sign makes a certificate, and its key, as PEM.
func (a *authority) sign(name string, ca bool) (cert, key []byte) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: ca,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, private // itself
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &private.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

// client trusts the authority; with a name it has a certificate by it.
func (a *authority) client(name string) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	conf := &tls.Config{RootCAs: roots}
	if name != "" {
		pair, err := tls.X509KeyPair(a.sign(name, false))
		if err != nil {
			a.t.Fatal(err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
}

// webConfig writes a file of TLS and users beside its certificates.
func (a *authority) webConfig(text string) string {
	a.t.Helper()
	dir := a.t.TempDir()
	cert, key := a.sign("server", false)
	for name, content := range map[string][]byte{"server.crt": cert, "server.key": key, "ca.crt": a.pem, "web.yml": []byte(text)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return filepath.Join(dir, "web.yml")
}

// open serves with a file of TLS and users.
func open(t *testing.T, file string, log hclog.Logger) *Server {
	t.Helper()
	s, err := Listen(t.Context(), "127.0.0.1:0", Options{
		Registry: registry(), Control: newFakeControl(), Ready: func() error { return nil }, WebConfig: file, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve()
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return s
}

func status(t *testing.T, c *http.Client, url string, user ...string) (int, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(user) == 2 {
		r.SetBasicAuth(user[0], user[1])
	}
	response, err := c.Do(r)
	if err != nil {
		return 0, err
	}
	response.Body.Close()
	return response.StatusCode, nil
}

func TestUsersAndTLS(t *testing.T) {
	a := newAuthority(t)
	s := open(t, a.webConfig("tls_server_config: {cert_file: server.crt, key_file: server.key}\nbasic_auth_users: {ops: '"+hash+"'}\n"), nil)
	url := "https://" + s.Addr().String()
	for _, page := range []string{"/metrics", "/api/v1/status", "/-/ready", "/"} {
		for _, test := range []struct {
			user []string
			want int
		}{{nil, 401}, {[]string{"ops", "wrong"}, 401}, {[]string{"other", "secret"}, 401}, {[]string{"ops", "secret"}, 200}} {
			if got, err := status(t, a.client(""), url+page, test.user...); got != test.want || err != nil {
				t.Errorf("%s as %q: %d, %v; want %d", page, test.user, got, err, test.want)
			}
		}
	}
	if _, err := status(t, http.DefaultClient, url+"/metrics", "ops", "secret"); err == nil {
		t.Error("a client that doesn't know the authority was answered")
	}
	if got, err := status(t, http.DefaultClient, "http://"+s.Addr().String()+"/metrics", "ops", "secret"); got != 400 {
		t.Errorf("without TLS: %d, %v; want 400", got, err)
	}
}

func TestClientCertificates(t *testing.T) {
	a := newAuthority(t)
	s := open(t, a.webConfig("tls_server_config: {cert_file: server.crt, key_file: server.key, client_ca_file: ca.crt, client_auth_type: RequireAndVerifyClientCert}\n"), nil)
	url := "https://" + s.Addr().String() + "/api/v1/status"
	if got, err := status(t, a.client("ops"), url); got != 200 || err != nil {
		t.Errorf("with a certificate: %d, %v; want 200", got, err)
	}
	if got, err := status(t, a.client(""), url); err == nil {
		t.Errorf("without a certificate: %d; want an error", got)
	}
	stranger := newAuthority(t).client("ops")
	stranger.Transport.(*http.Transport).TLSClientConfig.RootCAs = a.client("").Transport.(*http.Transport).TLSClientConfig.RootCAs
	if got, err := status(t, stranger, url); err == nil {
		t.Errorf("with another authority's certificate: %d; want an error", got)
	}
}

// A file that breaks while agiproxy runs lets nobody in, and says so.
func TestWebConfigIsReadAgain(t *testing.T) {
	a := newAuthority(t)
	file := a.webConfig("basic_auth_users: {ops: '" + hash + "'}\n")
	var log bytes.Buffer
	s := open(t, file, hclog.New(&hclog.LoggerOptions{Output: &log}))
	url := "http://" + s.Addr().String() + "/api/v1/status"
	for _, step := range []struct {
		text string
		want int
	}{
		{"basic_auth_users: {ops: '" + hash + "'}\n", 200},
		{"basic_auth_users: {other: '" + hash + "'}\n", 401},
		{"nonsense", 500},
	} {
		if err := os.WriteFile(file, []byte(step.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := status(t, http.DefaultClient, url, "ops", "secret"); got != step.want || err != nil {
			t.Errorf("with %q: %d, %v; want %d", step.text, got, err, step.want)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	if !strings.Contains(log.String(), "[ERROR] Unable to parse configuration") {
		t.Errorf("log: %s; want an error", log.String())
	}
}

func TestListenRefusesBadWebConfig(t *testing.T) {
	a := newAuthority(t)
	for text, want := range map[string]string{
		"nonsense": "cannot unmarshal",
		"tls_server_config: {cert_file: no.crt, key_file: server.key}\n": "no.crt",
		"bogus: 1\n":                         "bogus",
		"basic_auth_users: {ops: 'plain'}\n": "hashedSecret too short",
	} {
		file := a.webConfig(text)
		s, err := Listen(t.Context(), "127.0.0.1:0", Options{Registry: registry(), WebConfig: file})
		if err == nil {
			s.Close()
			t.Errorf("Listen() with %q = nil; want an error", text)
			continue
		}
		if !strings.HasPrefix(err.Error(), fmt.Sprintf("web_config_file %s: ", file)) || !strings.Contains(err.Error(), want) {
			t.Errorf("Listen() with %q = %v; want the file, and %q", text, err, want)
		}
	}
}

// Streams end at Close, and don't keep it waiting for its whole second.
func TestCloseEndsStreams(t *testing.T) {
	s, err := Listen(t.Context(), "127.0.0.1:0", Options{Registry: registry(), Control: newFakeControl()})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve()
	}()
	r, err := http.Get("http://" + s.Addr().String() + "/api/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if _, err := r.Body.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	<-done
	if _, err := new(bytes.Buffer).ReadFrom(r.Body); err != nil {
		t.Errorf("the stream's end is %v; want an orderly one", err)
	}
	http.DefaultClient.CloseIdleConnections()
}
