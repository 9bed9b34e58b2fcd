package agi

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// An Environment is what somebody who plays Asterisk puts into a header. Empty
// fields become what Asterisk writes for a call that it knows nothing about.
type Environment struct {
	Host       string // of the URL, with the port if there is one; "localhost" if empty
	Script     string // the URL's path and query, without the leading slash
	Channel    string
	Type       string // channel technology
	UniqueID   string
	CallerID   string
	CallerName string
	Dialed     string
	Context    string
	Extension  string
	Version    string // of the Asterisk that is played
	Args       []string
}

// maxArgs is how many arguments Asterisk passes on: the last takes the rest with
// their commas (MAX_ARGS in res_agi.c).
const maxArgs = 127

// AppendTo appends the header of e to dst, in Asterisk's order and to the empty
// line. Line breaks and NUL bytes in values are replaced by blanks: nothing here
// forges fields, and any [Header] with the room takes it.
//
// Source: launch_netscript and setup_env in Asterisk's res/res_agi.c.
func (e *Environment) AppendTo(dst []byte) []byte {
	harmless := strings.NewReplacer("\n", " ", "\r", " ", "\x00", " ")
	field := func(name, value string) {
		dst = fmt.Appendf(dst, "agi_%s: %s\n", name, harmless.Replace(value))
	}
	host := cmp.Or(e.Host, "localhost")
	field("network", "yes")
	request := "agi://" + host
	if e.Script != "" {
		field("network_script", e.Script)
		request += "/" + e.Script
	}
	field("request", request)
	field("channel", cmp.Or(e.Channel, "Local/s@default-00000001;2"))
	field("language", "en")
	field("type", cmp.Or(e.Type, "Local"))
	field("uniqueid", cmp.Or(e.UniqueID, "0.0"))
	field("version", cmp.Or(e.Version, "unknown"))
	field("callerid", cmp.Or(e.CallerID, "unknown"))
	field("calleridname", cmp.Or(e.CallerName, "unknown"))
	field("callingpres", "67") // number unavailable
	field("callingani2", "0")
	field("callington", "0")
	field("callingtns", "0")
	field("dnid", cmp.Or(e.Dialed, "unknown"))
	field("rdnis", "unknown")
	field("context", cmp.Or(e.Context, "default"))
	field("extension", cmp.Or(e.Extension, "s"))
	field("priority", "1")
	field("enhanced", "0.0")
	field("accountcode", "")
	field("threadid", "0")
	args := e.Args
	if len(args) > maxArgs {
		args = append(slices.Clone(args[:maxArgs-1]), strings.Join(args[maxArgs-1:], ","))
	}
	for i, arg := range args {
		field(fmt.Sprintf("arg_%d", i+1), arg)
	}
	return append(dst, '\n')
}

// fields are what AppendTo writes beside arguments.
var fields = []string{
	"agi_network", "agi_network_script", "agi_request", "agi_channel", "agi_language", "agi_type", "agi_uniqueid", "agi_version",
	"agi_callerid", "agi_calleridname", "agi_callingpres", "agi_callingani2", "agi_callington", "agi_callingtns", "agi_dnid",
	"agi_rdnis", "agi_context", "agi_extension", "agi_priority", "agi_enhanced", "agi_accountcode", "agi_threadid",
}

// IsSent reports whether Asterisk sends a field of that name, at least where the
// dialplan gives arguments.
func IsSent(field string) bool {
	if n, ok := strings.CutPrefix(field, "agi_arg_"); ok {
		i, err := strconv.Atoi(n)
		return err == nil && 1 <= i && i <= maxArgs && strconv.Itoa(i) == n
	}
	return slices.Contains(fields, field)
}
