package proxy

import (
	"iter"
	"slices"
)

// A list holds a worker's sessions, linked through themselves.
type list struct {
	first  *Session
	places []*place // of the walks under way
}

// A place is where a walk through a list goes on, which others change meanwhile.
type place struct{ next *Session }

// links are a session's neighbours in its list.
type links struct{ next, prev *Session }

func (l *list) add(s *Session) {
	s.next = l.first
	if l.first != nil {
		l.first.prev = s
	}
	l.first = s
}

func (l *list) remove(s *Session) {
	for _, p := range l.places {
		if p.next == s {
			p.next = s.next
		}
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		l.first = s.next
	}
	s.links = links{}
}

// all yields every session; the one that was yielded may be removed meanwhile.
func (l *list) all() iter.Seq[*Session] {
	return func(yield func(*Session) bool) {
		for s := l.first; s != nil; {
			next := s.next
			if !yield(s) {
				return
			}
			s = next
		}
	}
}

// begin returns the place where a walk begins; forget ends it. Sessions that come
// later stand before that place.
func (l *list) begin() *place {
	p := &place{l.first}
	l.places = append(l.places, p)
	return p
}

func (l *list) forget(p *place) {
	l.places = slices.DeleteFunc(l.places, func(other *place) bool { return other == p })
}
