// Package handover is the conversation in which one process has another take its
// place, over a socket between the two.
//
//	old  → new   hello    what it listens on
//	new  → old   ready    and which version of the program it is; or refused, and why
//	old  → new   parcel   live sessions, with their descriptors; any number of them
//	old  → new   end      how many parcels there were
//	new  → old   have     it could go on with all of them, and touches none
//	old  → new   commit   from here on they are the new one's, and the old one's no more
//	new  → old   begun    it goes on with them, and what it doesn't want of what is listened on
//	old  → new   later    what the old one has counted of those that it kept; any number
//
// Up to commit either can give up, and the old one goes on as if nothing had been:
// what the new one has are copies of descriptors, on which it has done nothing.
//
// What is in a message is none of this package's business. Descriptors go along as
// unix(7) has them, SCM_RIGHTS.
package handover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Version is what both have to speak. It changes when what is said does in a way
// that the other couldn't understand.
const Version = 1

// MaxFiles is how many descriptors go along with one message; the kernel takes
// 253 (SCM_MAX_FD).
const MaxFiles = 250

// maxData is the longest message: more than a parcel of sessions that each have as
// much to say as they can.
const maxData = 256 << 20

// A kind is what a message says.
type kind uint8

const (
	hello kind = iota + 1
	ready
	refused
	parcel
	end
	have
	commit
	begun
	later
)

func (k kind) String() string {
	names := [...]string{"nothing", "hello", "ready", "refused", "parcel", "end", "have", "commit", "begun", "later"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("message of kind %d", uint8(k))
}

// ErrGone says that the other process has ended, or hung up.
var ErrGone = errors.New("the other process is gone")

// A RefusedError is why the new process can't take over.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "refused: " + e.Reason }

// channel is one end of the socket.
type channel struct{ *net.UnixConn }

// headerSize is what stands before a message's data: the version, the kind, the
// number of descriptors, and the data's length.
const headerSize = 8

// send sends a message. The descriptors stay the sender's.
func (c channel) send(k kind, data []byte, files []int) error {
	if len(files) > MaxFiles || len(data) > maxData {
		return fmt.Errorf("send %s: %d descriptors and %d bytes are too much", k, len(files), len(data))
	}
	h := make([]byte, headerSize)
	h[0], h[1] = Version, byte(k)
	binary.BigEndian.PutUint16(h[2:], uint16(len(files)))
	binary.BigEndian.PutUint32(h[4:], uint32(len(data)))
	var rights []byte
	if len(files) > 0 {
		rights = unix.UnixRights(files...)
	}
	// They go with the header's bytes, and the rest is an ordinary stream.
	if _, _, err := c.WriteMsgUnix(h, rights, nil); err != nil {
		return fmt.Errorf("send %s: %w", k, gone(err))
	}
	if len(data) == 0 {
		return nil
	}
	if _, err := c.Write(data); err != nil {
		return fmt.Errorf("send %s: %w", k, gone(err))
	}
	return nil
}

// receive takes the next message, which must be of one of these kinds.
func (c channel) receive(want ...kind) (k kind, data []byte, files []int, err error) {
	defer func() {
		if err != nil {
			CloseFiles(files)
			files = nil
			err = fmt.Errorf("await %v: %w", want[0], gone(err))
		}
	}()
	h, oob := make([]byte, headerSize), make([]byte, unix.CmsgSpace(4*MaxFiles))
	n, oobn, flags, _, err := c.ReadMsgUnix(h, oob)
	if err != nil {
		return 0, nil, nil, err
	}
	if files, err = rights(oob[:oobn]); err != nil {
		return 0, nil, files, err
	}
	if n == 0 {
		return 0, nil, files, io.EOF
	}
	if _, err := io.ReadFull(c, h[n:]); err != nil {
		return 0, nil, files, err
	}
	if h[0] != Version {
		return 0, nil, files, fmt.Errorf("the other process speaks version %d of the hand-over, this one %d", h[0], Version)
	}
	if flags&unix.MSG_CTRUNC != 0 || int(binary.BigEndian.Uint16(h[2:])) != len(files) {
		return 0, nil, files, fmt.Errorf("%d of %d descriptors have arrived: this process may have too few", len(files), binary.BigEndian.Uint16(h[2:]))
	}
	size := binary.BigEndian.Uint32(h[4:])
	if size > maxData {
		return 0, nil, files, fmt.Errorf("a message of %d bytes", size)
	}
	// Memory is taken for what comes, not for what is announced.
	if data, err = io.ReadAll(io.LimitReader(c, int64(size))); err != nil {
		return 0, nil, files, err
	}
	if len(data) < int(size) {
		return 0, nil, files, io.ErrUnexpectedEOF
	}
	k = kind(h[1])
	for _, w := range want {
		if k == w {
			return k, data, files, nil
		}
	}
	if k == refused {
		return 0, nil, files, &RefusedError{string(data)}
	}
	return 0, nil, files, fmt.Errorf("%s has come", k)
}

// rights returns the descriptors that came along.
func rights(oob []byte) (files []int, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return files, err
		}
		files = append(files, fds...)
	}
	return files, nil
}

// gone makes the end of the other side one error, however it shows.
func gone(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return ErrGone
	}
	return err
}

// CloseFiles closes descriptors that were received.
func CloseFiles(files []int) {
	for _, fd := range files {
		unix.Close(fd)
	}
}

// Pair makes the socket between the two: the old process's end, and the one to be
// inherited by the new, which the caller closes when that has been started.
func Pair() (*Old, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	unix.CloseOnExec(fds[0])
	unix.CloseOnExec(fds[1])
	mine, its := os.NewFile(uintptr(fds[0]), "handover"), os.NewFile(uintptr(fds[1]), "handover")
	c, err := connect(mine)
	if err != nil {
		its.Close()
		return nil, nil, err
	}
	return &Old{c}, its, nil
}

// connect makes a connection of f, which it closes.
func connect(f *os.File) (channel, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return channel{}, fmt.Errorf("open the hand-over's socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return channel{}, fmt.Errorf("open the hand-over's socket: it is %T", c)
	}
	return channel{u}, nil
}

// Old is the old process's end. Its methods are called in the order of the
// conversation.
type Old struct{ c channel }

// Close hangs up: a new process that has not got commit then gives up. It may be
// called while another method waits, which then fails.
func (o *Old) Close() { o.c.Close() }

// Limit sets until when what follows may take; the zero time means for ever.
func (o *Old) Limit(t time.Time) { _ = o.c.SetDeadline(t) } // fails only when it is closed

// Hello says what is listened on.
func (o *Old) Hello(data []byte, files []int) error { return o.c.send(hello, data, files) }

// AwaitReady waits until the new process could take over, and returns which version
// of the program it is. A [RefusedError] says why it can't.
func (o *Old) AwaitReady() (program string, err error) {
	_, data, _, err := o.c.receive(ready)
	return string(data), err
}

// Give gives sessions, with their descriptors.
func (o *Old) Give(data []byte, files []int) error { return o.why(o.c.send(parcel, data, files)) }

// why returns what the new process has said before it hung up, if it has: it may
// refuse while it is still being given something.
func (o *Old) why(err error) error {
	if errors.Is(err, ErrGone) {
		_, _, files, last := o.c.receive(have)
		CloseFiles(files)
		if _, ok := errors.AsType[*RefusedError](last); ok {
			return last
		}
	}
	return err
}

// AwaitHave says that n parcels were all, and waits until the new process has them.
func (o *Old) AwaitHave(n int) error {
	if err := o.c.send(end, binary.BigEndian.AppendUint64(nil, uint64(n)), nil); err != nil {
		return o.why(err)
	}
	_, _, _, err := o.c.receive(have)
	return err
}

// Commit hands over for good, with what the new process needs to know beside. After
// an error it has not got it.
func (o *Old) Commit(data []byte) error { return o.c.send(commit, data, nil) }

// AwaitBegun waits until the new process goes on with what commit has given it. An
// error says that it doesn't, and that nobody does.
func (o *Old) AwaitBegun() (data []byte, err error) {
	_, data, files, err := o.c.receive(begun)
	CloseFiles(files)
	return data, err
}

// Later tells what came after the hand-over.
func (o *Old) Later(data []byte) error { return o.c.send(later, data, nil) }

// New is the new process's end.
type New struct{ c channel }

// Open makes the new process's end of what it has inherited from the old one, and
// closes that.
func Open(f *os.File) (*New, error) {
	c, err := connect(f)
	if err != nil {
		return nil, err
	}
	return &New{c}, nil
}

// Close hangs up.
func (n *New) Close() { n.c.Close() }

// Hello takes what the old process listens on.
func (n *New) Hello() (data []byte, files []int, err error) {
	_, data, files, err = n.c.receive(hello)
	return data, files, err
}

// Ready says that this process could take over, and which version of the program it is.
func (n *New) Ready(program string) error { return n.c.send(ready, []byte(program), nil) }

// Refuse says why it can't, at any time before commit, and hangs up.
func (n *New) Refuse(why error) {
	_ = n.c.send(refused, []byte(why.Error()), nil) // to one who is gone it doesn't matter
	n.Close()
}

// Next takes the next sessions; io.EOF says that these were all.
func (n *New) Next(before int) (data []byte, files []int, err error) {
	k, data, files, err := n.c.receive(parcel, end)
	switch {
	case err != nil:
		return nil, nil, err
	case k == parcel:
		return data, files, nil
	case len(data) != 8 || binary.BigEndian.Uint64(data) != uint64(before):
		CloseFiles(files)
		return nil, nil, fmt.Errorf("%d parcels have arrived; want %x", before, data)
	}
	return nil, nil, io.EOF
}

// Have says that this process has them all, and waits for commit.
func (n *New) Have() (data []byte, err error) {
	if err := n.c.send(have, nil, nil); err != nil {
		return nil, err
	}
	_, data, files, err := n.c.receive(commit)
	CloseFiles(files)
	return data, err
}

// Begun says that this process goes on with what commit has given it, and that
// whoever watches the old one knows so: that one may end now.
func (n *New) Begun(data []byte) error { return n.c.send(begun, data, nil) }

// Later waits for what comes after the hand-over; [ErrGone] says that the old
// process has ended.
func (n *New) Later() (data []byte, err error) {
	_, data, files, err := n.c.receive(later)
	CloseFiles(files)
	return data, err
}
