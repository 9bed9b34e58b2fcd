package fault

import "slices"

// A Session is what a server remembers of one connection.
type Session struct {
	Script    string   // agi_network_script, as Asterisk sent it
	Arguments []string // agi_arg_1 and so on
	UniqueID  string   // agi_uniqueid
	Attempt   string   // agi_attempt, which agiproxy adds when it sends a header again
	Resumed   string   // agi_resumed, which it adds where another server had begun
	Mode      Mode     // what was done to it
	Header    bool     // the header came, to its empty line
	Begun     bool     // a command was sent: the script ran
	Commands  int      // commands answered
	Replies   []string // what Asterisk answered, of each reply the last line
	Done      bool     // the script ran to its end
	HungUp    bool     // the line HANGUP came before that
	Ended     bool     // the connection is closed
	Error     string   // why the script did not run to its end, if it should have
}

// Stats are the sums over a server's sessions, those of probes left out.
type Stats struct {
	Probes   int // sessions of probes
	Accepted int // connections, with or without a header
	Headers  int
	Begun    int
	Commands int
	Done     int
	HungUp   int
	Active   int // connections not closed yet
}

// Sessions returns the records of all sessions so far, in the order of accepting.
func (s *Server) Sessions() []Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Session, len(s.sessions))
	for i, session := range s.sessions {
		all[i] = *session
	}
	return all
}

// Calls returns the records of the sessions that are no probes and sent a header.
func (s *Server) Calls() []Session {
	return slices.DeleteFunc(s.Sessions(), func(session Session) bool {
		return !session.Header || session.Script == s.probe
	})
}

// Stats returns the sums so far.
func (s *Server) Stats() Stats {
	var st Stats
	for _, session := range s.Sessions() {
		if session.Script == s.probe {
			st.Probes++
			continue
		}
		st.Accepted++
		st.Commands += session.Commands
		st.Headers += count(session.Header)
		st.Begun += count(session.Begun)
		st.Done += count(session.Done)
		st.HungUp += count(session.HungUp)
		st.Active += count(!session.Ended)
	}
	return st
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

// note changes a session's record.
func (d *dialogue) note(change func(*Session)) {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	change(d.session)
}
