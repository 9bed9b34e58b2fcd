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

// resetOnClose has closing the socket reset its connection.
func resetOnClose(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // fails only on what is no socket
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

// connectSocket opens a socket and begins to connect it. The first bytes are
// ours.
func connectSocket(addr netip.AddrPort) (int, error) {
	fd, err := openSocket(family(addr))
	if err != nil {
		return noFD, err
	}
	delayAck(fd)
	if err := connect(fd, addr); err != nil && err != unix.EINPROGRESS {
		closeFD(fd)
		return noFD, err
	}
	return fd, nil
}

func family(addr netip.AddrPort) int {
	if addr.Addr().Unmap().Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func seconds(d time.Duration) int { return max(1, int(d.Seconds())) }

// localAddr returns where the socket is bound, the zero AddrPort if that is no
// address of IP.
func localAddr(fd int) netip.AddrPort {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}
