package loop

import (
	"encoding/binary"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A poller waits for events by epoll: edge-triggered for connections, of which
// every change is told once, so that nothing has to be asked for again.
type poller struct {
	fd     int
	wakeFD int
}

// An event is what the kernel tells of one descriptor, as it wrote it.
type event unix.EpollEvent

func (e *event) id() uint64     { return uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32 }
func (e *event) readable() bool { return e.Events&unix.EPOLLIN != 0 }
func (e *event) writable() bool { return e.Events&unix.EPOLLOUT != 0 }

// ended reports whether the peer's side, or both, have come to an end.
func (e *event) ended() bool { return e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 }

// failed reports whether the socket has an error.
func (e *event) failed() bool { return e.Events&unix.EPOLLERR != 0 }

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	wakeFD, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		closeFD(fd)
		return nil, err
	}
	p := &poller{fd: fd, wakeFD: wakeFD}
	if err := p.control(unix.EPOLL_CTL_ADD, wakeFD, unix.EPOLLIN|unix.EPOLLET, wakeID); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *poller) close() {
	closeFD(p.wakeFD)
	closeFD(p.fd)
}

// wake ends a wait that is under way, or the next. For any goroutine.
func (p *poller) wake() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(p.wakeFD, one[:]) // fails only when it is about to wake anyway
}

// add watches what comes in on a connection, and for room to write if output
// says so; closing its descriptor ends that.
func (p *poller) add(fd int, id uint64, output bool) error {
	events := uint32(unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET)
	if output {
		events |= unix.EPOLLOUT
	}
	return p.control(unix.EPOLL_CTL_ADD, fd, events, id)
}

// addOutput has a connection that add watches be watched for room to write, too.
func (p *poller) addOutput(fd int, id uint64) error {
	return p.control(unix.EPOLL_CTL_MOD, fd, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP|unix.EPOLLET, id)
}

// addListener watches a listener, which several loops may do: of those that
// wait the kernel wakes at least one for each connection, but not all.
func (p *poller) addListener(fd int, id uint64) error {
	return p.control(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, id)
}

func (p *poller) remove(fd int) { _ = p.control(unix.EPOLL_CTL_DEL, fd, 0, 0) }

func (p *poller) control(op, fd int, events uint32, id uint64) error {
	e := unix.EpollEvent{Events: events, Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32))}
	if _, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(p.fd), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&e)), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// wait fills events with what the kernel has to tell, and waits for it at most
// that long; negative means for as long as it takes. It may return early with
// nothing. With hold it keeps the processor that Go's scheduler has lent to this
// thread: giving it up, as a call that may block does, costs more than all else
// of a command when the machine is not busy.
func (p *poller) wait(events []event, patience time.Duration, hold bool) (int, error) {
	var n uintptr
	var errno syscall.Errno
	if hold {
		n, _, errno = syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(unsafe.SliceData(events))),
			uintptr(len(events)), uintptr(milliseconds(patience)), 0, 0)
	} else {
		n, _, errno = syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(unsafe.SliceData(events))),
			uintptr(len(events)), uintptr(milliseconds(patience)), 0, 0)
	}
	switch {
	case errno == unix.EINTR:
		return 0, nil
	case errno != 0:
		return 0, errno
	}
	for i := range events[:n] {
		if events[i].id() == wakeID {
			var count [8]byte
			_, _ = unix.Read(p.wakeFD, count[:])
		}
	}
	return int(n), nil
}

// milliseconds rounds up, so that a timer has run out when the wait for it ends.
func milliseconds(d time.Duration) int {
	if d < 0 {
		return -1
	}
	return int(min((d+time.Millisecond-1)/time.Millisecond, 1<<30))
}
