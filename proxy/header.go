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
	errNoRoute    = errors.New("no route takes this session")
)

// readHeader takes the next bytes of the header; with its last the session
// goes on to a pool.
func (s *Session) readHeader(p []byte) {
	d := s.dispatching
	n, err := d.header.Feed(p)
	if err != nil {
		reason := "malformed"
		if !errors.Is(err, agi.ErrMalformed) {
			reason = "too_large"
		}
		s.badHeader(reason, err)
		return
	}
	if !d.header.Done() {
		return
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
func (s *Session) badHeader(reason string, err error) {
	s.worker.counts.reject(s.listener, reason)
	s.undispatch()
	s.refuse(BadHeader, err)
}

func (s *Session) headerLate() {
	s.worker.counts.reject(s.listener, "late")
	s.undispatch()
	s.refuse(Timeout, errHeaderLate)
}

// cutHeader ends a session whose Asterisk has closed before the empty line. A
// cut header is never sent on: the rest may have been what matters.
func (s *Session) cutHeader(err error) {
	if err == nil {
		err = errHeaderCut
	}
	s.badHeader("cut", err)
}
