package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"agiproxy/agi"
)

// Warnings returns what is allowed in c and hardly meant: what of it can have no
// effect, or another than it seems.
func (c *Config) Warnings() (all []string) {
	warn := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	for _, p := range c.Pools {
		p.warn(func(format string, args ...any) { warn("pool "+p.Name+": "+format, args...) })
	}
	for _, l := range c.Listeners {
		if slices.ContainsFunc(l.AcceptProxyProtocol, func(p netip.Prefix) bool { return p.Bits() == 0 }) {
			warn("listener %s: accept_proxy_protocol has all addresses: whoever connects says where from, so that allow and the limits per source keep nobody out", l.Address)
		}
	}
	for i, r := range c.Routes {
		for _, m := range r.Match {
			if m.Field != "script" && m.Field != "host" && !mayCome(m.Field) {
				warn("routes: the one in place %d wants %s, which Asterisk doesn't send, and so never matches", i+1, m.Field)
			}
			if (m.Field == "script" || m.Field == "agi_network_script") && strings.HasPrefix(m.Pattern, "/") {
				warn("routes: the one in place %d wants the script %s, but in agi://host/name the script is name, without a slash, so that it hardly ever matches", i+1, quote(m.Pattern))
			}
		}
	}
	return all
}

// mayCome reports whether a header may have the field: Asterisk's, or those that
// another agiproxy adds.
func mayCome(field string) bool {
	return agi.IsSent(field) || field == "agi_attempt" || field == "agi_resumed"
}

func (p *Pool) warn(warn func(format string, args ...any)) {
	attempts := min(p.Attempts, len(p.Backends))
	each, key := p.ConnectTimeout, "connect_timeout"
	if p.Replay == "unanswered" && p.FirstCommandTimeout > each { // else silence has no other backend asked
		each, key = p.FirstCommandTimeout, "first_command_timeout"
	}
	if n := int(p.DispatchTimeout / each); n < attempts {
		warn("dispatch_timeout, %v, has no room for %d attempts of %s, %v: after %d at most it is over", p.DispatchTimeout, attempts, key, each, max(n, 1))
	}
	if p.OnBackendLoss == "resume" && len(p.Backends) == 1 {
		warn("on_backend_loss: resume finds no other backend: there is only one")
	}
	if p.Balance == "first" && len(p.Backends) > 1 && p.Backends[0].MaxSessions == 0 && !p.Backends[0].Backup {
		warn("balance: first gives all calls to %s as long as it is up: it has no max_sessions", p.Backends[0].Name)
	}
	if p.Balance == "hash" && p.HashField != "script" && !mayCome(p.HashField) {
		warn("hash_field: Asterisk doesn't send %s, so that all calls hash alike", p.HashField)
	}
}
