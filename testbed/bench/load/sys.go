//go:build linux

package load

import (
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls are made without telling Go's scheduler: they return at once, but
// for the wait, which is bounded.

func read(fd int32, p []byte) (int, unix.Errno)  { return transfer(unix.SYS_READ, fd, p) }
func write(fd int32, p []byte) (int, unix.Errno) { return transfer(unix.SYS_WRITE, fd, p) }

func transfer(call uintptr, fd int32, p []byte) (int, unix.Errno) {
	for {
		n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

func closeFD(fd int32) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

func accept(ln int32) (int32, unix.Errno) {
	fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(ln), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return int32(fd), errno
}

// connect begins a connection; established says that it is there already, which
// on loopback it nearly always is.
func connect(to *unix.RawSockaddrInet4) (fd int32, established bool, errno unix.Errno) {
	r, _, errno := unix.RawSyscall(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if errno != 0 {
		return -1, false, errno
	}
	fd = int32(r)
	_, _, errno = unix.RawSyscall(unix.SYS_CONNECT, r, uintptr(unsafe.Pointer(to)), unix.SizeofSockaddrInet4)
	if errno != 0 && errno != unix.EINPROGRESS {
		closeFD(fd)
		return -1, false, errno
	}
	return fd, errno == 0, 0
}

// socketError takes the socket's pending error, 0 if there is none.
func socketError(fd int32) unix.Errno {
	n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return unix.EBADF
	}
	return unix.Errno(n)
}

// rawAddress returns an IPv4 address as connect takes it.
func rawAddress(a netip.AddrPort) unix.RawSockaddrInet4 {
	port := a.Port()
	return unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port<<8 | port>>8, Addr: a.Addr().As4()}
}

// listen opens a listening socket on every address; port 0 is one that the
// system chooses.
func listen(at uint16) (fd int32, port uint16, err error) {
	n, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, 0, fmt.Errorf("open listener: %w", err)
	}
	// Accepted connections inherit it.
	if err = unix.SetsockoptInt(n, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err == nil {
		err = unix.SetsockoptInt(n, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = unix.Bind(n, &unix.SockaddrInet4{Port: int(at)})
	}
	if err == nil {
		err = unix.Listen(n, 4096)
	}
	var sa unix.Sockaddr
	if err == nil {
		sa, err = unix.Getsockname(n)
	}
	if err != nil {
		unix.Close(n)
		return -1, 0, fmt.Errorf("listen: %w", err)
	}
	return int32(n), uint16(sa.(*unix.SockaddrInet4).Port), nil
}

// watch has epoll tell of fd; edge-triggered but for listeners.
func watch(epoll int, fd int32, events uint32) unix.Errno {
	e := unix.EpollEvent{Events: events, Fd: fd}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epoll), unix.EPOLL_CTL_ADD, uintptr(fd), uintptr(unsafe.Pointer(&e)), 0, 0)
	return errno
}

// longestWait bounds a wait, since it keeps the processor that Go's scheduler
// has lent to the thread.
const longestWait = 10 * time.Millisecond

// wait waits for events, to the nanosecond that the kernel's timers can do: at
// 5,000 commands a second a millisecond would be five of them late.
func wait(epoll int, events []unix.EpollEvent, d time.Duration) (int, unix.Errno) {
	ts := unix.NsecToTimespec(int64(min(max(d, 0), longestWait)))
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))),
		uintptr(len(events)), uintptr(unsafe.Pointer(&ts)), 0, 0)
	if errno == unix.EINTR {
		return 0, 0
	}
	return int(n), errno
}

// threadTime returns the processor time that the calling thread has used.
func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
