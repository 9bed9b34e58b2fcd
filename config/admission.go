package config

import (
	"math"
	"net/netip"
	"strconv"

	"gopkg.in/yaml.v3"
)

// maxRate is more sessions a second than one listener can begin.
const maxRate = 1_000_000

// rate decodes how many sessions one source may begin. A burst that isn't given
// is what the rate brings in a second, and one at least.
func (d *decoder) rate(key string, n *yaml.Node, r *Rate) {
	s := d.mapping(key, n, d.rateFields(r))
	switch {
	case s.bad["sessions_per_second"] || s.bad["burst"]:
	case r.SessionsPerSecond == 0 && r.Burst > 0:
		d.fault(s.at("burst"), "%s: without %s nothing is limited; want both, or neither", dotted(key, "burst"), dotted(key, "sessions_per_second"))
	case r.SessionsPerSecond > 0 && r.Burst == 0:
		r.Burst = int(math.Ceil(r.SessionsPerSecond))
	}
}

func (d *decoder) rateFields(r *Rate) fields {
	return fields{
		"sessions_per_second": d.number(&r.SessionsPerSecond, maxRate),
		"burst":               d.integer(&r.Burst, 0, maxSessions),
	}
}

// number decodes a decimal number from 0 to high, with or without a fraction.
func (d *decoder) number(to *float64, high float64) decode {
	return func(key string, n *yaml.Node) {
		value, ok := d.scalar(key, n, "a number such as 10 or 0.5")
		if !ok {
			return
		}
		number, err := strconv.ParseFloat(value, 64)
		switch {
		case n.ShortTag() != "!!int" && n.ShortTag() != "!!float" || err != nil && !isRange(err) || math.IsNaN(number):
			d.fault(n, "%s: %s is no number; want one such as 10 or 0.5", key, quote(value))
		case number < 0 || number > high || number > 0 && number < 0.001:
			d.fault(n, "%s: %s is out of bounds; want 0, or 0.001 to %v", key, cut(value), strconv.FormatFloat(high, 'f', -1, 64))
		default:
			*to = number
		}
	}
}

// proxies decodes whose connections begin with a PROXY header: false for nobody's.
func (d *decoder) proxies(key string, n *yaml.Node) []netip.Prefix {
	if n.Kind != yaml.ScalarNode {
		return d.networks(key, n, "; want networks such as 10.0.0.2, or false")
	}
	if n.ShortTag() != "!!bool" || n.Value != "false" {
		d.fault(n, "%s: want a list of the networks whose connections begin with a PROXY header, such as [10.0.0.2], or false; got %s", key, quote(n.Value))
	}
	return nil
}
