package legs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain fails if the tests have left goroutines behind.
func TestMain(m *testing.M) {
	before := runtime.NumGoroutine()
	code := m.Run()
	for range 200 {
		if runtime.NumGoroutine() <= before {
			os.Exit(code)
		}
		time.Sleep(10 * time.Millisecond)
	}
	stacks := make([]byte, 1<<20)
	fmt.Fprintf(os.Stderr, "goroutines are left over\n%s", stacks[:runtime.Stack(stacks, true)])
	os.Exit(1)
}

// A desk is a loop without a kernel: what it is given it does in order.
type desk struct {
	work chan func()
	wg   sync.WaitGroup
}

func newDesk(t *testing.T) *desk {
	d := &desk{work: make(chan func(), 1<<16)}
	d.wg.Go(func() {
		for f := range d.work {
			f()
		}
	})
	t.Cleanup(func() { close(d.work); d.wg.Wait() })
	return d
}

func (d *desk) Do(f func()) error { d.work <- f; return nil }

func (d *desk) Timer(func()) (set func(time.Duration), release func()) {
	return func(time.Duration) {}, func() {}
}

// on runs f on the desk and waits.
func (d *desk) on(f func()) {
	done := make(chan struct{})
	d.Do(func() { f(); close(done) })
	<-done
}

// A pad notes what a connection tells.
type pad struct {
	mu       sync.Mutex
	events   []string
	received int
	on       func(event string)
}

func (p *pad) note(event string) {
	p.mu.Lock()
	p.events = append(p.events, event)
	p.mu.Unlock()
	if p.on != nil {
		p.on(event)
	}
}

func (p *pad) Connected() { p.note("connected") }
func (p *pad) Drained()   { p.note("drained") }
func (p *pad) TimedOut()  {}
func (p *pad) Received(b []byte) {
	p.mu.Lock()
	p.received += len(b)
	p.mu.Unlock()
	p.note("received")
}
func (p *pad) Closed(err error) { p.note(fmt.Sprint("closed ", err)) }

func (p *pad) last() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.events) == 0 {
		return ""
	}
	return p.events[len(p.events)-1]
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10s", what)
		}
	}
}

// files writes a certificate that has signed itself, with its key and as the CA.
func files(t *testing.T, dir string) Files {
	t.Helper()
	f := Files{filepath.Join(dir, "crt"), filepath.Join(dir, "key"), filepath.Join(dir, "ca")}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	o := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, o, o, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, f.Key, "PRIVATE KEY", pkcs8)
	write(t, f.Cert, "CERTIFICATE", der)
	write(t, f.CA, "CERTIFICATE", der)
	return f
}

func write(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func material(t *testing.T) *Material {
	t.Helper()
	m, err := Load(files(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// listen returns where serve is called with each stream, after its handshake unless
// that has failed.
func listen(t *testing.T, cfg *tls.Config, serve func(s *Stream, err error)) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				s := Server(c.(*net.TCPConn), cfg)
				serve(s, s.Handshake(t.Context()))
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// connect makes a connection of the desk's.
func connect(t *testing.T, d *desk, g *Group, to netip.AddrPort, cfg *tls.Config, p *pad) (c *Conn) {
	t.Helper()
	d.on(func() {
		c = g.Connect(d, to, func(ctx context.Context) (*Stream, error) { return Dial(ctx, to, cfg) }, p)
	})
	t.Cleanup(g.Close)
	return c
}

// How a connection ends is told as it was.
func TestEnds(t *testing.T) {
	m := material(t)
	for _, tt := range []struct {
		name string
		end  func(s *Stream)
		want string
	}{
		{"in order", func(s *Stream) { s.Close() }, "closed <nil>"},
		{"without close_notify", func(s *Stream) { s.Abandon() }, "closed " + ErrCut.Error()},
		{"in the middle of a record", func(s *Stream) { s.Raw().Write([]byte{23, 3, 3, 0, 99, 1}); s.Abandon() }, "closed " + ErrCut.Error()},
		{"by a reset", func(s *Stream) { s.finish(true) }, fmt.Sprint("closed ", syscall.ECONNRESET)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			to := listen(t, m.Server(), func(s *Stream, err error) {
				if err != nil { // it asks for a certificate, and gets one
					t.Error(err)
				}
				s.Write([]byte("hello"))
				tt.end(s)
			})
			p := new(pad)
			connect(t, newDesk(t), new(Group), to, m.Client("127.0.0.1"), p)
			eventually(t, tt.want, func() bool { return p.last() == tt.want })
		})
	}
}

// With TLS 1.3 a client is done before its certificate was looked at.
func TestRefusalAfterTheHandshake(t *testing.T) {
	server, other := material(t), material(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			to := listen(t, server.Server(), func(s *Stream, err error) {
				if err == nil {
					t.Error("a client of an unknown authority was accepted")
				}
				s.Raw().CloseWrite()
				io.Copy(io.Discard, s.Raw())
				s.Abandon()
			})
			cfg := other.Client("127.0.0.1")
			cfg.RootCAs, cfg.MaxVersion = server.ca, version
			s, err := Dial(t.Context(), to, cfg)
			if err == nil {
				_, err = s.Read(make([]byte, 1))
				s.Abandon()
			}
			h, ok := errors.AsType[*HandshakeError](err)
			if !ok || !h.Handshake() || !strings.Contains(err.Error(), "remote error: tls: ") {
				t.Errorf("the refusal came as %v; want a HandshakeError that has the peer's word", err)
			}
		})
	}
}

// Who was not heard out is told so by a reset, since for a client of TLS 1.3 all may be
// said by then.
func TestHandshakeGivenUpIsAReset(t *testing.T) {
	m := material(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	s := Server(accepted.(*net.TCPConn), m.Server())
	if err := s.Handshake(ctx); err == nil {
		t.Error("a handshake with a silent client is done")
	}
	s.Abandon()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client has its end as %v; want %v", err, syscall.ECONNRESET)
	}
}

// A client that comes again has its certificate looked at again: nothing is left of the
// handshake before by which it could do without.
func TestNothingIsResumed(t *testing.T) {
	m := material(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			to := listen(t, m.Server(), func(s *Stream, err error) {
				if err != nil {
					t.Error(err)
				}
				s.Write([]byte("hello"))
				s.Close()
			})
			cfg := m.Client("127.0.0.1")
			cfg.ClientSessionCache, cfg.MaxVersion = tls.NewLRUClientSessionCache(4), version
			for i := range 3 {
				s, err := Dial(t.Context(), to, cfg)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, s) // tickets come with what is read
				if s.ConnectionState().DidResume {
					t.Errorf("connection %d goes on with the session of one before; want a handshake of its own", i+1)
				}
				s.Close()
			}
		})
	}
}

func TestOldVersionsAreRefused(t *testing.T) {
	m := material(t)
	old := func(cfg *tls.Config) *tls.Config {
		cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		return cfg
	}
	for name, cfg := range map[string]struct{ server, client *tls.Config }{
		"a client's": {m.Server(), old(m.Client("127.0.0.1"))},
		"a server's": {old(m.Server()), m.Client("127.0.0.1")},
	} {
		to := listen(t, cfg.server, func(s *Stream, err error) {
			if err == nil {
				t.Errorf("%s handshake of TLS 1.1 is over; want it refused", name)
			}
			s.Raw().CloseWrite()
			io.Copy(io.Discard, s.Raw())
			s.Abandon()
		})
		if s, err := Dial(t.Context(), to, cfg.client); err == nil {
			t.Errorf("%s TLS 1.1 was agreed on; want it refused", name)
			s.Abandon()
		}
	}
}

// A peer that has sent more than was taken is told so by a reset, although nothing of
// it is in the kernel any more.
func TestUnreadIsToldByAReset(t *testing.T) {
	m := material(t)
	d, g := newDesk(t), new(Group)
	ended := make(chan error, 1)
	ready, sent := make(chan struct{}), make(chan struct{})
	to := listen(t, m.Server(), func(s *Stream, _ error) {
		<-ready
		s.Write([]byte("one")) // which the reader has in its hands while the others come
		time.Sleep(20 * time.Millisecond)
		s.Write([]byte("two"))
		s.Write([]byte("three")) // is read from the kernel with two, in a record of its own
		close(sent)
		_, err := s.Read(make([]byte, 1))
		ended <- err
		s.Abandon()
	})
	var c *Conn
	p, pieces := &pad{}, 0
	p.on = func(event string) {
		if event == "received" {
			if pieces++; pieces == 2 {
				c.Close()
			}
		}
	}
	c = connect(t, d, g, to, m.Client("127.0.0.1"), p)
	d.on(c.Pause)
	close(ready)
	<-sent
	time.Sleep(20 * time.Millisecond)
	d.on(c.Resume)
	if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the peer has its end as %v; want %v", err, syscall.ECONNRESET)
	}
}

// The same holds for what is in the kernel still: of an orderly end there is no word.
func TestUnreadInTheKernelIsToldByAReset(t *testing.T) {
	m := material(t)
	ready, sent, closed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	to := listen(t, m.Server(), func(s *Stream, _ error) {
		close(ready)
		<-sent
		s.Close()
		close(closed)
	})
	s, err := Dial(t.Context(), to, m.Client("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Abandon()
	<-ready // it has read no further than the handshake
	s.Write([]byte("unread"))
	close(sent)
	<-closed
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the peer has its end as %v; want %v", err, syscall.ECONNRESET)
	}
}

// Of a write and a read that a reset ends, the kernel tells one of the reset, and the
// other of an end. Which of them hears first what it has doesn't matter.
func TestResetIsToldOnceTheWriteKnows(t *testing.T) {
	m := material(t)
	to := listen(t, m.Server(), func(s *Stream, _ error) {
		s.Read(make([]byte, 1))
		s.Abandon()
	})
	d, p := newDesk(t), new(pad)
	c := connect(t, d, new(Group), to, m.Client("127.0.0.1"), p)
	eventually(t, "a connection", func() bool { return p.last() == "connected" })
	c.mu.Lock()
	c.busy = true
	c.mu.Unlock()
	why := make(chan error)
	go func() { why <- c.whyCut() }() // the reader has heard first
	select {
	case err := <-why:
		t.Fatalf("whyCut() = %v with a write under way; want it to wait", err)
	case <-time.After(50 * time.Millisecond):
	}
	c.wrote(syscall.ECONNRESET)
	if err := <-why; err != syscall.ECONNRESET {
		t.Errorf("whyCut() = %v after a write that a reset has ended; want %v", err, syscall.ECONNRESET)
	}
}

// A connection that is paused takes one piece and what TCP and TLS hold, no more.
func TestPausedIsBounded(t *testing.T) {
	m := material(t)
	d, g := newDesk(t), new(Group)
	sent := make(chan int, 1)
	to := listen(t, m.Server(), func(s *Stream, err error) {
		s.Raw().SetWriteBuffer(64 << 10)
		s.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		n := 0
		for {
			k, err := s.Write(make([]byte, 16<<10))
			n += k
			if err != nil || n > 64<<20 {
				break
			}
		}
		sent <- n
		s.Abandon()
	})
	p := new(pad)
	c := connect(t, d, g, to, m.Client("127.0.0.1"), p)
	d.on(c.Pause)
	if n := <-sent; n > 32<<20 {
		t.Errorf("a peer could send %d bytes to a connection that is paused; want what the kernel holds", n)
	}
	d.on(func() {
		if len(c.piece) > pieceSize || p.received > pieceSize {
			t.Errorf("%d bytes wait and %d were received while paused; want one piece", len(c.piece), p.received)
		}
	})
}

// A Group's Close ends what is under way, in whatever state.
func TestGroupCloses(t *testing.T) {
	m := material(t)
	d, g := newDesk(t), new(Group)
	to := listen(t, m.Server(), func(s *Stream, err error) {
		s.Read(make([]byte, 1))
		s.Abandon()
	})
	silent, err := net.Listen("tcp", "127.0.0.1:0") // connects, and shakes no hands
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	open, greeting := new(pad), new(pad)
	connect(t, d, g, to, m.Client("127.0.0.1"), open)
	connect(t, d, g, silent.Addr().(*net.TCPAddr).AddrPort(), m.Client("127.0.0.1"), greeting)
	eventually(t, "a connection", func() bool { return open.last() == "connected" })
	done := make(chan struct{})
	go func() { g.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("Close() has not returned within 5s")
	}
}

func TestRefreshTakesWhatIsWhole(t *testing.T) {
	dir := t.TempDir()
	f := files(t, dir)
	m, err := Load(f)
	if err != nil {
		t.Fatal(err)
	}
	c := NewCredentials(m)
	refresh := func(what string, changed, fails bool) {
		t.Helper()
		got, err := c.Refresh()
		if got != changed || (err != nil) != fails {
			t.Errorf("Refresh() %s = %v, %v; want %v, and an error: %v", what, got, err, changed, fails)
		}
	}
	refresh("with nothing new", false, false)
	files(t, dir)
	refresh("with new files", true, false)
	refresh("after that", false, false)

	now := c.Material()
	whole, err := os.ReadFile(f.Key)
	if err != nil {
		t.Fatal(err)
	}
	files(t, t.TempDir())
	other := files(t, t.TempDir())
	key, _ := os.ReadFile(other.Key)
	os.WriteFile(f.Key, key, 0o600)
	refresh("between a key and its certificate", false, false)
	refresh("when it stays so", false, true)
	refresh("which is told once", false, false)
	os.Remove(f.Key)
	refresh("when it is gone", false, false)
	refresh("when it stays gone", false, true)
	if c.Material() != now {
		t.Error("files that can't be used have changed what is in use")
	}
	os.WriteFile(f.Key, whole, 0o600)
	refresh("when all is well again", true, false)
}
