package app

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestInheritedSocketIsForItsAddress(t *testing.T) {
	for _, c := range []struct {
		socket, listener string
		want             bool
	}{
		{"127.0.0.1:4577", "127.0.0.1:4577", true},
		{"127.0.0.1:4577", "127.0.0.1:4578", false},
		{"127.0.0.1:4577", "127.0.0.2:4577", false},
		{"127.0.0.1:4577", ":4577", false},
		{"[::]:4577", ":4577", true},
		{"0.0.0.0:4577", ":4577", true},
		{"0.0.0.0:4577", "0.0.0.0:4577", true},
		{"[::]:4577", "0.0.0.0:4577", false},
		{"[::ffff:127.0.0.1]:4577", "127.0.0.1:4577", true},
		{"[2001:db8::1]:4577", "[2001:db8::1]:4577", true},
		{"127.0.0.1:4577", "localhost:4577", false},
	} {
		s := &inherited{addr: netip.MustParseAddrPort(c.socket)}
		if got := s.isFor(c.listener); got != c.want {
			t.Errorf("a socket on %s is for listener %q: %v; want %v", c.socket, c.listener, got, c.want)
		}
	}
}

// Whatever New is given it closes when it fails.
func TestInheritedSocketOfAnotherKindIsRefused(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	udp, err := conn.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	local, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	unix, err := local.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	p := prepare(t, file(unprobed, "127.0.0.1:1"))
	o := p.opts
	p.Close()
	p.run()
	p.ended()
	for _, f := range []*os.File{r, udp, unix} {
		o.Sockets = []*os.File{f}
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), "socket ") {
			t.Errorf("New with %s = %v; want it refused", f.Name(), err)
		}
		if err := f.Close(); err == nil {
			t.Errorf("%s is still open", f.Name())
		}
	}
}
