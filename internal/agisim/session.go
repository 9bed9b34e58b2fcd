package agisim

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"

	"agiproxy/agi"
)

// maxHeader is how much of a header a session takes; far more than Asterisk
// can send.
const maxHeader = 1 << 20

// A Session is the server's side of one FastAGI session. It isn't safe for
// concurrent use, but for Reset and Close.
type Session struct {
	conn     net.Conn
	r        *bufio.Reader
	header   *agi.Header
	dialogue agi.Dialogue
}

// NewSession returns the server's side of a session on conn, of which nothing
// has been read. A [Server] makes one for each connection.
func NewSession(conn net.Conn) *Session {
	return &Session{conn: conn, r: bufio.NewReader(conn), header: agi.NewHeader(maxHeader)}
}

// Header reads the header to its empty line and returns it; called again, it
// returns the same. A connection that ends before is an error.
func (s *Session) Header() (*agi.Header, error) {
	for !s.header.Done() {
		line, err := s.r.ReadBytes('\n')
		if _, ferr := s.header.Feed(line); ferr != nil {
			return s.header, ferr
		}
		if err != nil && !s.header.Done() {
			return s.header, fmt.Errorf("read header: %w", ended(err))
		}
	}
	return s.header, nil
}

// Send sends a command line and does not await its reply. A command that
// interrupts another is sent like this, or two at once.
func (s *Session) Send(line string) error {
	s.dialogue.Command([]byte(line))
	if _, err := io.WriteString(s.conn, line+"\n"); err != nil {
		return fmt.Errorf("send %q: %w", line, err)
	}
	return nil
}

// Command reads the header if that hasn't been done, sends a command line and
// awaits the reply. The lines of a reply that has several stand in its Text. If
// commands were sent before and not awaited, their replies are read and
// dropped. HANGUP on the way is noted, see [Session.HungUp].
func (s *Session) Command(line string) (agi.Reply, error) {
	if _, err := s.Header(); err != nil {
		return agi.Reply{}, err
	}
	if err := s.Send(line); err != nil {
		return agi.Reply{}, err
	}
	return s.Await()
}

// Await reads until every command is answered and returns the last reply. Where
// none is owed it returns the zero Reply.
func (s *Session) Await() (agi.Reply, error) {
	var reply agi.Reply
	begun := false // reply holds a first line, and waits for others
	for s.dialogue.Turn() == agi.AsterisksTurn {
		line, err := s.r.ReadBytes('\n')
		complete := s.dialogue.Replies(line) > 0
		if err != nil {
			return reply, fmt.Errorf("await reply: %w", ended(err))
		}
		if begun {
			reply.Text += "\n" + string(bytes.TrimRight(line, "\r\n"))
		} else if r, err := agi.ParseReply(line); err == nil {
			reply, begun = r, true
		}
		if complete {
			begun = false
		}
	}
	return reply, nil
}

// HungUp reports whether Asterisk has said HANGUP, as far as was read.
func (s *Session) HungUp() bool { return s.dialogue.HungUp() }

// AwaitClose reads until Asterisk closes, which it does when the server has, and
// on a few other occasions; HANGUP is noted.
func (s *Session) AwaitClose() error {
	for {
		line, err := s.r.ReadBytes('\n')
		s.dialogue.Replies(line)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("await close: %w", err)
		}
	}
}

// Conn returns the connection, for faults that no other method offers. What was
// read ahead is not seen there.
func (s *Session) Conn() net.Conn { return s.conn }

// CloseWrite closes the sending half, so that Asterisk ends the session, and
// what it says last can still be read.
func (s *Session) CloseWrite() error {
	if c, ok := s.conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return s.conn.Close()
}

// Close closes the connection. Unread input turns that into a reset, as always
// in TCP. It may be called at any time, and more than once.
func (s *Session) Close() { s.conn.Close() }

// Reset breaks the connection with a TCP reset, whatever was read or sent. It
// may be called at any time.
func (s *Session) Reset() {
	if c, ok := s.conn.(interface{ SetLinger(int) error }); ok {
		_ = c.SetLinger(0)
	}
	s.conn.Close()
}

// ended makes the end of a connection in the middle of something an error that
// says so.
func ended(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
