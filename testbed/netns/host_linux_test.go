package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lan is the name of each host's interface.
const lan = "lan0"

// A host is a network namespace with one address.
type host struct {
	network *network
	addr    netip.Addr
	ns      *os.File // the namespace; it lives as long as this, a process or a socket of it
}

// host adds a host.
func (n *network) host(t *testing.T, addr string) *host {
	t.Helper()
	h := &host{network: n, addr: netip.MustParseAddr(addr)}
	h.boot(t)
	t.Cleanup(func() { h.ns.Close() })
	return h
}

// boot makes the namespace, and joins it to the network.
func (h *host) boot(t *testing.T) {
	t.Helper()
	var tun *os.File
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		var err error
		if h.ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		tun, err = openTun()
		return errors.Join(err, setUp("lo", true), setAddress(h.addr), setMask(24), setUp(lan, true))
	})
	if err != nil {
		t.Fatalf("host %s: %v", h.addr, err)
	}
	h.network.plug(h.addr, tun)
}

// reboot takes the host's power, and has it come back with nothing running: its
// kernel knows nothing of the connections there were. Who has sockets from before
// keeps them, and nothing passes through them any more.
func (h *host) reboot(t *testing.T) {
	t.Helper()
	h.network.unplug(h.addr)
	h.ns.Close()
	h.boot(t)
}

// do runs f on a thread that is in the host's namespace. Sockets that f opens, and
// processes that it starts, stay there.
func (h *host) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("setns: %w", err)
		}
		return f()
	})
}

// onThread runs f on a thread of its own, which ends with it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: nobody else gets a thread that was changed
		done <- f()
	}()
	return <-done
}

// dial opens a connection from the host to an address that is no name.
func (h *host) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = h.do(func() error {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

func (h *host) listen(network, address string) (ln net.Listener, err error) {
	err = h.do(func() error {
		ln, err = net.Listen(network, address)
		return err
	})
	return ln, err
}

// start starts a process on the host.
func (h *host) start(cmd *exec.Cmd) error { return h.do(cmd.Start) }

// setLink takes the host's interface down, and with it all its routes, or up again.
func (h *host) setLink(t *testing.T, up bool) {
	t.Helper()
	if err := h.do(func() error { return setUp(lan, up) }); err != nil {
		t.Fatal(err)
	}
}

// setReach has the host reach only those who share so many bits of its address: to all
// others it has no route.
func (h *host) setReach(t *testing.T, bits int) {
	t.Helper()
	if err := h.do(func() error { return setMask(bits) }); err != nil {
		t.Fatal(err)
	}
}

// sysctl sets a value of the host's kernel, which is named by its file in /proc/sys.
func (h *host) sysctl(t *testing.T, name, value string) {
	t.Helper()
	if err := h.do(func() error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0) }); err != nil {
		t.Fatal(err)
	}
}

// openTun makes the interface lan: whole IP packets are read from the file, and
// written to it. The kernel cuts and checks them as for a plain network card.
func openTun() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(lan)
	if err != nil {
		return nil, err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("TUNSETIFF: %w", err)
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

// configure sets something of an interface in the thread's namespace.
func configure(name string, request uint, set func(*unix.Ifreq) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := set(req); err != nil {
		return err
	}
	return unix.IoctlIfreq(fd, request, req)
}

func setUp(name string, up bool) error {
	return configure(name, unix.SIOCSIFFLAGS, func(req *unix.Ifreq) error {
		if up {
			req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		}
		return nil
	})
}

// setAddress gives the interface lan its address.
func setAddress(addr netip.Addr) error {
	return configure(lan, unix.SIOCSIFADDR, func(req *unix.Ifreq) error { return req.SetInet4Addr(addr.AsSlice()) })
}

// setMask says how many bits of the address are its network's, which is all that there
// is a route to.
func setMask(bits int) error {
	return configure(lan, unix.SIOCSIFNETMASK, func(req *unix.Ifreq) error { return req.SetInet4Addr(net.CIDRMask(bits, 32)) })
}

// eventually waits until ok, and fails the test when that takes longer than limit.
func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, limit)
		}
	}
}

// kill ends a process group, if it is still there.
func kill(t *testing.T, pid int) {
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Errorf("kill %d: %v", pid, err)
	}
}
