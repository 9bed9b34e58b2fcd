//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A process is a running proxy with its children.
type process struct {
	cmd    *exec.Cmd
	dir    string
	exited chan error
}

// start starts a program on that processor, -1: on any. It ends with the thread
// that started it, which must therefore be locked. What it prints goes into the
// file "log".
func start(dir string, cpu int, program string, args ...string) (*process, error) {
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	err = onCPU(cpu, cmd.Start) // children inherit it
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	p := &process{cmd: cmd, dir: dir, exited: make(chan error, 1)}
	go func() { p.exited <- cmd.Wait() }()
	return p, nil
}

// onCPU calls f with the calling thread on that processor, -1: as it is.
func onCPU(cpu int, f func() error) error {
	if cpu < 0 {
		return f()
	}
	var before, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("get affinity: %w", err)
	}
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin to processor %d: %w", cpu, err)
	}
	return errors.Join(f(), unix.SchedSetaffinity(0, &before))
}

// stop ends the process as its service manager would, and kills it and its
// children if that takes long.
func (p *process) stop() error {
	var err error
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended, which exited tells
	select {
	case err = <-p.exited:
	case <-time.After(patience):
		err = errors.New("had to be killed")
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // nobody is left in its group if it ended well
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && (exit.ExitCode() == 0 || exit.Sys().(syscall.WaitStatus).Signaled() || exit.ExitCode() == 128+int(syscall.SIGTERM)) {
		return nil
	}
	return err
}

// said returns the last lines of what the process has printed.
func (p *process) said() string {
	b, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

// complaints returns the first lines that the process has printed, but for
// records of sessions.
func (p *process) complaints() string {
	b, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil {
		return err.Error()
	}
	var w strings.Builder
	for line := range strings.Lines(string(b)) {
		if !record([]byte(line)) && w.Len() < 4000 {
			w.WriteString(line)
		}
	}
	return w.String()
}

// record reports whether a line tells of a session: agiproxy's, or HAProxy's
// with its frontend's name.
func record(line []byte) bool {
	return bytes.Contains(line, []byte("outcome")) || bytes.Contains(line, []byte(" asterisk "))
}

// records returns how many records of sessions the process has printed.
func (p *process) records() (int, error) {
	f, err := os.Open(filepath.Join(p.dir, "log"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n := 0
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if record(lines.Bytes()) {
			n++
		}
	}
	return n, lines.Err()
}

// pids returns the process and its children.
func (p *process) pids() ([]int, error) {
	root := p.cmd.Process.Pid
	pids := []int{root}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	for _, file := range stats {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state ppid …
		_, rest, _ := strings.Cut(string(b), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(root) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// cpu returns the processor time that the process, its children and all their
// threads have used, to the nanosecond. Time of threads that have ended is
// missing; the proxies here keep theirs.
func (p *process) cpu() (time.Duration, error) {
	pids, err := p.pids()
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, pid := range pids {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil {
			return 0, err
		}
		if len(tasks) == 0 {
			return 0, fmt.Errorf("process %d has ended: %s", pid, p.said())
		}
		for _, file := range tasks {
			b, err := os.ReadFile(file)
			if err != nil {
				continue // the thread has ended
			}
			first, _, _ := strings.Cut(string(b), " ")
			ns, err := strconv.ParseInt(first, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", file, err)
			}
			sum += time.Duration(ns)
		}
	}
	return sum, nil
}

// rss returns the memory that the process and its children have, in bytes.
func (p *process) rss() (int64, error) {
	pids, err := p.pids()
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, pid := range pids {
		// Exact, where status may be some pages behind for each thread.
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		_, rest, _ := strings.Cut(string(b), "\nRss:")
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			return 0, fmt.Errorf("process %d: no Rss in smaps_rollup", pid)
		}
		kB, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("process %d: Rss: %w", pid, err)
		}
		sum += kB << 10
	}
	return sum, nil
}
