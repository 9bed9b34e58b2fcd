package loop

import (
	"encoding/binary"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A poller waits for events by epoll: edge-triggered for connections, of which
// every change is told once, so that nothing has to be asked for again.
type poller struct {
	fd     int
	wakeFD int
	events []unix.EpollEvent
	quiet  time.Time // since when nothing has happened
}

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
	p := &poller{fd: fd, wakeFD: wakeFD, events: make([]unix.EpollEvent, eventBatch), quiet: time.Now()}
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
	_, _ = write(p.wakeFD, one[:]) // fails only when it is about to wake anyway
}

// add watches a connection; closing its descriptor ends that.
func (p *poller) add(fd int, id uint64) error {
	return p.control(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP|unix.EPOLLET, id)
}

// addListener watches a listener, which several loops may do: of those that
// wait the kernel wakes at least one for each connection, but not all.
func (p *poller) addListener(fd int, id uint64) error {
	return p.control(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, id)
}

func (p *poller) remove(fd int) { _ = p.control(unix.EPOLL_CTL_DEL, fd, 0, 0) }

func (p *poller) control(op, fd int, events uint32, id uint64) error {
	e := unix.EpollEvent{Events: events, Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32))}
	if _, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(p.fd), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&e)), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

const (
	// heldWait is how long a wait may keep the processor that Go's scheduler
	// has lent to this thread. Giving it up for a wait, as a call that may
	// block does, costs more than all else of a command when the machine is
	// not busy; never giving it up would hold up the garbage collector.
	heldWait = 10 * time.Millisecond
	// quietAfter is how long nothing happens until a wait gives the processor
	// up, so that an idle proxy sleeps.
	quietAfter = 100 * time.Millisecond
)

// wait fills events with what the kernel has to tell, and waits for it at most
// that long; negative means for as long as it takes. It may return early with
// nothing.
func (p *poller) wait(events []event, patience time.Duration) (int, error) {
	held := true
	if patience < 0 || patience > heldWait {
		if time.Since(p.quiet) > quietAfter {
			held = false
		} else {
			patience = heldWait
		}
	}
	n, err := p.epollWait(p.events[:len(events)], milliseconds(patience), held)
	if err != nil {
		return 0, err
	}
	if n > 0 {
		p.quiet = time.Now()
	}
	for i, e := range p.events[:n] {
		events[i] = event{
			id:       uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32,
			readable: e.Events&unix.EPOLLIN != 0,
			writable: e.Events&unix.EPOLLOUT != 0,
			ended:    e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0,
			failed:   e.Events&unix.EPOLLERR != 0,
		}
		if events[i].id == wakeID {
			var count [8]byte
			_, _ = read(p.wakeFD, count[:])
		}
	}
	return n, nil
}

// epollWait makes one wait, which keeps the processor if held.
func (p *poller) epollWait(events []unix.EpollEvent, ms int, held bool) (int, error) {
	if !held {
		n, err := unix.EpollWait(p.fd, events, ms)
		if err == unix.EINTR {
			return 0, nil
		}
		return n, err
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(unsafe.SliceData(events))),
		uintptr(len(events)), uintptr(ms), 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.EINTR:
		return 0, nil
	}
	return 0, errno
}

// milliseconds rounds up, so that a timer has run out when the wait for it ends.
func milliseconds(d time.Duration) int {
	if d < 0 {
		return -1
	}
	return int(min((d+time.Millisecond-1)/time.Millisecond, 1<<30))
}
