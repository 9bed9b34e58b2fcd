package config

import (
	"time"

	"gopkg.in/yaml.v3"
)

// pools decodes the mapping of pools, in the file's order.
func (d *decoder) pools(key string, n *yaml.Node) (pools []Pool) {
	for entry := range d.entries(key, n) {
		if err := checkName(entry.key); err != nil {
			d.fault(entry.at, "%s: %s: %v", key, quote(entry.key), err)
		}
		if len(pools) == maxEntries {
			d.fault(entry.at, "%s: too many; want at most %d", key, maxEntries)
			return pools
		}
		d.places.pools.keys = append(d.places.pools.keys, entry.at)
		pools = append(pools, d.pool(key, entry))
	}
	return pools
}

// pool decodes one entry of pools, over the defaults.
func (d *decoder) pool(key string, e entry) Pool {
	p := defaultPool()
	p.Name = e.key
	var backends []*yaml.Node
	s := section{node: e.at}
	if !isNull(e.value) {
		s = d.item(dotted(key, e.key), e.value, d.poolFields(&p, &backends))
	}
	d.checkTimes(&p, s)
	d.checkWords(&p, s)
	d.checkLines(&p, s)
	if len(p.Backends) == 0 && !s.bad["backends"] && (isNull(e.value) || e.value.Kind == yaml.MappingNode) {
		d.fault(e.at, "pool %s: no backends; want at least one, such as {address: \"10.0.0.11:4573\"}", quote(p.Name))
	}
	d.places.backends = append(d.places.backends, backends)
	return p
}

// checkTimes compares a pool's times for an attempt. A hedge_delay that isn't
// given goes where the attempt is over before it.
func (d *decoder) checkTimes(p *Pool, s section) {
	if s.bad["connect_timeout"] {
		return
	}
	if p.DispatchTimeout < p.ConnectTimeout && !s.bad["dispatch_timeout"] {
		at := s.at("connect_timeout")
		if s.has("dispatch_timeout") {
			at = s.at("dispatch_timeout")
		}
		d.fault(at, "dispatch_timeout: %s is less than connect_timeout, %s", short(p.DispatchTimeout), short(p.ConnectTimeout))
	}
	switch {
	case p.HedgeDelay < p.ConnectTimeout || s.bad["hedge_delay"]:
	case s.has("hedge_delay"):
		d.fault(s.at("hedge_delay"), "hedge_delay: %s is not less than connect_timeout, %s; want less, or 0 for never",
			short(p.HedgeDelay), short(p.ConnectTimeout))
	default:
		p.HedgeDelay = 0
	}
}

// checkLines finds a command of the fallback that is too long for this Asterisk.
func (d *decoder) checkLines(p *Pool, s section) {
	for _, line := range p.Fallback.Commands {
		if len(line) >= p.Commands.MaxLine {
			d.fault(s.at("fallback"), "fallback.commands: one is of %d bytes; commands.max_line allows %d", len(line), p.Commands.MaxLine-1)
			return
		}
	}
}

// checkWords finds choices of a pool that contradict each other.
func (d *decoder) checkWords(p *Pool, s section) {
	if s.has("hash_field") && p.Balance != "hash" && !s.bad["balance"] {
		d.fault(s.at("hash_field"), "hash_field: nobody looks at it under balance: %s; want balance: hash, or no such key", p.Balance)
	}
	if p.OnBackendLoss != "resume" {
		return
	}
	if p.Attempts == 1 {
		d.fault(s.at("on_backend_loss"), "on_backend_loss: resume takes another backend, which attempts: 1 forbids; want attempts: 2 or more")
	}
	if p.Replay == "never" {
		d.fault(s.at("on_backend_loss"), "on_backend_loss: resume replays the header, which replay: never forbids; want unread or unanswered")
	}
}

// poolFields puts the place of each backend's address into places.
func (d *decoder) poolFields(p *Pool, places *[]*yaml.Node) fields {
	const long = 24 * time.Hour // the longest time to wait for a script
	return fields{
		"balance":               d.choice(&p.Balance, "round-robin", "least-connections", "random", "hash", "first"),
		"hash_field":            d.checked(&p.HashField, "script, or a header field such as agi_uniqueid", hashField),
		"connect_timeout":       d.duration(&p.ConnectTimeout, time.Millisecond, time.Minute),
		"hedge_delay":           d.durationOrZero(&p.HedgeDelay, 10*time.Millisecond, time.Minute),
		"first_command_timeout": d.durationOrZero(&p.FirstCommandTimeout, 10*time.Millisecond, long),
		"dispatch_timeout":      d.duration(&p.DispatchTimeout, 10*time.Millisecond, time.Hour),
		"attempts":              d.integer(&p.Attempts, 1, 100),
		"replay":                d.choice(&p.Replay, "unread", "unanswered", "never"),
		"on_backend_loss":       d.choice(&p.OnBackendLoss, "failure", "resume", "close"),
		"think_timeout":         d.durationOrZero(&p.ThinkTimeout, 10*time.Millisecond, long),
		"hangup_timeout":        d.duration(&p.HangupTimeout, 10*time.Millisecond, long),
		"queue":                 func(key string, n *yaml.Node) { d.queue(key, n, &p.Queue) },
		"fallback":              func(key string, n *yaml.Node) { d.fallback(key, n, &p.Fallback) },
		"commands":              func(key string, n *yaml.Node) { d.mapping(key, n, d.commandsFields(&p.Commands)) },
		"health":                func(key string, n *yaml.Node) { d.health(key, n, &p.Health) },
		"ejection":              func(key string, n *yaml.Node) { d.ejection(key, n, &p.Ejection) },
		"panic_threshold":       d.integer(&p.PanicThreshold, 0, 100),
		"slow_start":            d.durationOrZero(&p.SlowStart, 10*time.Millisecond, time.Hour),
		"max_sessions":          d.integer(&p.MaxSessions, 0, maxSessions),
		"send_proxy_protocol":   d.choice(&p.SendProxyProtocol, "none", "v1", "v2"),
		"tls":                   func(key string, n *yaml.Node) { p.TLS = d.poolTLS(key, n) },
		"backends": d.each(maxEntries, func(key string, n *yaml.Node) {
			b, at := d.backend(key, n)
			p.Backends = append(p.Backends, b)
			*places = append(*places, at)
		}),
	}
}

// health decodes a pool's health. A fast_interval that isn't given follows a
// shorter interval down. The timeout may well exceed both: an application that
// is slow to speak wants time, and is not to be probed seldom for it.
func (d *decoder) health(key string, n *yaml.Node, h *Health) {
	s := d.mapping(key, n, d.healthFields(h))
	switch {
	case h.FastInterval <= h.Interval || s.bad["interval"] || s.bad["fast_interval"]:
	case s.has("fast_interval"):
		d.fault(s.at("fast_interval"), "%s: %s is more than %s, %s",
			dotted(key, "fast_interval"), short(h.FastInterval), dotted(key, "interval"), short(h.Interval))
	default:
		h.FastInterval = h.Interval
	}
}

func (d *decoder) healthFields(h *Health) fields {
	return fields{
		"probe":         d.choice(&h.Probe, "agi", "tcp", "none"),
		"script":        d.checked(&h.Script, "a script's name", scriptName),
		"expect":        d.choice(&h.Expect, "command", "close", "any"),
		"interval":      d.duration(&h.Interval, 10*time.Millisecond, time.Hour),
		"fast_interval": d.duration(&h.FastInterval, 10*time.Millisecond, time.Hour),
		"timeout":       d.duration(&h.Timeout, time.Millisecond, time.Minute),
		"rise":          d.integer(&h.Rise, 1, 100),
		"fall":          d.integer(&h.Fall, 1, 100),
		"on_down":       d.choice(&h.OnDown, "keep", "lose"),
	}
}

// queue decodes where sessions wait. Time and limit go together: neither has a
// value that would do for everybody.
func (d *decoder) queue(key string, n *yaml.Node, q *Queue) {
	s := d.mapping(key, n, d.queueFields(q))
	if s.bad["timeout"] || s.bad["limit"] {
		return
	}
	switch {
	case q.Timeout > 0 && q.Limit == 0:
		d.fault(s.at("timeout"), "%s: without %s nobody waits; want both, or neither", dotted(key, "timeout"), dotted(key, "limit"))
	case q.Timeout == 0 && q.Limit > 0:
		d.fault(s.at("limit"), "%s: without %s nobody waits; want both, or neither", dotted(key, "limit"), dotted(key, "timeout"))
	case q.Limit == 0 && q.Music != "":
		d.fault(s.at("music"), "%s: without %s and limit nobody waits to hear it", dotted(key, "music"), dotted(key, "timeout"))
	}
}

func (d *decoder) queueFields(q *Queue) fields {
	return fields{
		"timeout": d.durationOrZero(&q.Timeout, 10*time.Millisecond, time.Hour),
		"limit":   d.integer(&q.Limit, 0, maxSessions),
		"music":   d.checked(&q.Music, "a class of music on hold, such as default", musicClass),
	}
}

// fallback decodes what Asterisk does when nothing can serve.
func (d *decoder) fallback(key string, n *yaml.Node, f *Fallback) {
	s := d.mapping(key, n, d.fallbackFields(f))
	if f.Then == "completed" && len(f.Commands) == 0 && !s.bad["commands"] {
		d.fault(s.at("then"), "%s: without commands, completed would hide from the dialplan that nothing served the call; want commands, or failure",
			dotted(key, "then"))
	}
}

func (d *decoder) fallbackFields(f *Fallback) fields {
	return fields{
		"commands": func(key string, n *yaml.Node) { f.Commands = d.commands(key, n) },
		"then":     d.choice(&f.Then, "failure", "completed"),
	}
}

// ejection decodes when a backend is taken out. A max_time that isn't given
// follows a longer time up.
func (d *decoder) ejection(key string, n *yaml.Node, e *Ejection) {
	s := d.mapping(key, n, d.ejectionFields(e))
	switch {
	case e.Time <= e.MaxTime || s.bad["time"] || s.bad["max_time"]:
	case s.has("max_time"):
		d.fault(s.at("max_time"), "%s: %s is less than %s, %s",
			dotted(key, "max_time"), short(e.MaxTime), dotted(key, "time"), short(e.Time))
	default:
		e.MaxTime = e.Time
	}
}

func (d *decoder) ejectionFields(e *Ejection) fields {
	return fields{
		"failures":    d.integer(&e.Failures, 0, 1000),
		"time":        d.duration(&e.Time, 10*time.Millisecond, 24*time.Hour),
		"max_time":    d.duration(&e.MaxTime, 10*time.Millisecond, 24*time.Hour),
		"max_percent": d.integer(&e.MaxPercent, 1, 100),
	}
}
