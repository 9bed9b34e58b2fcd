package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"agiproxy/internal/app"
)

// handoverEnv names the descriptor by which a process that takes another's place
// speaks with that one.
const handoverEnv = "AGIPROXY_HANDOVER"

// predecessor returns the process whose place this one is to take, nil if there is
// none.
func predecessor() (*app.Predecessor, error) {
	value, ok := os.LookupEnv(handoverEnv)
	if !ok {
		return nil, nil
	}
	os.Unsetenv(handoverEnv) // it isn't meant for those that this process starts
	fd, err := strconv.ParseUint(value, 10, 31)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s=%q; want the number of a descriptor", handoverEnv, value)
	}
	p, err := app.NewPredecessor(os.NewFile(uintptr(fd), "handover"))
	if err != nil {
		return nil, fmt.Errorf("%s=%s: %w", handoverEnv, value, err)
	}
	return p, nil
}

// A self is what this process was started as: a new version has the same path, and
// gets the same arguments.
type self struct {
	path string
	err  error // why there is no path
	args []string
}

// startedAs finds out, which it has to before the directory changes. It doesn't look
// through links: what they lead to may be the old version.
func startedAs(args []string) self {
	path, err := exec.LookPath(args[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	return self{path, err, args}
}

// errFirst refuses to hand over where the end of this process is the end of all.
var errFirst = errors.New("this is process 1, and with it the container would end: start a new container")

// begin starts the new version with the socket.
func (s self) begin(socket *os.File) (app.Successor, error) {
	if os.Getpid() == 1 {
		return nil, errFirst
	}
	if s.err != nil {
		return nil, s.err
	}
	cmd := exec.Command(s.path) // #nosec G204 -- this program, as the system has found it at its start
	cmd.Args = s.args
	cmd.Env = append(os.Environ(), handoverEnv+"=3")
	cmd.ExtraFiles = []*os.File{socket}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{process: cmd.Process, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		_ = cmd.Wait() // it says itself what is wrong with it
	}()
	return c, nil
}

// A child is the new version.
type child struct {
	process *os.Process
	ended   chan struct{}
	kill    sync.Once
}

func (c *child) PID() int { return c.process.Pid }

func (c *child) Reload() error { return c.process.Signal(syscall.SIGHUP) }

func (c *child) Kill() {
	c.kill.Do(func() { _ = c.process.Kill() }) // one that has ended needs none
	<-c.ended
}
