package agisim

import "time"

// A Kind says what an [Event] is about.
type Kind uint8

// What happens in a call, in Asterisk's words.
const (
	Connected Kind = iota // Text is the address
	Header                // a line of the header, the last of which is empty
	Sent                  // any other line to the server: a reply, HANGUP
	Received              // a line from the server: a command
	Left                  // the caller hangs up
	Closed                // the session is over; Text says why if it isn't the server's plain close
)

// An Event is one step of a call.
type Event struct {
	Elapsed time.Duration // since the call began
	Kind    Kind
	Text    string // without its line end
}

func (ch *channel) trace(kind Kind, text string) {
	if ch.call.Trace != nil {
		ch.call.Trace(Event{time.Since(ch.start), kind, text})
	}
}
