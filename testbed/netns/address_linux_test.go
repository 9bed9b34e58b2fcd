package netns

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// refresh is how often agiproxy looks names up, see internal/resolve.
const refresh = 30 * time.Second

// TestAddressChanges has the name of a backend get another address, as after a move to
// another machine. New calls go there, and those under way end where they are.
func TestAddressChanges(t *testing.T) {
	const name = "ivr.example.com"
	s := empty(t, "old", "new")
	names := s.nameServer(t, s.backends[0].addr)
	s.proxy = s.startProxy(t, configuration("connect_timeout: 1s", fmt.Sprintf("{name: ivr, address: %q}", name+":4573")))
	s.served(s.call("NOOP"), time.Now(), slack, "old")
	underWay := s.call("EXEC Wait 40")
	s.underWay(s.backends[0], underWay, 2)

	changed := time.Now()
	names.set(s.backends[1].addr)
	s.arrivesAt("new", changed)
	s.served(underWay, changed, 40*time.Second+slack, "old")
	s.mustRest(slack)
}

// TestAddressChangesAsItsHostVanishes is the same with nobody at the old address.
func TestAddressChangesAsItsHostVanishes(t *testing.T) {
	const name = "ivr.example.com"
	s := empty(t, "old", "new")
	names := s.nameServer(t, s.backends[0].addr)
	s.proxy = s.startProxy(t, configuration("connect_timeout: 1s", fmt.Sprintf("{name: ivr, address: %q}", name+":4573")))
	s.served(s.call("NOOP"), time.Now(), slack, "old")

	changed := s.vanishes(s.backends[0])
	names.set(s.backends[1].addr)
	s.failed(s.call("NOOP"), time.Now(), slack, "NOBACKEND", "no_backend")
	s.arrivesAt("new", changed)
	s.mustRest(slack)
}

// arrivesAt makes one call after the other until one is served by that backend, which
// must be soon after names are looked up again.
func (s *stage) arrivesAt(backend string, changed time.Time) {
	s.t.Helper()
	eventually(s.t, refresh+slack-time.Since(changed), "a call comes to "+backend, func() bool {
		time.Sleep(time.Second)
		r, _ := s.wait(s.call("NOOP"), time.Now(), slack)
		return r.Served() && r.Variables["SERVED"] == backend
	})
	s.t.Logf("calls come to %s after %v", backend, time.Since(changed).Round(100*time.Millisecond))
}

// A names is a name server that has one address for all names.
type names struct{ addr atomic.Pointer[netip.Addr] }

func (n *names) set(addr netip.Addr) { n.addr.Store(&addr) }

// nameServer adds a name server to the stage, which all processes of the suite ask:
// each on its own network.
func (s *stage) nameServer(t *testing.T, addr netip.Addr) *names {
	t.Helper()
	n := new(names)
	n.set(addr)
	h := s.network.host(t, nameServer)
	var conn net.PacketConn
	err := h.do(func() (err error) {
		conn, err = net.ListenPacket("udp", nameServer+":53")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go n.serve(conn)

	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver "+nameServer+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(conf, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("another /etc/resolv.conf, in this suite's mount namespace: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount("/etc/resolv.conf", unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return n
}

// serve answers questions until conn is closed: an address if one of IPv4 is asked for,
// else nothing. Source: RFC 1035, section 4.1.
func (n *names) serve(conn net.PacketConn) {
	buf := make([]byte, 512)
	for {
		size, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		end := 12 // of the question: labels, then the type and the class
		for end < size && buf[end] != 0 {
			end += 1 + int(buf[end])
		}
		if end += 5; end > size {
			continue
		}
		answer := append([]byte(nil), buf[:end]...)
		binary.BigEndian.PutUint16(answer[2:], 0x8580) // an answer with authority
		clear(answer[6:12])
		if binary.BigEndian.Uint16(answer[end-4:]) == 1 {
			answer[7] = 1
			answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4) // for the name above, valid for a second
			answer = append(answer, n.addr.Load().AsSlice()...)
		}
		_, _ = conn.WriteTo(answer, from) // who asks asks again
	}
}
