package loop

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of the data path are made without telling Go's scheduler: on a
// socket that doesn't block they return at once, and telling it costs as much
// as the scheduler's monitor then does with the news.

func read(fd int, p []byte) (int, error)  { return transfer(unix.SYS_READ, fd, p) }
func write(fd int, p []byte) (int, error) { return transfer(unix.SYS_WRITE, fd, p) }

func transfer(call uintptr, fd int, p []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

func closeFD(fd int)       { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }
func shutdownWrite(fd int) { unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0) }

func quickAck(fd int) {
	// Without it an answer is 40 ms late, no more; so the error doesn't matter.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
}

func unacked(fd int) (int, error) { return unix.IoctlGetInt(fd, unix.SIOCOUTQ) }

// setSessionOptions sets what both sides of a session need. Asterisk sets
// nothing on its side, so a peer that is gone is found by these alone.
func setSessionOptions(fd int, o *Options) error {
	return setOptions(fd,
		socketOption{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		socketOption{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		socketOption{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds(o.KeepIdle)},
		socketOption{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds(o.KeepInterval)},
		socketOption{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(o.UserTimeout.Milliseconds())})
}

func openSocket(family int) (int, error) {
	return unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

// acceptSocket takes the next connection of a listener.
func acceptSocket(ln int) (int, netip.AddrPort, error) {
	var sa unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(ln), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)),
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return noFD, netip.AddrPort{}, errno
	}
	switch sa.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(&sa))
		return int(fd), netip.AddrPortFrom(netip.AddrFrom4(in.Addr), hostOrder(in.Port)), nil
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(&sa))
		return int(fd), netip.AddrPortFrom(netip.AddrFrom16(in.Addr).Unmap(), hostOrder(in.Port)), nil
	}
	return int(fd), netip.AddrPort{}, nil
}

// hostOrder turns a port as it stands in a socket address into a number.
func hostOrder(port uint16) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&port))[:])
}
