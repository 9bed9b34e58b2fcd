package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"agiproxy/internal/agisim"
)

// wantMainPID waits for a notice of the service's new main process, and returns
// which process it names, and which has sent it.
func (m *manager) wantMainPID() (named, sender int) {
	m.t.Helper()
	buf, oob := make([]byte, 4096), make([]byte, syscall.CmsgSpace(syscall.SizeofUcred))
	m.notices.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		n, oobn, _, _, err := m.notices.ReadMsgUnix(buf, oob)
		if err != nil {
			m.t.Fatalf("no notice of the main process: %v", err)
		}
		messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
		if err != nil || len(messages) != 1 {
			m.t.Fatalf("a notice without its sender: %v", err)
		}
		from, err := syscall.ParseUnixCredentials(&messages[0])
		if err != nil {
			m.t.Fatal(err)
		}
		got := string(buf[:n])
		if _, err := fmt.Sscanf(got, "MAINPID=%d", &named); err == nil {
			return named, int(from.Pid)
		}
		if !strings.HasPrefix(got, "STATUS=") && !strings.HasPrefix(got, "WATCHDOG=") && got != "READY=1" {
			m.t.Fatalf("notice %q; want that of the main process", got)
		}
	}
}

// The new process says itself that it is the service now, once the sessions are its
// own; then the old one may say so too, and end. After an upgrade that has failed
// nobody says anything.
func TestServiceUpgradeTellsWhoServes(t *testing.T) {
	s := backend(t, func(s *agisim.Session) { s.Command("NOOP") })
	good := one("ivr1", s)
	file := write(t, "agiproxy.yaml", good)
	m := startService(t, file, time.Second)
	m.awaitNotice("READY=1")

	rewrite(t, file, "nonsense")
	m.signal(syscall.SIGUSR2)
	for m.journal.Scan() && !strings.Contains(m.journal.Text(), "not handed over") {
	}
	rewrite(t, file, good)
	m.signal(syscall.SIGHUP)
	m.awaitNotice("RELOADING=1")
	m.awaitNotice("READY=1")

	rc, err := m.notices.SyscallConn()
	if err == nil {
		err2 := rc.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_PASSCRED, 1) })
		if err == nil {
			err = err2
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	old := m.cmd.Process.Pid
	m.signal(syscall.SIGUSR2)
	named, sender := m.wantMainPID()
	t.Cleanup(func() {
		if p, err := os.FindProcess(named); err == nil && named != old {
			p.Kill()
		}
	})
	if named != sender || named == old {
		t.Errorf("process %d says that the service's main process is %d; want the new one to say so of itself", sender, named)
	}
	if again, sender := m.wantMainPID(); again != named || sender != old {
		t.Errorf("process %d says that the service's main process is %d; want %d to say it of %d", sender, again, old, named)
	}
	if err := m.cmd.Wait(); err != nil {
		t.Errorf("the old process ended with %v; want no error", err)
	}
}
