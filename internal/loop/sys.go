package loop

import (
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func wouldBlock(err error) bool { return err == unix.EAGAIN }

func outOfDescriptors(err error) bool {
	return err == unix.EMFILE || err == unix.ENFILE || err == unix.ENOBUFS || err == unix.ENOMEM
}

func duplicate(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) }

// openSpare opens a descriptor to give up when there is no other.
func openSpare() int {
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return noFD
	}
	return fd
}

// socketError takes the socket's pending error, nil if there is none.
func socketError(fd int) error {
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if n != 0 {
		return syscall.Errno(n)
	}
	return nil
}

// connectSocket opens a socket and begins to connect it.
func connectSocket(addr netip.AddrPort, o *Options) (int, error) {
	family, sa := sockaddr(addr)
	fd, err := openSocket(family)
	if err != nil {
		return noFD, err
	}
	if err := setSessionOptions(fd, o); err != nil {
		closeFD(fd)
		return noFD, err
	}
	if err := unix.Connect(fd, sa); err != nil && err != unix.EINPROGRESS {
		closeFD(fd)
		return noFD, err
	}
	return fd, nil
}

func sockaddr(addr netip.AddrPort) (family int, sa unix.Sockaddr) {
	if ip := addr.Addr().Unmap(); ip.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: ip.As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16(), ZoneId: zone(addr.Addr())}
}

// A socketOption is one of a socket's settings.
type socketOption struct{ level, name, value int }

func setOptions(fd int, options ...socketOption) error {
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return err
		}
	}
	return nil
}

func seconds(d time.Duration) int { return max(1, int(d.Seconds())) }
