package loop

import (
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What follows is the part of linux/io_uring.h that is used here.

const (
	opPollAdd     = 6
	opAsyncCancel = 14
	opClose       = 19
	opSend        = 26
	opRecv        = 27

	setupCQSize       = 1 << 3
	setupClamp        = 1 << 4
	setupDisabled     = 1 << 6
	setupSubmitAll    = 1 << 7
	setupSingleIssuer = 1 << 12
	setupDeferTaskrun = 1 << 13

	enterGetEvents = 1 << 0
	enterExtArg    = 1 << 3

	registerEnableRings = 12
	registerBufferRing  = 22

	sqeBufferSelect   = 1 << 5
	sqeSkipSuccess    = 1 << 6
	recvPollFirst     = 1 << 0
	recvMultishot     = 1 << 1
	pollMultishot     = 1 << 0
	cqeBuffer         = 1 << 0
	cqeMore           = 1 << 1
	cqeBufferShift    = 16
	sqOverflow        = 1 << 1
	offsetSQ          = 0
	offsetSQEs        = 0x10000000
	featureSingleMmap = 1 << 0
	featureNoDrop     = 1 << 1
	featureExtArg     = 1 << 8
)

type ringParams struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFD uint32
	_                                                                      [3]uint32
	sq                                                                     struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	cq struct {
		head, tail, mask, entries, overflow, cqes, flags, _ uint32
		_                                                   uint64
	}
}

// An sqe tells the kernel what to do.
type sqe struct {
	op      uint8
	flags   uint8
	ioprio  uint16
	fd      int32
	off     uint64
	addr    uint64
	len     uint32
	opFlags uint32
	data    uint64
	buf     uint16
	_       uint16
	_       uint32
	_       [2]uint64
}

// A cqe tells what came of it.
type cqe struct {
	data  uint64
	res   int32
	flags uint32
}

// ringBuffer is an entry of the ring of buffers that the kernel receives into.
type ringBuffer struct {
	addr uint64
	len  uint32
	id   uint16
	tail uint16 // of the whole ring, in the first entry
}

const (
	ringEntries   = 1024
	ringCQEntries = 8192
	// ringBuffers times ringBufferSize is a loop's memory for what arrives
	// between two looks.
	ringBuffers    = 256
	ringBufferSize = 4 << 10
)

// A ring is an io_uring of one thread.
type ring struct {
	fd      int
	sqMem   []byte
	sqeMem  []byte
	bufMem  []byte
	sqHead  *uint32
	sqTail  *uint32
	sqFlags *uint32
	cqHead  *uint32
	cqTail  *uint32
	sqMask  uint32
	cqMask  uint32
	tail    uint32 // of what was prepared, ahead of sqTail
	enters  uint32 // so far
	waiting []*sqe // that the queue has no room for; none is queued past them
	sqes    []sqe
	cqes    []cqe
	buffers []ringBuffer
	bufData []byte
	bufTail uint16
}

// openRing opens a ring, which start makes the calling thread's.
func openRing() (r *ring, err error) {
	p := ringParams{
		flags: setupCQSize | setupClamp | setupDisabled | setupSubmitAll | setupSingleIssuer | setupDeferTaskrun, cqEntries: ringCQEntries,
	}
	fd, _, errno := syscall.Syscall(unix.SYS_IO_URING_SETUP, ringEntries, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, os.NewSyscallError("io_uring_setup", errno)
	}
	r = &ring{fd: int(fd)}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if want := uint32(featureSingleMmap | featureNoDrop | featureExtArg); p.features&want != want {
		return nil, fmt.Errorf("io_uring has features %#x; want %#x", p.features, want)
	}
	size := max(int(p.sq.array+p.sqEntries*4), int(p.cq.cqes)+int(p.cqEntries)*int(unsafe.Sizeof(cqe{})))
	if r.sqMem, err = unix.Mmap(r.fd, offsetSQ, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return nil, fmt.Errorf("map io_uring: %w", err)
	}
	if r.sqeMem, err = unix.Mmap(r.fd, offsetSQEs, int(p.sqEntries)*int(unsafe.Sizeof(sqe{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return nil, fmt.Errorf("map io_uring: %w", err)
	}
	word := func(offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.sqMem[offset])) }
	r.sqHead, r.sqTail, r.sqMask, r.sqFlags = word(p.sq.head), word(p.sq.tail), *word(p.sq.mask), word(p.sq.flags)
	r.cqHead, r.cqTail, r.cqMask = word(p.cq.head), word(p.cq.tail), *word(p.cq.mask)
	r.sqes = unsafe.Slice((*sqe)(unsafe.Pointer(&r.sqeMem[0])), p.sqEntries)
	r.cqes = unsafe.Slice((*cqe)(unsafe.Pointer(&r.sqMem[p.cq.cqes])), p.cqEntries)
	for i, array := uint32(0), unsafe.Slice(word(p.sq.array), p.sqEntries); i < p.sqEntries; i++ {
		array[i] = i // in the order in which they are prepared
	}
	return r, r.openBuffers()
}

// openBuffers gives the kernel buffers to receive into.
func (r *ring) openBuffers() (err error) {
	table := ringBuffers * int(unsafe.Sizeof(ringBuffer{}))
	page := os.Getpagesize()
	table = (table + page - 1) / page * page
	r.bufMem, err = unix.Mmap(-1, 0, table+ringBuffers*ringBufferSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return fmt.Errorf("map buffers: %w", err)
	}
	r.buffers = unsafe.Slice((*ringBuffer)(unsafe.Pointer(&r.bufMem[0])), ringBuffers)
	r.bufData = r.bufMem[table:]
	reg := struct {
		addr    uint64
		entries uint32
		group   uint16
		flags   uint16
		_       [3]uint64
	}{addr: uint64(uintptr(unsafe.Pointer(&r.bufMem[0]))), entries: ringBuffers}
	if err := r.register(registerBufferRing, unsafe.Pointer(&reg), 1); err != nil {
		return err
	}
	for id := range uint16(ringBuffers) {
		r.giveBack(id)
	}
	return nil
}

// start makes the ring the calling thread's, who alone may use it.
func (r *ring) start() error { return r.register(registerEnableRings, nil, 0) }

func (r *ring) register(what uintptr, arg unsafe.Pointer, n uintptr) error {
	if _, _, errno := syscall.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), what, uintptr(arg), n, 0, 0); errno != 0 {
		return os.NewSyscallError("io_uring_register", errno)
	}
	return nil
}

func (r *ring) close() {
	closeFD(r.fd)
	for _, m := range [][]byte{r.sqMem, r.sqeMem, r.bufMem} {
		if m != nil {
			_ = unix.Munmap(m)
		}
	}
}

// next returns a cleared entry, which the next enter submits.
func (r *ring) next() *sqe {
	if r.prepared() >= uint32(len(r.sqes)) {
		_ = r.enter(0, 0, true) // an error comes again in the loop's own
	}
	if r.prepared() >= uint32(len(r.sqes)) {
		// The kernel takes none until it is relieved of results.
		e := new(sqe)
		r.waiting = append(r.waiting, e)
		return e
	}
	e := &r.sqes[r.tail&r.sqMask]
	*e = sqe{}
	r.tail++
	return e
}

// prepared returns how many entries the kernel has not taken yet.
func (r *ring) prepared() uint32 { return r.queued() + uint32(len(r.waiting)) }

func (r *ring) queued() uint32 { return r.tail - atomic.LoadUint32(r.sqHead) }

// overflowed reports whether the kernel keeps results for which there was no
// room. The next enter brings them.
func (r *ring) overflowed() bool { return atomic.LoadUint32(r.sqFlags)&sqOverflow != 0 }

// enter submits what was prepared, and waits for so many results, at most so
// long; a negative time means no limit. If the kernel doesn't take all,
// prepared tells.
func (r *ring) enter(results uint32, patience time.Duration, hold bool) error {
	r.enters++
	for len(r.waiting) > 0 && r.queued() < uint32(len(r.sqes)) {
		r.sqes[r.tail&r.sqMask] = *r.waiting[0]
		r.tail++
		r.waiting = r.waiting[1:]
	}
	submit := r.queued()
	atomic.StoreUint32(r.sqTail, r.tail)
	var ts unix.Timespec
	arg := struct {
		sigmask   uint64
		sigmaskSz uint32
		_         uint32
		ts        *unix.Timespec
	}{}
	if patience >= 0 {
		ts = unix.NsecToTimespec(int64(patience))
		arg.ts = &ts
	}
	var errno syscall.Errno
	if hold {
		_, _, errno = syscall.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(submit), uintptr(results),
			enterGetEvents|enterExtArg, uintptr(unsafe.Pointer(&arg)), unsafe.Sizeof(arg))
	} else {
		_, _, errno = syscall.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(submit), uintptr(results),
			enterGetEvents|enterExtArg, uintptr(unsafe.Pointer(&arg)), unsafe.Sizeof(arg))
	}
	switch errno {
	case 0, unix.EINTR, unix.ETIME, unix.EAGAIN, unix.EBUSY:
		return nil
	}
	return os.NewSyscallError("io_uring_enter", errno)
}

// results returns how many there are, without asking the kernel.
func (r *ring) results() uint32 { return atomic.LoadUint32(r.cqTail) - *r.cqHead }

// take returns the next result; there must be one.
func (r *ring) take() cqe {
	head := *r.cqHead
	e := r.cqes[head&r.cqMask]
	atomic.StoreUint32(r.cqHead, head+1)
	return e
}

// buffer returns the one that a result came in.
func (r *ring) buffer(e cqe) []byte {
	at := int(e.flags>>cqeBufferShift) * ringBufferSize
	return r.bufData[at : at+int(max(0, e.res))]
}

// giveBack has the kernel receive into a buffer anew.
func (r *ring) giveBack(id uint16) {
	b := &r.buffers[r.bufTail&(ringBuffers-1)]
	b.addr = uint64(uintptr(unsafe.Pointer(&r.bufData[int(id)*ringBufferSize])))
	b.len, b.id = ringBufferSize, id
	r.bufTail++
	// The tail lies in the first entry, beside that entry's number: in one word,
	// as a little-endian machine has it.
	first := (*uint32)(unsafe.Pointer(&r.buffers[0].id))
	atomic.StoreUint32(first, uint32(r.buffers[0].id)|uint32(r.bufTail)<<16)
}
