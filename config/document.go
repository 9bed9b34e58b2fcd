package config

import (
	"bytes"
	"errors"
	"io"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

const empty = "the file is empty; want at least pools, with one pool and one backend"

// document parses data to the root node of its one document. It returns nil
// after a fault that leaves nothing to decode.
func (d *decoder) document(data []byte) *yaml.Node {
	if len(data) > maxFileBytes {
		d.faultAt(0, 0, "the file is too large; want at most %d KiB", maxFileBytes>>10)
		return nil
	}
	if !d.plainText(data) {
		return nil
	}
	var document, second yaml.Node
	parser := yaml.NewDecoder(bytes.NewReader(data))
	switch err := parser.Decode(&document); {
	case errors.Is(err, io.EOF):
		d.faultAt(1, 1, empty)
		return nil
	case err != nil:
		d.syntax(data, err)
		return nil
	}
	switch err := parser.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		d.syntax(data, err)
		return nil
	default:
		d.faultAt(second.Line, second.Column, "a second document begins here; want one document, without --- between its parts")
		return nil
	}
	if len(document.Content) != 1 {
		d.fault(&document, empty)
		return nil
	}
	root := document.Content[0]
	if d.measure(root, 0, make(map[*yaml.Node]bool)) < 0 {
		return nil
	}
	if isNull(root) {
		d.fault(root, empty)
		return nil
	}
	return root
}

// plainText reports whether data is UTF-8 without control characters, and
// otherwise adds a fault with the place: the YAML parser would tell an offset.
func (d *decoder) plainText(data []byte) bool {
	for rest := data; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		if r == utf8.RuneError && size == 1 {
			line, column := placeOf(data, len(data)-len(rest))
			d.faultAt(line, column, "byte 0x%02x is not UTF-8; save the file as UTF-8", rest[0])
			return false
		}
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f {
			line, column := placeOf(data, len(data)-len(rest))
			d.faultAt(line, column, "control character %U; want plain text", r)
			return false
		}
		rest = rest[size:]
	}
	return true
}

// placeOf turns an offset into line and column, both from 1.
func placeOf(data []byte, offset int) (line, column int) {
	before := data[:offset]
	line = 1 + bytes.Count(before, []byte("\n"))
	start := bytes.LastIndexByte(before, '\n') + 1
	return line, 1 + utf8.RuneCount(before[start:])
}

// maxNodes bounds a file with its aliases written out, of which a few nested
// ones make billions of values. A thousand backends are eleven thousand.
const maxNodes = 1 << 18

// measure returns how many nodes n holds with its aliases written out, or -1
// after a fault: too many, or an alias inside of what it stands for. open holds
// the nodes that n lies in.
func (d *decoder) measure(n *yaml.Node, size int, open map[*yaml.Node]bool) int {
	if size++; size > maxNodes {
		d.fault(n, "too many values, aliases written out; want at most %d", maxNodes)
		return -1
	}
	if n.Kind == yaml.AliasNode {
		if open[n.Alias] {
			d.fault(n, "alias *%s stands for something that contains it", n.Value)
			return -1
		}
		return d.measure(n.Alias, size, open)
	}
	if len(n.Content) == 0 {
		return size
	}
	open[n] = true
	defer delete(open, n)
	for _, child := range n.Content {
		if size = d.measure(child, size, open); size < 0 {
			return -1
		}
	}
	return size
}
