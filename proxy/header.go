package proxy

import (
	"errors"

	"agiproxy/agi"
)

var (
	errHeaderLate = errors.New("header is late")
	errHeaderCut  = errors.New("closed within the header")
	errNoRoute    = errors.New("no route takes this session")
)

// readHeader takes the next bytes of the header; with its last the session
// goes on to a pool.
func (s *Session) readHeader(p []byte) {
	n, err := s.header.Feed(p)
	if err != nil {
		reason := "malformed"
		if !errors.Is(err, agi.ErrMalformed) {
			reason = "too_large"
		}
		s.badHeader(reason, err)
		return
	}
	if !s.header.Done() {
		return
	}
	s.who = string(s.header.Script()) + "\n" + string(s.header.Field("agi_channel")) + "\n" + string(s.header.Field("agi_uniqueid"))
	if s.pool = s.worker.server.Table().route(s.header); s.pool == nil {
		s.header = nil
		s.dialogue.Replies(p[n:])
		s.fail("NOROUTE", NoRoute, errNoRoute)
		return
	}
	s.dispatchUntil = s.after(s.pool.opts.DispatchTimeout)
	if s.early = append(s.early, p[n:]...); len(s.early) > 0 {
		s.dialogue.Replies(s.early)
	}
	s.dispatch()
}

// badHeader ends a session that can't be routed, counted by reason.
func (s *Session) badHeader(reason string, err error) {
	s.worker.server.opts.Metrics.reject(s.listener, reason)
	s.header = nil
	s.refuse(BadHeader, err)
}

func (s *Session) headerLate() {
	s.worker.server.opts.Metrics.reject(s.listener, "late")
	s.header = nil
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
