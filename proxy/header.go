package proxy

import (
	"bytes"
	"errors"

	"agiproxy/agi"
	"agiproxy/balancer"
)

var (
	errHeaderLate = errors.New("header is late")
	errHeaderCut  = errors.New("closed within the header")
	errTLS        = errors.New("it speaks TLS, and this listener doesn't")
	errAnnounced  = errors.New("it begins with a PROXY header, and accept_proxy_protocol doesn't list where it is from")
	errNoRoute    = errors.New("no route takes this session")
)

// readHeader takes the next bytes of the header; with its last the session
// goes on to a pool.
func (s *Session) readHeader(p []byte) {
	if s.from.awaited {
		if p = s.readAnnouncement(p); len(p) == 0 {
			return
		}
	}
	d, tokens := s.dispatching, s.from.listener.opts.Load().Tokens
	n, err := d.header.Feed(p)
	if s.traced && len(tokens) == 0 {
		s.traceAsterisk(p)
	}
	if err != nil {
		switch begin := d.header.Bytes(); {
		case isTLS(begin):
			err = errTLS
		case isAnnouncement(begin), isAnnouncement(p): // of version 2 the header keeps no more than its first line
			err = errAnnounced
		}
		why := refusedMalformed
		if errors.Is(err, agi.ErrHeaderTooLarge) || errors.Is(err, agi.ErrTooManyLines) {
			why = refusedTooLarge
		}
		s.badHeader(why, err)
		return
	}
	if !d.header.Done() {
		return
	}
	if len(tokens) > 0 {
		known := s.knowsToken(tokens)
		if s.traced { // only now is the secret gone
			s.traceAsterisk(d.header.Bytes())
			s.traceAsterisk(p[n:])
		}
		s.identify(&d.header)
		if !known {
			s.turnAway(refusedToken, errToken)
			return
		}
	}
	s.identify(&d.header)
	if s.pool = s.worker.server.Table().route(&d.header); s.pool == nil {
		s.undispatch()
		s.dialogue.Replies(p[n:])
		s.fail("NOROUTE", NoRoute, errNoRoute)
		return
	}
	d.until = s.after(s.pool.opts.DispatchTimeout)
	if field := s.pool.opts.HashField; field != "" {
		d.key = balancer.Key(value(&d.header, field))
	}
	if n < len(p) {
		d.early = bytes.Clone(p[n:])
		s.dialogue.Replies(d.early)
	}
	s.dispatch()
}

// badHeader ends a session that can't be routed, counted by reason.
func (s *Session) badHeader(why refusal, err error) {
	s.refused(why)
	s.undispatch()
	s.refuse(BadHeader, err)
}

func (s *Session) headerLate() {
	s.refused(refusedLate)
	s.undispatch()
	s.refuse(Timeout, errHeaderLate)
}

// cutHeader ends a session whose Asterisk has closed before the empty line. A
// cut header is never sent on: the rest may have been what matters.
func (s *Session) cutHeader(err error) {
	if err == nil {
		err = errHeaderCut
	}
	s.badHeader(refusedCut, err)
}

// isTLS reports whether a connection that begins like that is by TLS: a handshake, of
// version 3 of its record layer (RFC 8446, 5.1).
func isTLS(p []byte) bool { return len(p) > 1 && p[0] == 22 && p[1] == 3 }

// isAnnouncement reports whether a connection that begins like that is of a proxy that
// announces its client, of version 1 or 2 (sections 2.1 and 2.2 of HAProxy's
// proxy-protocol.txt).
func isAnnouncement(p []byte) bool {
	return bytes.HasPrefix(p, []byte("PROXY ")) || bytes.HasPrefix(p, []byte("\r\n\r\n\x00\r\nQUIT\n"))
}
