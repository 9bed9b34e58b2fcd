// Package fault is a FastAGI server that serves a small script, and fails on
// demand in every way that FastAGI servers were seen to fail.
//
// What it does to a session is a [Behaviour]: the server's, which can be changed
// while it runs, or one that the dialplan asks for in the query of the script
// (agi://host/ivr?fault=half-line&after=1). The script says who serves it: it
// sets the variable BEGUN to the server's name when it begins, and SERVED when it
// has done all; what it does in between can be asked for too (do=EXEC+Wait+5, any
// number of times). The server keeps a record of every session, so that a test can
// prove that no script ran twice.
package fault

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"
)

// Options tell a Server what to be.
type Options struct {
	Name      string    // what the script calls itself
	Script    []string  // the commands between BEGUN and SERVED; nil means DefaultScript
	Behaviour Behaviour // until Set changes it
	Probe     string    // the script whose sessions Stats counts apart; "" means agiproxy-probe
	// Listen opens the listener; nil means net.Listen. (Blackhole dials what it fills.)
	Listen func(network, address string) (net.Listener, error)
}

// DefaultScript is what a session does unless it is told otherwise.
var DefaultScript = []string{
	`VERBOSE "served by the testbed" 3`,
	`STREAM FILE welcome ""`,
	`WAIT FOR DIGIT 100`,
}

// A Server is one FastAGI server. It is safe for concurrent use.
type Server struct {
	name   string
	script []string
	probe  string
	listen func(network, address string) (net.Listener, error)
	addr   string
	work   sync.WaitGroup

	mu        sync.Mutex
	behaviour Behaviour
	listener  net.Listener // nil while Refuse is set
	filling   []net.Conn   // what keeps the backlog full while Blackhole is set
	conns     map[net.Conn]bool
	sessions  []*Session
	closed    bool
}

// Listen starts a server on addr, which may have port 0. The caller must Close it.
func Listen(addr string, o Options) (*Server, error) {
	if o.Script == nil {
		o.Script = DefaultScript
	}
	if o.Probe == "" {
		o.Probe = "agiproxy-probe"
	}
	if o.Listen == nil {
		o.Listen = net.Listen
	}
	s := &Server{name: o.Name, script: o.Script, probe: o.Probe, listen: o.Listen, addr: addr, conns: make(map[net.Conn]bool)}
	// the port is settled first, so that a server that begins by refusing has one
	if err := s.open(true); err != nil {
		return nil, err
	}
	s.addr = s.listener.Addr().String()
	if err := s.Set(o.Behaviour); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Addr returns the host and port that the server is on, even while it refuses.
func (s *Server) Addr() string { return s.addr }

// Set changes what the sessions to come will meet. Those under way go on.
func (s *Server) Set(b Behaviour) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	was := s.behaviour.Mode
	s.behaviour = b
	if b.Mode.accepts() && was.accepts() && s.listener != nil {
		return nil // as it should
	}
	s.shut()
	switch b.Mode {
	case Refuse:
		return nil
	case Blackhole:
		return s.fill()
	default:
		return s.open(true)
	}
}

// open listens, and accepts if it is told to.
func (s *Server) open(accept bool) error {
	ln, err := s.listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("fault server %s: %w", s.name, err)
	}
	s.listener = ln
	if accept {
		s.work.Go(func() { s.accept(ln) })
	}
	return nil
}

// fill listens without accepting, and fills the backlog: Linux then drops
// whatever asks for a connection, as a host that is gone would.
func (s *Server) fill() error {
	if err := s.open(false); err != nil {
		return err
	}
	raw, err := s.listener.(*net.TCPListener).SyscallConn()
	if err != nil {
		return fmt.Errorf("fault server %s: %w", s.name, err)
	}
	var failed error
	// listening once more changes the backlog; with 0, Linux keeps one connection
	err = raw.Control(func(fd uintptr) { failed = syscall.Listen(int(fd), 0) })
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("fault server %s: shorten the backlog: %w", s.name, err)
	}
	for range 16 {
		c, err := net.DialTimeout("tcp", s.addr, 100*time.Millisecond)
		if err != nil {
			return nil // full
		}
		s.filling = append(s.filling, c)
	}
	return fmt.Errorf("fault server %s: its backlog does not fill", s.name)
}

// shut stops listening.
func (s *Server) shut() {
	if s.listener != nil {
		s.listener.Close()
		s.listener = nil
	}
	for _, c := range s.filling {
		c.Close()
	}
	s.filling = nil
}

func (s *Server) accept(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return // closed, by shut
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			c.Close()
			return
		}
		session := new(Session)
		s.sessions = append(s.sessions, session)
		s.conns[c] = true
		d := &dialogue{server: s, conn: c.(*net.TCPConn), session: session, behaviour: s.behaviour}
		s.work.Go(func() { s.serve(d) })
		s.mu.Unlock()
	}
}

func (s *Server) serve(d *dialogue) {
	defer d.conn.Close()
	err := d.run()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, d.conn)
	d.session.Ended = true
	if err != nil {
		d.session.Error = err.Error()
	}
}

// Close ends the server and all of its sessions, and returns when they are gone.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.shut()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.work.Wait()
	return nil
}
