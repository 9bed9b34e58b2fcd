package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"agiproxy/internal/agisim"
)

// asProgram in the environment has this test's binary be agiproxy.
const asProgram = "AGIPROXY_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Unsetenv(asProgram)
		main()
	}
	os.Exit(m.Run())
}

// A manager is what systemd is to the service that it has started.
type manager struct {
	t       *testing.T
	cmd     *exec.Cmd
	notices *net.UnixConn
	journal *bufio.Scanner
}

// startService starts agiproxy as systemd does, with these sockets.
func startService(t *testing.T, file string, watchdog time.Duration, sockets ...*os.File) *manager {
	t.Helper()
	// Not t.TempDir: a test's name may make the path too long for a socket.
	dir, err := os.MkdirTemp("", "agiproxy")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	address := filepath.Join(dir, "notify")
	notices, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { notices.Close() })
	r, journal, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	info, err := journal.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)

	// The process has to know its own number, which only its parent's child does.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, os.Args[0], "serve", "--config", file)
	cmd.Env = append(os.Environ(),
		asProgram+"=1",
		"NOTIFY_SOCKET="+address,
		fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino),
	)
	if len(sockets) > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("LISTEN_FDS=%d", len(sockets)))
	}
	if watchdog > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("WATCHDOG_USEC=%d", watchdog.Microseconds()))
	}
	cmd.ExtraFiles = sockets
	cmd.Stderr = journal
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	journal.Close()
	m := &manager{t, cmd, notices, bufio.NewScanner(r)}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return m
}

// awaitNotice waits for a notice that begins like this, and returns it. What
// comes before it has to be one of those that may come at any time, or it is
// missing here and not there.
func (m *manager) awaitNotice(prefix string) string {
	m.t.Helper()
	buf := make([]byte, 4096)
	m.notices.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		n, err := m.notices.Read(buf)
		if err != nil {
			m.t.Fatalf("no notice %q: %v", prefix, err)
		}
		got := string(buf[:n])
		if strings.HasPrefix(got, prefix) {
			return got
		}
		if !strings.HasPrefix(got, "STATUS=") && !strings.HasPrefix(got, "WATCHDOG=") {
			m.t.Fatalf("notice %q; want %q", got, prefix)
		}
	}
}

func (m *manager) signal(s syscall.Signal) {
	m.t.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		m.t.Fatal(err)
	}
}

// listening returns a socket that listens, as systemd would pass it, and where.
func listening(t *testing.T) (*os.File, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, ln.Addr().String()
}

// called makes a call, which has to be served.
func called(t *testing.T, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var a agisim.Asterisk
	if r := a.Run(ctx, agisim.Call{Address: address}); !r.Served() || r.Commands == 0 {
		t.Fatalf("the call to %s ended as %+v; want it served", address, r)
	}
}

// The whole life of a service, with systemd on the other side.
func TestServiceUnderSystemd(t *testing.T) {
	s := backend(t, func(s *agisim.Session) { s.Command("NOOP") })
	given, address := listening(t)
	config := func(listeners string) string {
		return strings.Replace(one("ivr1", s), `"127.0.0.1:0"}`, listeners, 1)
	}
	with := config(fmt.Sprintf(`%q}, {address: "127.0.0.1:0"}`, address))
	file := write(t, "agiproxy.yaml", with)
	m := startService(t, file, time.Second, given)

	m.awaitNotice("READY=1")
	m.awaitNotice("STATUS=serving: 0 sessions, 1 of 1 backends up")
	m.awaitNotice("WATCHDOG=1")
	m.awaitNotice("WATCHDOG=1")
	called(t, address)

	m.signal(syscall.SIGHUP)
	if got := m.awaitNotice("RELOADING=1"); !regexp.MustCompile(`\nMONOTONIC_USEC=[0-9]+$`).MatchString(got) {
		t.Errorf("notice %q; want the time in it", got)
	}
	m.awaitNotice("READY=1")
	called(t, address)

	// A listener that goes and comes back is the same socket: nobody else could
	// listen there, since the manager still has it.
	rewrite(t, file, config(`"127.0.0.1:0"}`))
	m.signal(syscall.SIGHUP)
	m.awaitNotice("RELOADING=1")
	m.awaitNotice("READY=1")
	rewrite(t, file, with)
	m.signal(syscall.SIGHUP)
	m.awaitNotice("RELOADING=1")
	m.awaitNotice("READY=1")
	called(t, address)

	rewrite(t, file, "nonsense")
	m.signal(syscall.SIGHUP)
	m.awaitNotice("RELOADING=1")
	if got, want := m.awaitNotice("STATUS="), "the configuration file has an error and is not in force"; !strings.HasSuffix(got, want) {
		t.Errorf("notice %q after a bad reload; want it to end in %q", got, want)
	}
	m.awaitNotice("READY=1")
	called(t, address)

	m.signal(syscall.SIGTERM)
	// Five minutes of drain, and the margin.
	if got, want := m.awaitNotice("STOPPING=1"), "STOPPING=1\nEXTEND_TIMEOUT_USEC=314000000"; got != want {
		t.Errorf("notice %q; want %q", got, want)
	}
	var levels strings.Builder
	for m.journal.Scan() {
		line := m.journal.Text()
		if !regexp.MustCompile(`^<[3467]>\[`).MatchString(line) {
			t.Errorf("the journal got %q; want a level, and no time", line)
		}
		levels.WriteString(line[:3])
	}
	if !strings.Contains(levels.String(), "<6>") || !strings.Contains(levels.String(), "<3>") {
		t.Errorf("the journal got lines of the levels %s; want those of Info and Error too", levels.String())
	}
	if err := m.cmd.Wait(); err != nil {
		t.Errorf("ended with %v; want no error", err)
	}
}

// A socket for which there is no listener is told of, and the others work.
func TestUnusedSocketIsToldOf(t *testing.T) {
	s := backend(t, func(s *agisim.Session) { s.Command("NOOP") })
	given, address := listening(t)
	m := startService(t, write(t, "agiproxy.yaml", one("ivr1", s)), 0, given)
	for m.journal.Scan() {
		if line := m.journal.Text(); strings.Contains(line, "no listener") {
			if !strings.HasPrefix(line, "<4>") || !strings.Contains(line, address) {
				t.Errorf("the journal got %q; want a warning that names %s", line, address)
			}
			return
		}
	}
	t.Error("the log doesn't tell of the socket that nobody uses")
}

// An error that ends the start is one in the journal, too.
func TestJournalGetsTheLastError(t *testing.T) {
	m := startService(t, write(t, "agiproxy.yaml", "nonsense"), 0)
	var all []string
	for m.journal.Scan() {
		all = append(all, m.journal.Text())
	}
	if len(all) != 1 || !strings.HasPrefix(all[0], "<3>agiproxy: ") {
		t.Errorf("the journal got %q; want one error", all)
	}
	if err := m.cmd.Wait(); m.cmd.ProcessState.ExitCode() != exitUsage {
		t.Errorf("ended with %v; want exit code %d", err, exitUsage)
	}
}

func rewrite(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
