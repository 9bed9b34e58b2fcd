package agi

import (
	"errors"
	"strconv"
	"strings"
)

// ErrNoReply says that a line is no reply of Asterisk's.
var ErrNoReply = errors.New("not a reply")

// A Reply is the first line of what Asterisk answers to a command.
type Reply struct {
	Code   int    // 200, 510, 511 or 520
	More   bool   // further lines follow, up to one with the same code and a blank
	Result string // what stands behind "result=", empty if nothing does
	Text   string // all that follows the result, or the code where there is none
}

// ParseReply reads a reply's line, with or without its line end. HANGUP and
// everything else that doesn't begin with a code is [ErrNoReply].
func ParseReply(line []byte) (Reply, error) {
	s := string(trimEOL(line))
	if len(s) < 4 || s[3] != ' ' && s[3] != '-' {
		return Reply{}, ErrNoReply
	}
	code, err := strconv.ParseUint(s[:3], 10, 16)
	if err != nil {
		return Reply{}, ErrNoReply
	}
	r := Reply{Code: int(code), More: s[3] == '-', Text: s[4:]}
	if rest, ok := strings.CutPrefix(r.Text, "result="); ok {
		r.Result, r.Text, _ = strings.Cut(rest, " ")
	}
	return r, nil
}
