package config

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// syntax adds the fault for err, with which the YAML parser refused data.
func (d *decoder) syntax(data []byte, err error) {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	said := 0 // the line, by the parser
	if where, what, ok := strings.Cut(message, ": "); ok && strings.HasPrefix(where, "line ") {
		message = what
		said, _ = strconv.Atoi(strings.TrimPrefix(where, "line "))
	}
	line, column, ok := breakingPlace(data)
	if !ok && said > 0 {
		d.faultAt(said, 0, "this is no YAML from near here on: %s", message)
		return
	}
	// The line before may be the cause, when it was taken for more of a value.
	if tabLine, tabColumn, ok := indentingTab(data, line-1, line); ok {
		d.faultAt(tabLine, tabColumn, "a tab in the indentation; YAML wants spaces")
		return
	}
	d.faultAt(line, column, "this is no YAML from here on: %s", message)
}

// indentingTab finds the first of the lines from first to last that is indented
// with a tab.
func indentingTab(data []byte, first, last int) (line, column int, ok bool) {
	for text := range bytes.Lines(data) {
		line++
		indent := text[:len(text)-len(bytes.TrimLeft(text, " \t"))]
		i := bytes.IndexByte(indent, '\t')
		if line >= first && line <= last && i >= 0 && len(bytes.TrimSpace(text)) > 0 {
			return line, i + 1, true
		}
	}
	return 0, 0, false
}

// breakingPlace finds where data, which is no YAML, stops being so. The parser
// itself names the line where the enclosing mapping begins, one off, or none.
//
// The place is where the shortest beginning of data ends that is no YAML, like
// all longer ones: looked for backwards from where the parser gave up, first by
// lines and then by characters. An unclosed bracket or quote is thus found where
// it opens. Each try parses all that comes before it, so the search in a large
// file may have to end early: with the line only, or not ok.
func breakingPlace(data []byte) (line, column int, ok bool) {
	reader := &dripReader{data: data}
	_ = parses(reader) // for how much it reads
	stop := len(data)
	if i := bytes.IndexByte(data[reader.read:], '\n'); i >= 0 {
		stop = reader.read + i + 1
	}
	tries := min(300, 1+(2<<20)/(stop+1)) // 2 MiB in all, some 0.2 s
	fails := func(end int) bool {
		tries--
		return tries > 0 && !parses(bytes.NewReader(data[:end]))
	}

	start := lineStart(data, stop)
	for start > 0 && fails(start) {
		stop, start = start, lineStart(data, start)
	}
	ok = tries > 0
	for tries > 0 {
		_, size := utf8.DecodeLastRune(data[:stop])
		if stop-size <= start || !fails(stop-size) {
			break
		}
		stop -= size
	}
	_, size := utf8.DecodeLastRune(data[:stop])
	line, column = placeOf(data, stop-size)
	if tries <= 0 {
		column = 0
	}
	return line, column, ok
}

// lineStart is where the line begins whose last byte, perhaps its line end, is
// before end.
func lineStart(data []byte, end int) int {
	if end == 0 {
		return 0
	}
	return bytes.LastIndexByte(data[:end-1], '\n') + 1
}

// parses reports whether what r gives is YAML, in any number of documents.
func parses(r io.Reader) bool {
	parser := yaml.NewDecoder(r)
	for {
		var n yaml.Node
		if err := parser.Decode(&n); err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

// dripReader gives data byte by byte, so that read tells how much of it a
// parser needed.
type dripReader struct {
	data []byte
	read int
}

func (r *dripReader) Read(p []byte) (int, error) {
	if r.read == len(r.data) || len(p) == 0 {
		return 0, io.EOF
	}
	p[0] = r.data[r.read]
	r.read++
	return 1, nil
}
