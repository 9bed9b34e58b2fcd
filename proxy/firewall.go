package proxy

import (
	"bytes"
	"strings"
	"time"

	"agiproxy/agi"
)

// A CommandRules says which lines of its backends a pool passes on. A rule is the
// words that a line must begin with, in any case: "EXEC System", "DATABASE". A *
// ends one whose last word may go on: "GET VARIABLE SHELL(*". The zero value passes
// everything on.
type CommandRules struct {
	Allow  []string // none: everything that is not denied
	Deny   []string
	Strict bool // a line that is none of AGI's commands is refused, too
}

// denialReason is why a line was refused.
type denialReason uint8

const (
	lineDenied     denialReason = iota // by a rule
	lineNotAllowed                     // by none of those that allow
	lineNotAGI
	lineWords // more than Asterisk has room for
	lineNUL   // Asterisk reads no further than to it
	numDenialReasons
)

// String returns the reason as logs and metrics have it.
func (r denialReason) String() string {
	return [numDenialReasons]string{"denied", "not_allowed", "not_agi", "words", "nul"}[r]
}

// substitutes are what Asterisk gets in place of refused lines. It takes none of
// them for a command, and so answers 510 as it answers everything that it doesn't
// know: to the backend, in its turn, with whatever is under way before it. Had
// agiproxy to answer, it would have to keep what comes behind the refused line until
// the replies before it are there, and these may not come: of lines that came
// together Asterisk reads the second only when something follows.
var substitutes = func() (all [numDenialReasons][]byte) {
	for r := range all {
		all[r] = []byte("agiproxy has refused a line: " + denialReason(r).String() + "\n")
	}
	return all
}()

// A rule is one of CommandRules', ready to be compared.
type rule struct {
	words []string // in capitals
	open  bool     // the last may go on
}

// mostRuleWords is how many words of a rule are looked at.
const mostRuleWords = 8

// A firewall is a pool's rules, ready to be compared.
type firewall struct {
	allow, deny []rule
	strict      bool
	words       int // of the longest rule
}

// newFirewall returns nil for rules that refuse nothing.
func newFirewall(r CommandRules) *firewall {
	if len(r.Allow) == 0 && len(r.Deny) == 0 && !r.Strict {
		return nil
	}
	f := &firewall{strict: r.Strict}
	f.allow, f.deny = f.rules(r.Allow), f.rules(r.Deny)
	return f
}

func (f *firewall) rules(texts []string) (all []rule) {
	for _, text := range texts {
		var r rule
		for rest, ok := []byte(text), true; ok; {
			var word []byte
			if word, rest, ok = agi.NextWord(rest, nil); ok && len(r.words) < mostRuleWords {
				r.words = append(r.words, strings.ToUpper(string(word)))
			}
		}
		if n := len(r.words); n > 0 {
			r.words[n-1], r.open = strings.CutSuffix(r.words[n-1], "*")
			f.words = max(f.words, n)
			all = append(all, r)
		}
	}
	return all
}

// judge reports whether a line with its line feed is refused, and why.
func (f *firewall) judge(line []byte) (denialReason, bool) {
	if agi.IsFailure(line) {
		return 0, false // the backend's own end of the session, before Asterisk looks for words
	}
	if f.strict && agi.ParseCommand(line) == agi.Other {
		return lineNotAGI, true
	}
	var (
		scratch [256]byte
		words   [mostRuleWords][]byte
	)
	n, rest, buf, ok := 0, line[:len(line)-1], scratch[:0], true
	for n < f.words {
		if words[n], rest, ok = agi.NextWord(rest, buf); !ok {
			break
		}
		buf = buf[:min(len(buf)+len(words[n]), cap(buf))] // where it may have been put together
		n++
	}
	switch {
	case matches(f.deny, words[:n]):
		return lineDenied, true
	case len(f.allow) > 0 && !matches(f.allow, words[:n]):
		return lineNotAllowed, true
	}
	return 0, false
}

func matches(rules []rule, words [][]byte) bool {
	for i := range rules {
		if rules[i].matches(words) {
			return true
		}
	}
	return false
}

func (r *rule) matches(words [][]byte) bool {
	if len(words) < len(r.words) {
		return false
	}
	last := len(r.words) - 1
	for i, want := range r.words {
		if !agi.EqualWord(words[i], want) && !(r.open && i == last && agi.BeginsWord(words[i], want)) {
			return false
		}
	}
	return true
}

// suspect reports whether there may be a line among these that is refused. Where
// there are no rules this is all that ordinary lines cost.
func (s *Session) suspect(lines []byte) bool {
	return s.pool.firewall != nil || len(lines) >= agi.ManyWords || bytes.IndexByte(lines, 0) >= 0
}

// sift passes on lines but those that are refused, as many at a time as stand
// together.
func (s *Session) sift(lines []byte) {
	from := 0
	for at := 0; at < len(lines); {
		end := at + bytes.IndexByte(lines[at:], '\n') + 1
		if why, refused := s.judge(lines[at:end]); refused {
			s.pass(lines[from:at])
			s.refuseLine(lines[at:end], why)
			from = end
		}
		at = end
	}
	s.pass(lines[from:])
}

// judge reports whether a line is refused, and why. What can hurt Asterisk is so in
// any pool: behind a NUL it reads the line no further and then spins, as measured
// with Asterisk 22.10, and words beyond its array go over what stands behind that.
func (s *Session) judge(line []byte) (denialReason, bool) {
	switch {
	case bytes.IndexByte(line, 0) >= 0:
		return lineNUL, true
	case agi.TooManyWords(line):
		return lineWords, true
	case s.pool.firewall != nil:
		return s.pool.firewall.judge(line)
	}
	return 0, false
}

// refuseLine has Asterisk get another line in place of one that is refused. To the
// dialogue it is a command as any other.
func (s *Session) refuseLine(line []byte, why denialReason) {
	c := agi.ParseCommand(line)
	s.worker.deny(s, 1)
	s.counts.pool.denied[denial{c, why}]++
	s.logRefusal(line, c, why)
	if s.traced {
		s.trace(Backend, line)
	}
	before := s.dialogue.Turn()
	s.tell(substitutes[why])
	s.countToAsterisk(len(substitutes[why]))
	s.dialogue.Own(substitutes[why])
	s.turnOver(before)
}

// deny notes that n lines of a session were refused. That is rare, and so not kept
// in the session.
func (w *Worker) deny(s *Session, n uint32) {
	if w.denied == nil {
		w.denied = make(map[*Session]uint32)
	}
	w.denied[s] += n
}

// mostLogged is how much of a refused line is logged.
const mostLogged = 200

// logRefusal tells an operator of a refused line, unless another one of that backend
// and command was told of less than a second ago.
func (s *Session) logRefusal(line []byte, c agi.Command, why denialReason) {
	log := s.worker.server.opts.Log
	if !log.IsWarn() {
		return
	}
	suppressed, told := s.worker.server.denials.Tell(deniedTo{s.pool.name, s.counts.name, c}, time.Now())
	if !told {
		return
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	_, _, uniqueID, _ := s.identity()
	log.Warn("line refused", "reason", why.String(), "command", c.String(), "line", string(line[:min(len(line), mostLogged)]),
		"pool", s.pool.name, "backend", s.counts.name, "uniqueid", uniqueID, "suppressed", suppressed)
}

// deniedTo is what refused lines have in common of which one a second is logged.
type deniedTo struct {
	pool, backend string
	command       agi.Command
}
