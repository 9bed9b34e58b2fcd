//go:build darwin

package loop

import (
	"time"

	"golang.org/x/sys/unix"
)

// A poller waits for events by kqueue, edge-triggered for connections. It is
// meant for a developer's machine: it takes no care of the scheduler.
type poller struct {
	fd     int
	events []unix.Kevent_t
	ids    map[int]uint64 // by descriptor; what was closed stays until it is added again
}

// An event is what the kernel tells of one descriptor.
type event struct {
	of uint64
	is unix.Kevent_t
}

func (e *event) id() uint64     { return e.of }
func (e *event) readable() bool { return e.is.Filter == unix.EVFILT_READ }
func (e *event) writable() bool { return e.is.Filter == unix.EVFILT_WRITE }

// ended reports whether the peer's side, or both, have come to an end.
func (e *event) ended() bool { return e.is.Flags&unix.EV_EOF != 0 }

// failed reports whether the socket has an error.
func (e *event) failed() bool { return e.ended() && e.is.Fflags != 0 }

func newPoller() (*poller, error) {
	fd, err := unix.Kqueue()
	if err != nil {
		return nil, err
	}
	unix.CloseOnExec(fd)
	p := &poller{fd: fd, events: make([]unix.Kevent_t, eventBatch), ids: make(map[int]uint64)}
	if err := p.control(0, unix.EVFILT_USER, unix.EV_ADD|unix.EV_CLEAR, 0); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *poller) close() { closeFD(p.fd) }

// wake ends a wait that is under way, or the next. For any goroutine.
func (p *poller) wake() { _ = p.control(0, unix.EVFILT_USER, 0, unix.NOTE_TRIGGER) }

// add watches a connection both ways; closing its descriptor ends that.
func (p *poller) add(fd int, id uint64, _ bool) error {
	p.ids[fd] = id
	if err := p.control(fd, unix.EVFILT_READ, unix.EV_ADD|unix.EV_CLEAR, 0); err != nil {
		return err
	}
	return p.control(fd, unix.EVFILT_WRITE, unix.EV_ADD|unix.EV_CLEAR, 0)
}

// addOutput does nothing: add has watched both ways.
func (p *poller) addOutput(int, uint64) error { return nil }

// addListener watches a listener, which several loops may do.
func (p *poller) addListener(fd int, id uint64) error {
	p.ids[fd] = id
	return p.control(fd, unix.EVFILT_READ, unix.EV_ADD, 0)
}

func (p *poller) remove(fd int) {
	_ = p.control(fd, unix.EVFILT_READ, unix.EV_DELETE, 0)
	_ = p.control(fd, unix.EVFILT_WRITE, unix.EV_DELETE, 0) // which a listener doesn't have
}

func (p *poller) control(fd, filter, flags int, fflags uint32) error {
	changes := make([]unix.Kevent_t, 1)
	unix.SetKevent(&changes[0], fd, filter, flags)
	changes[0].Fflags = fflags
	_, err := unix.Kevent(p.fd, changes, nil, nil)
	return err
}

// wait fills events with what the kernel has to tell, and waits for it at most
// that long; negative means for as long as it takes. It may return early with
// nothing.
func (p *poller) wait(events []event, patience time.Duration, _ bool) (int, error) {
	var timeout *unix.Timespec
	if patience >= 0 {
		t := unix.NsecToTimespec(patience.Nanoseconds())
		timeout = &t
	}
	n, err := unix.Kevent(p.fd, nil, p.events[:len(events)], timeout)
	if err == unix.EINTR {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for i, e := range p.events[:n] {
		events[i] = event{of: p.ids[int(e.Ident)], is: e}
		if e.Filter == unix.EVFILT_USER {
			events[i].of = wakeID
		}
	}
	return n, nil
}
