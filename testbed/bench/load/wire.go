//go:build linux

package load

import (
	"bytes"
	"strings"
)

// The environment as Asterisk 22 sends it, with a session's number in it. All
// environments have the same length.
const environment = `agi_network: yes
agi_network_script: ivr/main
agi_request: agi://127.0.0.1:4577/ivr/main
agi_channel: PJSIP/trunk-00000042
agi_language: en
agi_type: PJSIP
agi_uniqueid: 1763846400.########
agi_version: 22.10.1
agi_callerid: 15550100
agi_calleridname: Alice Example
agi_callingpres: 0
agi_callingani2: 0
agi_callington: 0
agi_callingtns: 0
agi_dnid: 15550199
agi_rdnis: unknown
agi_context: from-trunk
agi_extension: 100
agi_priority: 3
agi_enhanced: 0.0
agi_accountcode: 
agi_threadid: 139832744515264

`

const (
	digits   = 8 // of a session's number, and of a command's
	firstCut = 17
)

// Lines of the dialogue; the first ######## is the session's number, the second
// the command's.
const (
	commandLine = "GET VARIABLE BENCH_########_########\n"
	replyLine   = "200 result=1 (########_########)\n"
	leftReply   = "200 result=-1\n"
	hangupLine  = "HANGUP\n"
)

// A line is a template with room for one or two numbers. It is filled in place
// and compared with what came.
type line struct {
	text  []byte
	holes []int
}

func newLine(template string) line {
	l := line{text: []byte(template)}
	for at := 0; ; {
		i := strings.Index(template[at:], "########")
		if i < 0 {
			return l
		}
		l.holes = append(l.holes, at+i)
		at += i + digits
	}
}

// fill returns the line with these numbers. It is valid until the next fill.
func (l *line) fill(numbers ...uint32) []byte {
	for i, n := range numbers {
		putHex(l.text[l.holes[i]:], n)
	}
	return l.text
}

// is reports whether p is the line with these numbers.
func (l *line) is(p []byte, numbers ...uint32) bool {
	return len(p) == len(l.text) && bytes.Equal(p, l.fill(numbers...))
}

// number returns the number in p's first hole; ok is false if there is none.
func (l *line) number(p []byte) (n uint32, ok bool) {
	if len(p) < l.holes[0]+digits {
		return 0, false
	}
	for _, c := range p[l.holes[0] : l.holes[0]+digits] {
		v := strings.IndexByte(hex, c)
		if v < 0 {
			return 0, false
		}
		n = n<<4 | uint32(v)
	}
	return n, true
}

const hex = "0123456789abcdef"

func putHex(p []byte, n uint32) {
	for i := range digits {
		p[i] = hex[n>>(28-4*i)&15]
	}
}
