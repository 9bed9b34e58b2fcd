package sim_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"agiproxy/internal/legs"
	"agiproxy/internal/sim"
)

// notByLegs are the cases that TLS, or a goroutine in the middle, makes different,
// with the reason.
var notByLegs = map[string]string{
	"close with bytes buffered drops them":         "the end of what was cut short is not an orderly one",
	"accept and close, as a writer sees it":        "records are larger than what is in them, and a close takes a moment",
	"close while connecting, of what was accepted": "who gives up in the middle of a handshake has no way to say so by TLS",
}

// A legsWorld is this machine's loopback, with one loop, and TLS on every connection.
type legsWorld struct {
	*loopWorld
	group          *legs.Group
	server, client *tls.Config
}

func newLegsWorld(t *testing.T) *legsWorld {
	w := &legsWorld{loopWorld: newLoopWorld(t, loopback), group: new(legs.Group)}
	t.Cleanup(w.group.Close)
	cert := legsCertificate(t)
	pool := x509.NewCertPool()
	pool.AddCert(cert.Leaf)
	w.server = &tls.Config{Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true}
	w.client = &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
	return w
}

// legsCertificate is of this machine, by itself.
var legsCertificate = func() func(t *testing.T) tls.Certificate {
	var once sync.Once
	var cert tls.Certificate
	return func(t *testing.T) tls.Certificate {
		once.Do(func() {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			o := &x509.Certificate{
				SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
				IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
			}
			der, err := x509.CreateCertificate(rand.Reader, o, o, key.Public(), key)
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			cert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
		})
		return cert
	}
}()

func (w *legsWorld) listen(accept func(conn) sim.Handler) netip.AddrPort {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { w.greet(c.(*net.TCPConn), accept) })
		}
	})
	w.t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

func (w *legsWorld) greet(c *net.TCPConn, accept func(conn) sim.Handler) {
	s := legs.Server(c, w.server)
	if err := s.Handshake(w.t.Context()); err != nil {
		s.Abandon()
		return
	}
	err := w.loop.Do(func() {
		c := w.group.Attach(w.loop, s, c.RemoteAddr().(*net.TCPAddr).AddrPort())
		if h := accept(c); h != nil {
			c.Serve(h)
		} else {
			c.Close()
		}
	})
	if err != nil {
		s.Abandon()
	}
}

func (w *legsWorld) connect(to netip.AddrPort, h sim.Handler) conn {
	return w.group.Connect(w.loop, to, func(ctx context.Context) (*legs.Stream, error) {
		return legs.Dial(ctx, to, w.client)
	}, h)
}
