package fault

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"time"
)

// A dialogue is one session: it reads the header, then runs the script with the
// fault that was asked for.
type dialogue struct {
	server    *Server
	conn      *net.TCPConn
	session   *Session // guarded by server.mu
	behaviour Behaviour
	in        *bufio.Reader
	script    []string // the commands, BEGUN and SERVED included
	hungUp    bool
}

// errHungUp ends a script whose caller has left.
var errHungUp = errors.New("the caller has hung up")

// run serves the session. What it returns is no error if the session went as its
// behaviour says.
func (d *dialogue) run() error {
	if d.behaviour.Mode == AcceptClose {
		d.note(func(s *Session) { s.Mode = AcceptClose })
		return d.leave()
	}
	d.in = bufio.NewReader(d.conn)
	if err := d.header(); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	switch d.behaviour.Mode {
	case ReadClose:
		return d.leave()
	case Mute:
		_, err := io.Copy(io.Discard, d.in)
		return err
	case Pipelined:
		return d.pipeline()
	case Flood:
		return d.flood()
	default:
		return d.dialogue()
	}
}

// header reads the environment, and learns from the script's query what to do.
func (d *dialogue) header() error {
	fields := make(map[string]string)
	var arguments []string
	for {
		ln, err := d.in.ReadString('\n')
		if err != nil {
			return err
		}
		if ln == "\n" {
			break
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(ln, "\n"), ": ")
		if _, twice := fields[name]; !twice {
			fields[name] = value
		}
		if strings.HasPrefix(name, "agi_arg_") {
			arguments = append(arguments, value)
		}
	}
	_, query, _ := strings.Cut(fields["agi_network_script"], "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return err
	}
	if values.Has("fault") {
		if d.behaviour, err = fromValues(values); err != nil {
			return err
		}
		if m := d.behaviour.Mode; !m.accepts() || m == AcceptClose {
			return fmt.Errorf("the fault %s comes before the header; set it on the server", m)
		}
	}
	d.script = d.server.commands(values["do"])
	d.note(func(s *Session) {
		s.Header, s.Mode = true, d.behaviour.Mode
		s.Script, s.Arguments = fields["agi_network_script"], arguments
		s.UniqueID, s.Attempt, s.Resumed = fields["agi_uniqueid"], fields["agi_attempt"], fields["agi_resumed"]
	})
	return nil
}

// commands returns the whole script of a session that asked for do.
func (s *Server) commands(do []string) []string {
	if len(do) == 0 {
		do = s.script
	}
	script := append([]string{"SET VARIABLE BEGUN " + s.name}, do...)
	return append(script, "SET VARIABLE SERVED "+s.name)
}

// dialogue runs the script, one command and one reply after the other, up to the
// place of the fault.
func (d *dialogue) dialogue() error {
	for i, command := range d.script {
		if i == d.behaviour.After {
			switch d.behaviour.Mode {
			case Die:
				return d.leave()
			case MidCommand:
				if err := d.send(command + "\n"); err != nil {
					return err
				}
				time.Sleep(d.behaviour.delay(100 * time.Millisecond))
				return d.leave()
			case HalfLine:
				if err := d.send(command[:len(command)/2]); err != nil {
					return err
				}
				time.Sleep(d.behaviour.delay(50 * time.Millisecond))
				return d.leave()
			case LongLine:
				return d.longLine(command)
			}
		}
		if d.behaviour.Mode == Slow {
			time.Sleep(d.behaviour.delay(time.Second))
		}
		if err := d.send(command + "\n"); err != nil {
			return err
		}
		if err := d.reply(); err != nil {
			return err
		}
		if d.hungUp {
			return errHungUp
		}
	}
	d.done()
	return nil
}

// pipeline sends the script in one write. Asterisk answers the first command and
// leaves the others in a buffer until another byte comes (res_agi.c, run_agi), so
// one more command follows.
func (d *dialogue) pipeline() error {
	if err := d.send(strings.Join(d.script, "\n") + "\n"); err != nil {
		return err
	}
	time.Sleep(d.behaviour.delay(50 * time.Millisecond))
	if err := d.send("NOOP\n"); err != nil {
		return err
	}
	for range len(d.script) + 1 {
		if err := d.reply(); err != nil {
			return err
		}
	}
	d.done()
	return nil
}

// A flood ends when the other side closes, or after this much.
const floodBytes, floodTime = 64 << 20, 30 * time.Second

func (d *dialogue) flood() error {
	d.conn.SetDeadline(time.Now().Add(floodTime))
	lines := strings.Repeat("NOOP flood\n", 1000)
	for range floodBytes / len(lines) {
		if err := d.send(lines); err != nil {
			return err
		}
	}
	return d.leave()
}

func (d *dialogue) longLine(command string) error {
	d.conn.SetDeadline(time.Now().Add(floodTime))
	part := command + strings.Repeat(" x", 4096)
	for range floodBytes / len(part) {
		if err := d.send(part); err != nil {
			return err
		}
	}
	return d.leave()
}

func (d *dialogue) send(text string) error {
	d.note(func(s *Session) { s.Begun = true })
	_, err := io.WriteString(d.conn, text)
	return err
}

// reply reads Asterisk's answer to one command: a line, or for 520 the usage up
// to its end. A HANGUP before it is noted.
func (d *dialogue) reply() error {
	for usage := false; ; {
		ln, err := d.in.ReadString('\n')
		if err != nil {
			return err
		}
		switch {
		case ln == "HANGUP\n":
			d.hungUp = true
			d.note(func(s *Session) { s.HungUp = true })
		case strings.HasPrefix(ln, "520-"):
			usage = true
		case !usage || strings.HasPrefix(ln, "520 "):
			d.note(func(s *Session) {
				s.Commands++
				s.Replies = append(s.Replies, strings.TrimSuffix(ln, "\n"))
			})
			if strings.HasPrefix(ln, "200 result=-1") {
				return d.failed()
			}
			return nil
		}
	}
}

// failed ends the script after a command that could not be carried out, as most
// scripts would: mostly because the caller has left, and then HANGUP follows soon.
func (d *dialogue) failed() error {
	d.conn.SetReadDeadline(time.Now().Add(time.Second))
	if ln, err := d.in.ReadString('\n'); err != nil || ln != "HANGUP\n" {
		return fmt.Errorf("the command %d failed", d.session.Commands) // written by this goroutine alone
	}
	d.note(func(s *Session) { s.HungUp = true })
	return errHungUp
}

func (d *dialogue) done() { d.note(func(s *Session) { s.Done = true }) }

// leave closes the connection as the behaviour says.
func (d *dialogue) leave() error {
	if d.behaviour.Reset {
		d.conn.SetLinger(0) // what is not sent is dropped, and a reset goes out
	}
	return d.conn.Close()
}
