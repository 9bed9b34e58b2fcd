package loop

import (
	"cmp"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func read(fd int, p []byte) (int, error)  { return transfer(unix.Read, fd, p) }
func write(fd int, p []byte) (int, error) { return transfer(unix.Write, fd, p) }

func transfer(call func(int, []byte) (int, error), fd int, p []byte) (int, error) {
	for {
		n, err := call(fd, p)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

func closeFD(fd int)       { _ = unix.Close(fd) }
func shutdownWrite(fd int) { _ = unix.Shutdown(fd, unix.SHUT_WR) }

func delayAck(int) {} // nor does it wait there

func quickAck(int) {} // there is no such option

func unacked(fd int) (int, error) { return unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NWRITE) }

// setNoDelay has small writes sent at once, whatever is not acknowledged yet.
func setNoDelay(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) }

// setKeepAlive has the kernel find out about a peer that is gone.
func setKeepAlive(fd int, o *Options) error {
	return cmp.Or(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPALIVE, seconds(o.KeepIdle)),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds(o.KeepInterval)),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_RXT_CONNDROPTIME, seconds(o.UserTimeout)))
}

func setDefer(int, time.Duration) error { return nil } // there is no such option

// connect begins to connect; the error may be EINPROGRESS.
func connect(fd int, addr netip.AddrPort) error {
	if ip := addr.Addr().Unmap(); ip.Is4() {
		return unix.Connect(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: ip.As4()})
	} else {
		return unix.Connect(fd, &unix.SockaddrInet6{Port: int(addr.Port()), Addr: ip.As16(), ZoneId: zone(ip)})
	}
}

func openSocket(family int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err != nil {
		return noFD, err
	}
	return prepare(fd)
}

// acceptSocket takes the next connection of a listener.
func acceptSocket(ln int) (int, netip.AddrPort, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, sa, err := unix.Accept(ln)
	if err != nil {
		return noFD, netip.AddrPort{}, err
	}
	fd, err = prepare(fd)
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return fd, netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), err
	case *unix.SockaddrInet6:
		return fd, netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port)), err
	}
	return fd, netip.AddrPort{}, err
}

// prepare has fd not block and not be inherited by other programs.
func prepare(fd int) (int, error) {
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		closeFD(fd)
		return noFD, err
	}
	return fd, nil
}
