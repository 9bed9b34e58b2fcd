package agi

import "bytes"

// MaxWords is how many words a command line may have. Asterisk has room for 128
// (MAX_ARGS in res_agi.c), the NULL behind the last included; it drops plain words
// beyond that, and writes those that begin with a quote behind its array.
const MaxWords = 127

// ManyWords is how many bytes a line has at least that is of more words than
// [MaxWords], its line feed apart: each is of one, with a blank before the next.
const ManyWords = 2*(MaxWords+1) - 1

// NextWord cuts the first word off line, which has no line feed at its end, as
// Asterisk does: words are separated by blanks and tabs, unless these stand in
// quotes or behind a backslash. Quotes may begin and end within a word, and stand
// open at the end; a backslash takes the meaning from the character behind it,
// and is not part of the word either. Every other byte is, a carriage return too.
//
// The word is a part of line where it can be, else it is appended to buf. It is
// valid as long as these are; ok is false if no word is left.
//
// Source: parse_args in Asterisk's res/res_agi.c; testdata/lines.words has what a
// real one made of lines.
func NextWord(line, buf []byte) (word, rest []byte, ok bool) {
	start := 0
	for start < len(line) && blank(line[start]) {
		start++
	}
	for i := start; i < len(line); i++ {
		switch c := line[i]; {
		case blank(c):
			return line[start:i], line[i:], true
		case c == '"' || c == '\\':
			return quotedWord(line[start:], i-start, buf)
		}
	}
	return line[start:], nil, start < len(line)
}

// quotedWord is NextWord for a word whose first quote or backslash is at i.
func quotedWord(line []byte, i int, buf []byte) (word, rest []byte, ok bool) {
	word = append(buf, line[:i]...)
	ok = i > 0
	quoted, escaped := false, false
	for ; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && !escaped:
			escaped = true // which begins no word as yet
			continue
		case c == '"' && !escaped:
			quoted = !quoted
		case blank(c) && !quoted && !escaped:
			return word[len(buf):], line[i:], ok
		default:
			word = append(word, c)
		}
		ok, escaped = true, false
	}
	return word[len(buf):], nil, ok
}

// TooManyWords reports whether a line, which may have a line feed at its end, has
// more than [MaxWords].
func TooManyWords(line []byte) bool {
	if len(line) < ManyWords {
		return false
	}
	n, _ := countWords(bytes.TrimSuffix(line, []byte("\n")))
	return n > MaxWords
}

// countWords counts the words that Asterisk makes of a line, and tells whether
// a quote is open at its end.
func countWords[T string | []byte](line T) (n int, quoted bool) {
	between, escaped := true, false
	for i := range len(line) {
		switch c := line[i]; {
		case c == '\\' && !escaped:
			escaped = true
			continue
		case blank(c) && !quoted && !escaped:
			between = true
			continue
		case c == '"' && !escaped:
			quoted = !quoted
			if !quoted { // its word began before
				continue
			}
		}
		if between {
			n++
		}
		between, escaped = false, false
	}
	return n, quoted
}

// EqualWord reports whether a word is name, in any case; name is in capitals.
// Asterisk compares by strcasecmp, which knows the case of ASCII's letters only.
func EqualWord(word []byte, name string) bool {
	return len(word) == len(name) && BeginsWord(word, name)
}

// BeginsWord reports whether a word begins with prefix, in any case; prefix is in
// capitals.
func BeginsWord(word []byte, prefix string) bool {
	if len(word) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		if upper(word[i]) != prefix[i] {
			return false
		}
	}
	return true
}
