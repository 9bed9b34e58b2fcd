package loop

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of the data path are made without telling Go's scheduler: on a
// socket that doesn't block they return at once, and telling it costs as much
// as the scheduler's monitor then does with the news. They are package syscall's
// own, since unix.RawSyscall adds a step to each.

// read and write are the calls for sockets; those for any file look after more.
func read(fd int, p []byte) (int, error)  { return transfer(unix.SYS_RECVFROM, fd, p, 0) }
func write(fd int, p []byte) (int, error) { return transfer(unix.SYS_SENDTO, fd, p, unix.MSG_NOSIGNAL) }

func transfer(call uintptr, fd int, p []byte, flags uintptr) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

func closeFD(fd int)       { syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }
func shutdownWrite(fd int) { syscall.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0) }

func quickAck(fd int) {
	// Without it an answer is 40 ms late, no more; so the error doesn't matter.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
}

// delayAck has the handshake's last step wait for the first bytes that are sent,
// and go along with them: a segment less for each connection. Without bytes the
// kernel sends it some 40 ms later.
//
// Source: tcp(7), TCP_QUICKACK; tcp_rcv_synsent_state_process in Linux'
// net/ipv4/tcp_input.c.
func delayAck(fd int) { _ = setOption(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0) }

func unacked(fd int) (int, error) { return unix.IoctlGetInt(fd, unix.SIOCOUTQ) }

// setNoDelay has small writes sent at once, whatever is not acknowledged yet.
func setNoDelay(fd int) error { return setOption(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) }

// setKeepAlive has the kernel find out about a peer that is gone.
func setKeepAlive(fd int, o *Options) error {
	return cmp.Or(
		setOption(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
		setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds(o.KeepIdle)),
		setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds(o.KeepInterval)),
		setOption(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(o.UserTimeout.Milliseconds())))
}

// setDefer has a listener's connections wait in the kernel until their first
// bytes are there, or for so long.
func setDefer(fd int, d time.Duration) error {
	return setOption(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, seconds(d))
}

func setOption(fd, level, name, value int) error {
	v := int32(value)
	if _, _, errno := syscall.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&v)), unsafe.Sizeof(v), 0); errno != 0 {
		return errno
	}
	return nil
}

func openSocket(family int) (int, error) {
	fd, _, errno := syscall.RawSyscall(unix.SYS_SOCKET, uintptr(family), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if errno != 0 {
		return noFD, errno
	}
	return int(fd), nil
}

// connect begins to connect; the error may be EINPROGRESS.
func connect(fd int, addr netip.AddrPort) error {
	var sa unix.RawSockaddrInet6
	if _, _, errno := syscall.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), putSockaddr(&sa, addr)); errno != 0 {
		return errno
	}
	return nil
}

// putSockaddr fills sa with an address of either family and returns its size.
func putSockaddr(sa *unix.RawSockaddrInet6, addr netip.AddrPort) uintptr {
	ip := addr.Addr().Unmap()
	if !ip.Is4() {
		*sa = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: networkOrder(addr.Port()), Addr: ip.As16(), Scope_id: zone(ip)}
		return unsafe.Sizeof(*sa)
	}
	in := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
	*in = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: networkOrder(addr.Port()), Addr: ip.As4()}
	return unsafe.Sizeof(*in)
}

// acceptSocket takes the next connection of a listener.
func acceptSocket(ln int) (int, netip.AddrPort, error) {
	var sa unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	fd, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(ln), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)),
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return noFD, netip.AddrPort{}, errno
	}
	return int(fd), addressOfPeer(&sa), nil
}

func addressOfPeer(sa *unix.RawSockaddrAny) netip.AddrPort {
	switch sa.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), networkOrder(in.Port))
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom16(in.Addr).Unmap(), networkOrder(in.Port))
	}
	return netip.AddrPort{}
}

// networkOrder turns a port into what stands in a socket address, and back.
func networkOrder(port uint16) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&port))[:])
}
