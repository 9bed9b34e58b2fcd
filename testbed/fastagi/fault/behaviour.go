package fault

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Mode names what a server does to the sessions that reach it.
type Mode string

// The modes, in the order of a session's life. "Goes" means that the server
// closes the connection: cleanly, or with a reset if Behaviour.Reset is set.
const (
	OK          Mode = "ok"           // the script, to its end
	Refuse      Mode = "refuse"       // nobody listens
	Blackhole   Mode = "blackhole"    // connections are not answered: the backlog is full
	AcceptClose Mode = "accept-close" // goes at once, without reading
	ReadClose   Mode = "read-close"   // reads the header, then goes
	Mute        Mode = "mute"         // reads all, says nothing
	Slow        Mode = "slow"         // waits Delay before each command
	Pipelined   Mode = "pipelined"    // all commands in one write
	Die         Mode = "die"          // goes after After commands, in its own turn
	MidCommand  Mode = "mid-command"  // sends one more command and goes while it runs
	HalfLine    Mode = "half-line"    // sends half of one more command and goes
	LongLine    Mode = "long-line"    // sends one more command without an end
	Flood       Mode = "flood"        // sends commands without end, and reads no reply
)

var modes = []Mode{
	OK, Refuse, Blackhole, AcceptClose, ReadClose, Mute, Slow, Pipelined,
	Die, MidCommand, HalfLine, LongLine, Flood,
}

// accepts tells whether a server in this mode takes connections.
func (m Mode) accepts() bool { return m != Refuse && m != Blackhole }

// A Behaviour is a fault and its details. The zero value is OK.
type Behaviour struct {
	Mode  Mode
	After int           // commands answered before the fault
	Delay time.Duration // the pause that the mode speaks of; 0 means the mode's own
	Reset bool          // the server goes with a reset
}

// Parse reads a behaviour written as a URL's query, say
// "fault=mid-command&after=2&delay=100ms&reset=true". Keys that it does not
// know are not its business; a query without fault is the zero Behaviour.
func Parse(query string) (Behaviour, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return Behaviour{}, fmt.Errorf("fault %q: %w", query, err)
	}
	return fromValues(values)
}

func fromValues(values url.Values) (Behaviour, error) {
	b := Behaviour{Mode: Mode(values.Get("fault"))}
	if b.Mode == "" {
		b.Mode = OK
	}
	if !slices.Contains(modes, b.Mode) {
		return Behaviour{}, fmt.Errorf("unknown fault %q; want one of %s", b.Mode, modeNames())
	}
	var err error
	if s := values.Get("after"); s != "" {
		if b.After, err = strconv.Atoi(s); err != nil {
			return Behaviour{}, fmt.Errorf("after: %w", err)
		}
	}
	if s := values.Get("delay"); s != "" {
		if b.Delay, err = time.ParseDuration(s); err != nil {
			return Behaviour{}, fmt.Errorf("delay: %w", err)
		}
	}
	if s := values.Get("reset"); s != "" {
		if b.Reset, err = strconv.ParseBool(s); err != nil {
			return Behaviour{}, fmt.Errorf("reset: %w", err)
		}
	}
	return b, nil
}

func modeNames() string {
	names := make([]string, len(modes))
	for i, m := range modes {
		names[i] = string(m)
	}
	return strings.Join(names, ", ")
}

// delay returns the pause of b, or def if it has none.
func (b Behaviour) delay(def time.Duration) time.Duration {
	if b.Delay > 0 {
		return b.Delay
	}
	return def
}
