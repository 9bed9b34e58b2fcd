package handover

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair makes both ends.
func pair(t *testing.T) (*Old, *New) {
	t.Helper()
	before := openFiles(t)
	o, f, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	n, err := Open(f)
	if err != nil {
		t.Fatal(err)
	}
	o.Limit(time.Now().Add(10 * time.Second))
	n.c.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() {
		o.Close()
		n.Close()
		if left := openFiles(t); left != before {
			t.Errorf("%d descriptors are open at the end; want %d", left, before)
		}
	})
	return o, n
}

func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("there is no /proc")
	}
	return len(entries)
}

// files opens n files whose descriptors can be given.
func files(t *testing.T, n int) []int {
	t.Helper()
	var fds []int
	for range n {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
	}
	return fds
}

// awaitReady awaits a process that says it has that version.
func awaitReady(o *Old, version string) error {
	got, err := o.AwaitReady()
	if err == nil && got != version {
		err = fmt.Errorf("ready with version %q; want %q", got, version)
	}
	return err
}

func awaitBegun(o *Old, want string) error {
	got, err := o.AwaitBegun()
	if err == nil && string(got) != want {
		err = fmt.Errorf("begun with %q; want %q", got, want)
	}
	return err
}

// Only the program that is meant to gets an end of the socket, which has no name by
// which another could come.
func TestPairIsInheritedByNobody(t *testing.T) {
	o, its, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	defer its.Close()
	rc, err := o.c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	inherited := func(whose string, fd uintptr) {
		if flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s end has flags %d, %v; want one that no other program inherits", whose, flags, err)
		}
		name, err := unix.Getsockname(int(fd))
		if a, ok := name.(*unix.SockaddrUnix); err != nil || !ok || strings.Trim(a.Name, "@") != "" { // as Linux has it
			t.Errorf("%s end is at %+v, %v; want it without a name", whose, name, err)
		}
	}
	if err := rc.Control(func(fd uintptr) { inherited("the old process's", fd) }); err != nil {
		t.Error(err)
	}
	inherited("the new process's", its.Fd())
}

// TestConversation has it go well, with more in a message than a socket takes at
// once, and as many descriptors as may go along.
func TestConversation(t *testing.T) {
	o, n := pair(t)
	mine := files(t, MaxFiles)
	large := bytes.Repeat([]byte("session "), 1<<20)
	old := make(chan error, 1)
	go func() {
		old <- errors.Join(
			o.Hello([]byte("listeners"), mine[:1]), awaitReady(o, "1.2.3"),
			o.Give(large, mine), o.Give(nil, nil), o.Give([]byte("x"), mine[:1]), o.AwaitHave(3),
			o.Commit([]byte("counts")), awaitBegun(o, "unwanted"), o.Later([]byte("more")), func() error { o.Close(); return nil }())
	}()
	check := func(what string, data []byte, got []int, err error, want string, count int) {
		t.Helper()
		if err != nil || string(data) != want || len(got) != count {
			t.Errorf("%s brings %d bytes, %d descriptors, %v; want %d and %d", what, len(data), len(got), err, len(want), count)
		}
		for _, fd := range got {
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			if err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("descriptor %d has flags %d, %v; want one that no other program inherits", fd, flags, err)
			}
		}
		CloseFiles(got)
	}
	data, fds, err := n.Hello()
	check("hello", data, fds, err, "listeners", 1)
	if err := n.Ready("1.2.3"); err != nil {
		t.Error(err)
	}
	for i, want := range []struct {
		data  string
		count int
	}{{string(large), MaxFiles}, {"", 0}, {"x", 1}} {
		data, fds, err := n.Next(i)
		check("a parcel", data, fds, err, want.data, want.count)
	}
	if _, _, err := n.Next(3); err != io.EOF {
		t.Errorf("after the last parcel: %v; want the end", err)
	}
	data, err = n.Have()
	check("commit", data, nil, err, "counts", 0)
	if err := n.Begun([]byte("unwanted")); err != nil {
		t.Error(err)
	}
	data, err = n.Later()
	check("later", data, nil, err, "more", 0)
	if _, err := n.Later(); !errors.Is(err, ErrGone) {
		t.Errorf("after the end: %v; want %v", err, ErrGone)
	}
	if err := <-old; err != nil {
		t.Error(err)
	}
	CloseFiles(mine)
}

// TestOldSeesTheNewOneFail has the new process go away, refuse, hang or talk
// nonsense at each step.
func TestOldSeesTheNewOneFail(t *testing.T) {
	steps := []struct {
		name string
		new  func(*New) // up to that step
		old  func(*Old) error
	}{
		{"ready", func(n *New) { n.Hello() }, func(o *Old) error { return errors.Join(o.Hello(nil, nil), awaitReady(o, "")) }},
		{"have", func(n *New) { n.Hello(); n.Ready(""); n.Next(0); n.Next(1) }, func(o *Old) error {
			return errors.Join(o.Hello(nil, nil), awaitReady(o, ""), o.Give(nil, nil), o.AwaitHave(1))
		}},
	}
	for _, step := range steps {
		for name, c := range map[string]struct {
			fail func(*New)
			want string
		}{
			"goes":     {func(n *New) { n.Close() }, ErrGone.Error()},
			"refuses":  {func(n *New) { n.Refuse(errors.New("bad configuration")) }, "refused: bad configuration"},
			"nonsense": {func(n *New) { n.c.send(commit, nil, nil) }, "commit has come"},
			"files":    {func(n *New) { fds := files(t, 3); n.c.send(commit, nil, fds); CloseFiles(fds) }, "commit has come"},
			"version":  {func(n *New) { n.c.Write([]byte{9, 1, 0, 0, 0, 0, 0, 0}) }, "speaks version 9"},
			"half":     {func(n *New) { n.c.Write([]byte{Version, byte(ready), 0}); n.Close() }, ErrGone.Error()},
			"half data": {func(n *New) {
				n.c.Write([]byte{Version, byte(ready), 0, 0, 0, 0, 0, 5, 'x'})
				n.Close()
			}, ErrGone.Error()},
			"missing files": {func(n *New) { n.c.Write([]byte{Version, byte(ready), 0, 2, 0, 0, 0, 0}) }, "0 of 2 descriptors"},
			"too long":      {func(n *New) { n.c.Write([]byte{Version, byte(ready), 0, 0, 255, 0, 0, 0}) }, "a message of"},
			"hangs":         {func(*New) {}, "i/o timeout"},
		} {
			t.Run(step.name+"/"+name, func(t *testing.T) {
				o, n := pair(t)
				if name == "hangs" {
					o.Limit(time.Now().Add(20 * time.Millisecond))
				}
				done := make(chan struct{})
				go func() {
					defer close(done)
					step.new(n)
					c.fail(n)
				}()
				if err := step.old(o); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("the old process is told %v; want %q", err, c.want)
				}
				o.Close()
				<-done
			})
		}
	}
}

// TestCommitToNobody has the new process be gone when all is to be its own.
func TestCommitToNobody(t *testing.T) {
	o, n := pair(t)
	n.Close()
	if err := o.Commit(make([]byte, 1<<20)); !errors.Is(err, ErrGone) {
		t.Errorf("Commit() = %v; want %v", err, ErrGone)
	}
}

// TestNewSeesTheOldOneFail has the old process go at each step.
func TestNewSeesTheOldOneFail(t *testing.T) {
	for name, c := range map[string]struct {
		old  func(*Old)
		new  func(*New) error
		want string
	}{
		"hello":   {func(*Old) {}, func(n *New) error { _, _, err := n.Hello(); return err }, ErrGone.Error()},
		"parcel":  {func(*Old) {}, func(n *New) error { _, _, err := n.Next(0); return err }, ErrGone.Error()},
		"missing": {func(o *Old) { o.c.send(end, []byte{0, 0, 0, 0, 0, 0, 0, 2}, nil) }, func(n *New) error { _, _, err := n.Next(1); return err }, "1 parcels have arrived"},
		"commit":  {func(*Old) {}, func(n *New) error { _, err := n.Have(); return err }, ErrGone.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			o, n := pair(t)
			c.old(o)
			o.Close()
			if err := c.new(n); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the new process is told %v; want %q", err, c.want)
			}
		})
	}
}

func TestTooMuchIsNotSent(t *testing.T) {
	o, _ := pair(t)
	if err := o.Give(nil, make([]int, MaxFiles+1)); err == nil || !strings.Contains(err.Error(), "too much") {
		t.Errorf("Give() of %d descriptors = %v; want an error", MaxFiles+1, err)
	}
}

func TestOpenWantsASocket(t *testing.T) {
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(f); err == nil {
		t.Error("Open() of a file that is no socket: no error")
	}
}

// One that refuses while it is given sessions says why, too.
func TestRefusedWhileGiving(t *testing.T) {
	o, n := pair(t)
	go func() {
		_, files, _ := n.Next(0)
		CloseFiles(files)
		n.Refuse(errors.New("no room"))
	}()
	own := files(t, 1)
	defer CloseFiles(own)
	var err error
	for range 1000 { // more than the socket takes
		if err = o.Give(make([]byte, 64<<10), own); err != nil {
			break
		}
	}
	if r, ok := errors.AsType[*RefusedError](err); !ok || r.Reason != "no room" {
		t.Errorf("Give() = %v; want it refused for want of room", err)
	}
}
