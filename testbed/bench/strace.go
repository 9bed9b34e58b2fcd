//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A tracer counts a process's system calls.
type tracer struct {
	cmd    *exec.Cmd
	file   string
	exited chan struct{}
}

// errNoTrace is that calls can't be counted here, as in a container without the
// right to.
var errNoTrace = errors.New("strace doesn't attach")

// trace begins to count; it returns when all threads are being counted.
func (p *process) trace() (*tracer, error) {
	pids, err := p.pids()
	if err != nil {
		return nil, err
	}
	t := &tracer{file: filepath.Join(p.dir, "strace"), exited: make(chan struct{})}
	args := []string{"-f", "-c", "-U", "calls,name", "-o", t.file}
	for _, pid := range pids {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	said, err := os.Create(t.file + ".messages")
	if err != nil {
		return nil, err
	}
	defer said.Close()
	t.cmd = exec.Command("strace", args...)
	t.cmd.Stderr = said
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := t.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start strace: %w", err)
	}
	go func() {
		_ = t.cmd.Wait() // it ends by our signal, and says so
		close(t.exited)
	}()
	for waiting, end := true, time.Now().Add(patience); waiting && time.Now().Before(end); {
		b, err := os.ReadFile(said.Name())
		if err != nil {
			return nil, err
		}
		if strings.Count(string(b), " attached") >= len(pids) {
			return t, nil
		}
		select {
		case <-t.exited: // it isn't allowed to
			waiting = false
		case <-time.After(10 * time.Millisecond):
		}
	}
	_ = t.cmd.Process.Kill() // it may have ended
	<-t.exited
	b, _ := os.ReadFile(said.Name()) // what it says is all there is to say
	return nil, fmt.Errorf("%w: %s", errNoTrace, b)
}

// stop ends the count and returns it by the calls' names.
func (t *tracer) stop() (map[string]int, error) {
	if err := t.cmd.Process.Signal(os.Interrupt); err != nil {
		return nil, fmt.Errorf("stop strace: %w", err)
	}
	<-t.exited
	b, err := os.ReadFile(t.file)
	if err != nil {
		return nil, err
	}
	return parseCalls(string(b))
}

// parseCalls reads what strace -c -U calls,name prints.
func parseCalls(table string) (map[string]int, error) {
	calls := make(map[string]int)
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) != 2 || fields[1] == "total" {
			continue
		}
		if n, err := strconv.Atoi(fields[0]); err == nil {
			calls[fields[1]] += n
		}
	}
	if len(calls) == 0 {
		return nil, fmt.Errorf("no calls in %q", table)
	}
	return calls, nil
}
