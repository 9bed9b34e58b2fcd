package proxy

import "iter"

// A list holds a worker's sessions, linked through themselves.
type list struct{ first *Session }

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
