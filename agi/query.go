package agi

import "bytes"

// CutQuery takes the parameters of that name out of the query of the URL, which
// is in agi_network_script and in agi_request, and returns the first one's value;
// nil where there is none. A query is what follows the first question mark; an
// ampersand stands between two parameters. Asterisk takes nothing of it apart and
// decodes nothing, and neither does CutQuery: a name or a value is what was
// written in the dialplan. All else stays to the byte; with its last parameter the
// question mark goes too.
//
// The value counts where [Header.Field] would see it, and is taken out wherever a
// field of these names stands: of a second one nobody knows who has written it.
// h must be Done, and what Bytes and Field have returned must not be used any more.
func (h *Header) CutQuery(name string) (value []byte) {
	_, query, _ := bytes.Cut(h.Field("agi_network_script"), []byte("?"))
	for p := range bytes.SplitSeq(query, []byte("&")) {
		if v, ok := parameter(p, name); ok {
			value = append(make([]byte, 0, len(v)), v...) // not nil
			break
		}
	}
	kept := h.buf[:0] // never ahead of what is read
	for line := range bytes.Lines(h.buf) {
		kept = appendWithout(kept, line, name)
	}
	clear(h.buf[len(kept):])
	h.buf, h.start = kept, len(kept)
	return value
}

// appendWithout appends a line, without the parameters of that name if a URL
// stands in it.
func appendWithout(dst, line []byte, name string) []byte {
	_, isScript := cutName(line, "agi_network_script")
	_, isRequest := cutName(line, "agi_request")
	text := trimEOL(line)
	at := bytes.IndexByte(text, '?')
	if !isScript && !isRequest || at < 0 {
		return append(dst, line...)
	}
	eol := line[len(text):]
	dst = append(dst, text[:at]...)
	between := byte('?')
	for p := range bytes.SplitSeq(text[at+1:], []byte("&")) {
		if _, ok := parameter(p, name); !ok {
			dst = append(append(dst, between), p...)
			between = '&'
		}
	}
	return append(dst, eol...)
}

// parameter returns the value of a query's parameter, if it has that name. Carriage
// returns behind it are none of the name's: they may be the line's end when what stands
// behind them is taken out.
func parameter(p []byte, name string) (value []byte, ok bool) {
	key, value, _ := bytes.Cut(p, []byte("="))
	return value, string(bytes.TrimRight(key, "\r")) == name
}
