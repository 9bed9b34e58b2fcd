package agi

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// MaxHeaderLines is how many lines a header may have. Asterisk sends 22 and one
// for each of at most 127 arguments.
const MaxHeaderLines = 256

// headerSize is a little more than Asterisk's headers have without arguments.
const headerSize = 768

// What can be wrong with a header; a [HeaderError] wraps one of them.
var (
	ErrHeaderTooLarge = errors.New("header is too large")
	ErrTooManyLines   = errors.New("header has too many lines")
	ErrMalformed      = errors.New("not a header line")
)

// A HeaderError says that what Asterisk sent is no header.
type HeaderError struct {
	Line int   // counted from 1
	Err  error // ErrHeaderTooLarge, ErrTooManyLines or ErrMalformed
}

func (e *HeaderError) Error() string { return fmt.Sprintf("header line %d: %v", e.Line, e.Err) }
func (e *HeaderError) Unwrap() error { return e.Err }

// A Header is the environment that opens a session: lines "name: value", ended
// by an empty line. Its bytes are kept as they came, so that they can be sent
// on unchanged. The zero value refuses everything; use [NewHeader]. A Header is
// not safe for concurrent use.
//
// Nothing in a header is escaped: a line break in a caller's name or in an
// argument forges further fields, or an early end. So of a field that comes
// twice the first counts, and agi_network_script, which is missing where the URL
// names no script, counts only before agi_request. Nobody but Asterisk can then
// say anything in the fields that it writes before the caller's: all up to
// agi_version. Behind agi_callerid nothing is certain; the dialplan has to clean
// CALLERID(name) where that matters.
//
// Source: setup_env in Asterisk's res/res_agi.c.
type Header struct {
	buf   []byte
	max   int // bytes
	start int // where the line under way begins
	lines int
	done  bool
}

// NewHeader returns an empty header that takes at most max bytes.
func NewHeader(max int) *Header { return &Header{max: max} }

// Reset makes h an empty header that takes at most max bytes, and uses its
// memory again: what Bytes and Field have returned must not be used any more.
func (h *Header) Reset(max int) { *h = Header{buf: h.buf[:0], max: max} }

// Feed takes the next bytes that Asterisk sent and returns how many of them
// belong to the header; what follows is the session's. Done tells when the
// empty line has been seen. A *[HeaderError] means that this is no header, or
// too large a one; Feed must not be called again after it.
func (h *Header) Feed(p []byte) (n int, err error) {
	if h.buf == nil {
		// Asterisk's TCP brings the header in one or two pieces.
		h.buf = make([]byte, 0, min(h.max, max(len(p), headerSize)))
	}
	for n < len(p) && !h.done {
		end := bytes.IndexByte(p[n:], '\n') + 1
		whole := end > 0
		if !whole {
			end = len(p) - n
		}
		room := h.max - len(h.buf)
		tooLarge := end > room
		if tooLarge {
			end, whole = room, false
		}
		h.buf = append(h.buf, p[n:n+end]...)
		n += end
		if err := h.check(whole); err != nil {
			return n, err
		}
		if tooLarge {
			return n, &HeaderError{h.lines + 1, ErrHeaderTooLarge}
		}
	}
	return n, nil
}

// check looks at the line under way, which whole says to be complete.
func (h *Header) check(whole bool) error {
	line := h.buf[h.start:]
	if h.lines == 0 && !bytes.HasPrefix(line, []byte("agi_")) && !bytes.HasPrefix([]byte("agi_"), line) {
		// Said at once, so that a browser or a TLS client doesn't wait for a time-out.
		return &HeaderError{1, ErrMalformed}
	}
	if !whole {
		return nil
	}
	h.lines++
	line = trimEOL(line)
	h.start = len(h.buf)
	switch {
	case len(line) == 0: // not the first, which begins with agi_
		h.done = true
	case h.lines > MaxHeaderLines:
		return &HeaderError{h.lines, ErrTooManyLines}
	case bytes.IndexByte(line, ':') <= 0, bytes.IndexByte(line, 0) >= 0:
		return &HeaderError{h.lines, ErrMalformed}
	}
	return nil
}

// Done reports whether the empty line has been seen.
func (h *Header) Done() bool { return h.done }

// Len returns the number of bytes so far.
func (h *Header) Len() int { return len(h.buf) }

// Bytes returns the header as it came, valid until the next Feed.
func (h *Header) Bytes() []byte { return h.buf }

// Field returns the value of the first field of that name, without the blank
// after the colon; nil if there is none. The name's case matters. The result
// points into the header.
func (h *Header) Field(name string) []byte {
	for rest := h.buf; len(rest) > 0; {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		if value, ok := cutName(line, name); ok {
			value = bytes.TrimPrefix(trimEOL(value), []byte(" "))
			return value[:len(value):len(value)]
		}
		if name == "agi_network_script" {
			if _, ok := cutName(line, "agi_request"); ok {
				return nil // what follows a caller may have forged
			}
		}
	}
	return nil
}

// cutName returns what follows the colon of a field of that name.
func cutName(line []byte, name string) (value []byte, ok bool) {
	n := len(name)
	if len(line) > n && line[n] == ':' && string(line[:n]) == name {
		return line[n+1:], true
	}
	return nil, false
}

// Script returns the path of the script that is asked for: what follows the
// first slash of the URL, up to a question mark. It is empty when the URL names
// no script.
func (h *Header) Script() []byte {
	path, _, _ := bytes.Cut(h.Field("agi_network_script"), []byte("?"))
	return path
}

// Host returns the host part of the URL that the dialplan called, without port
// or brackets, as it is written there; nil if the URL has none.
func (h *Header) Host() []byte {
	_, rest, ok := bytes.Cut(h.Field("agi_request"), []byte("://"))
	if !ok {
		return nil
	}
	if i := bytes.IndexAny(rest, "/?"); i >= 0 {
		rest = rest[:i]
	}
	if len(rest) > 0 && rest[0] == '[' {
		host, _, _ := bytes.Cut(rest[1:], []byte("]"))
		return host
	}
	host, _, _ := bytes.Cut(rest, []byte(":"))
	return host
}

// AppendReplay appends the header as another backend gets it, with agi_attempt
// before its empty line; attempt counts from 1. With resumed, an agi_resumed
// tells that another backend has served a part of the call. h must be Done.
func (h *Header) AppendReplay(dst []byte, attempt int, resumed bool) []byte {
	end := bytes.LastIndexByte(h.buf[:len(h.buf)-1], '\n') + 1 // where the empty line begins
	eol := h.buf[end:]                                         // the empty line itself is a line end as this Asterisk writes it
	dst = append(dst, h.buf[:end]...)
	dst = append(dst, "agi_attempt: "...)
	dst = strconv.AppendInt(dst, int64(attempt), 10)
	dst = append(dst, eol...)
	if resumed {
		dst = append(dst, "agi_resumed: yes"...)
		dst = append(dst, eol...)
	}
	return append(dst, eol...)
}

// trimEOL cuts the line end off: a line feed, and a carriage return before it.
func trimEOL(line []byte) []byte {
	return trimLast(trimLast(line, '\n'), '\r')
}

// trimLast cuts the last byte off, if it is c.
func trimLast(line []byte, c byte) []byte {
	if n := len(line) - 1; n >= 0 && line[n] == c {
		return line[:n]
	}
	return line
}
