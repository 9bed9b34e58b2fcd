package agisim

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A Server is a FastAGI server that runs a script for each connection. Its
// methods are safe for concurrent use.
type Server struct {
	script func(*Session)
	ln     net.Listener
	wg     sync.WaitGroup // the accepting, and the sessions

	mu       sync.Mutex
	sessions map[*Session]struct{}
	closed   bool
}

// Listen starts a server on address, which is HOST:PORT; port 0 takes a free
// one. script runs on a goroutine of its own for each connection, which is
// closed when it returns.
func Listen(address string, script func(*Session)) (*Server, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", address, err)
	}
	s := &Server{script: script, ln: ln, sessions: map[*Session]struct{}{}}
	s.wg.Go(s.accept)
	return s, nil
}

// Addr returns the address that the server listens on.
func (s *Server) Addr() netip.AddrPort {
	return s.ln.Addr().(*net.TCPAddr).AddrPort()
}

// Stop refuses new connections from now on and returns when the sessions under
// way have ended: what a server does that is told to finish.
func (s *Server) Stop() {
	s.ln.Close()
	s.wg.Wait()
}

// Kill refuses new connections from now on and resets those there are, then
// waits for their scripts to return: what is seen of a host that crashed and
// came back, and of a process that was killed with input unread.
func (s *Server) Kill() {
	s.mu.Lock()
	s.closed = true
	s.ln.Close()
	for session := range s.sessions {
		session.Reset()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// Sessions returns how many connections there are.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

func (s *Server) accept() {
	for {
		conn, err := s.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of descriptors, most likely
			continue
		}
		session := NewSession(conn)
		if s.add(session) {
			s.wg.Go(func() { s.serve(session) })
		}
	}
}

// add takes a session in, unless the server was killed meanwhile.
func (s *Server) add(session *Session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		session.Reset()
		return false
	}
	s.sessions[session] = struct{}{}
	return true
}

func (s *Server) serve(session *Session) {
	s.script(session)
	session.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, session)
}
