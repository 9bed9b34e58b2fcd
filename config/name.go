package config

import (
	"errors"
	"regexp"
	"strings"
)

var (
	poolPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)
	// A backend's name may look like an address, since that is its default.
	backendPattern = regexp.MustCompile(`^[A-Za-z0-9_\[][A-Za-z0-9_.:%\[\]-]{0,271}$`)
)

// checkName checks a pool's name. It becomes a label of metrics, a word of the
// log and of command lines.
func checkName(s string) error {
	if !poolPattern.MatchString(s) {
		return errors.New("no name for a pool; want up to 64 letters, digits, dots, dashes and underscores")
	}
	return nil
}

func backendName(s string) (string, error) {
	if !backendPattern.MatchString(s) {
		return "", errors.New("no name for a backend; want letters, digits, dots, dashes, underscores and colons")
	}
	return s, nil
}

// askedFor checks the name of a machine, as a browser asks for it, and returns it as
// names are compared.
func askedFor(s string) (string, error) {
	if len(s) > 253 || !hostName.MatchString(s) {
		return "", errors.New("no name of a machine; want one such as proxy1.example.org, without port or path")
	}
	return strings.ToLower(strings.TrimSuffix(s, ".")), nil
}

// scriptName checks what the probe sends as agi_network_script: it is a part of
// a header line and of agi_request.
func scriptName(s string) (string, error) {
	switch {
	case s == "":
		return "", errors.New("the name is empty; want one that the backend knows, or agiproxy-probe")
	case len(s) > 256:
		return "", errors.New("the name is too long; want at most 256 bytes")
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return "", errors.New("spaces or control characters; want a plain name, such as agiproxy-probe")
	}
	return s, nil
}

// hashField checks what a session is hashed by.
func hashField(s string) (string, error) {
	if s != "script" && !fieldName.MatchString(s) {
		return "", errors.New("no such field; want script, or a header field such as agi_uniqueid")
	}
	return s, nil
}

// musicClass checks a class of music on hold, which becomes a word of an AGI
// command, or "".
//
// Source: MAX_MUSICCLASS in Asterisk's include/asterisk/channel.h is 80, the
// NUL included.
func musicClass(s string) (string, error) {
	switch {
	case len(s) > 79:
		return "", errors.New("the name is too long; want at most 79 bytes")
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '"' || r == '\\' }):
		return "", errors.New("blanks, quotes, backslashes or control characters; want a plain word, such as default")
	}
	return s, nil
}
