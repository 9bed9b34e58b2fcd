package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"agiproxy/internal/agisim"
)

// firstIVRPort is where the demo's servers look for free ports. It lies below
// those that the kernel hands out, so that a dead server's port stays free.
const firstIVRPort = 14581

// An ivr is one of the demo's FastAGI servers. It can be killed and started
// again on the same port.
type ivr struct {
	name    string
	number  int // said to the caller
	address string
	digit   time.Duration // that a caller has to type
	board   *board

	mu     sync.Mutex
	server *agisim.Server // nil: killed
	calls  int            // that have been given their first command
}

// startIVRs starts n servers on loopback.
func startIVRs(n int, digit time.Duration, b *board) (servers []*ivr, err error) {
	port := firstIVRPort
	for len(servers) < n {
		v := &ivr{
			name:    fmt.Sprintf("ivr%d", len(servers)+1),
			number:  len(servers) + 1,
			address: fmt.Sprintf("127.0.0.1:%d", port),
			digit:   digit,
			board:   b,
		}
		port++
		switch err := v.start(); {
		case err == nil:
			servers = append(servers, v)
		case !errors.Is(err, syscall.EADDRINUSE) || port > firstIVRPort+100:
			return nil, err
		}
	}
	return servers, nil
}

// start listens, for the first time or again.
func (v *ivr) start() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	server, err := agisim.Listen(v.address, v.script)
	if err != nil {
		return err
	}
	v.server = server
	return nil
}

// killIfIdle kills the server if no call would be lost with it, and reports
// whether it did: its port refuses, and what hasn't begun is reset.
func (v *ivr) killIfIdle() bool {
	v.mu.Lock()
	if v.calls > 0 || v.server == nil {
		v.mu.Unlock()
		return false
	}
	server := v.server
	v.server = nil // from now on no script begins
	v.mu.Unlock()
	server.Kill()
	return true
}

// close ends the server with all of its calls.
func (v *ivr) close() {
	v.mu.Lock()
	server := v.server
	v.server = nil
	v.mu.Unlock()
	if server != nil {
		server.Kill()
	}
}

func (v *ivr) alive() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.server != nil
}

// begin takes a call in, unless the server is dead.
func (v *ivr) begin() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.server == nil {
		return false
	}
	v.calls++
	return true
}

func (v *ivr) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.calls--
}

// servedBy is the channel variable in which a server leaves its name.
const servedBy = "SERVED_BY"

// script is the whole IVR. A health check comes here, too, and is hung up on at
// its first command.
func (v *ivr) script(s *agisim.Session) {
	h, err := s.Header()
	if err != nil {
		return
	}
	if !v.begin() {
		s.Reset() // died with the header in its hands
		return
	}
	defer v.end()
	if n, _ := strconv.Atoi(string(h.Field("agi_attempt"))); n > 1 {
		v.board.count(func(t *totals) { t.moved++ })
	}
	for _, command := range []string{
		"ANSWER",
		"SET VARIABLE " + servedBy + " " + v.name,
		`STREAM FILE hello-world ""`, // which every Asterisk has
		fmt.Sprintf("WAIT FOR DIGIT %d", v.digit.Milliseconds()),
		fmt.Sprintf(`SAY NUMBER %d ""`, v.number), // so that callers hear who serves them
	} {
		reply, err := s.Command(command)
		if err != nil || s.HungUp() || reply.Result == "-1" && !strings.HasPrefix(command, "STREAM") {
			return
		}
	}
}
