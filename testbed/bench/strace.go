//go:build linux

package main

import (
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
	cmd  *exec.Cmd
	file string
}

// trace begins to count; it returns when all threads are being counted.
func (p *process) trace() (*tracer, error) {
	pids, err := p.pids()
	if err != nil {
		return nil, err
	}
	t := &tracer{file: filepath.Join(p.dir, "strace")}
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
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile(said.Name())
		if err != nil {
			return nil, err
		}
		if strings.Count(string(b), " attached") >= len(pids) {
			return t, nil
		}
	}
	b, _ := os.ReadFile(said.Name()) // what it says is all there is to say
	_, err = t.stop()
	return nil, fmt.Errorf("strace doesn't attach: %s %w", b, err)
}

// stop ends the count and returns it by the calls' names.
func (t *tracer) stop() (map[string]int, error) {
	if err := t.cmd.Process.Signal(os.Interrupt); err != nil {
		return nil, fmt.Errorf("stop strace: %w", err)
	}
	_ = t.cmd.Wait() // it ends by our signal, and says so
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
