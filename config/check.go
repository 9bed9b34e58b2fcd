package config

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// places is where things stand in the file, beside the slices of Config.
type places struct {
	listeners []*yaml.Node // the address of each; nil for the default one
	pools     struct {
		section *yaml.Node
		keys    []*yaml.Node
	}
	backends [][]*yaml.Node // the address of each, by pool
	routes   []routePlace
	admin    *yaml.Node
}

type routePlace struct {
	route, pool *yaml.Node
	bad         bool // it has faults of its own: what it matches is not known
}

// check looks at what no section can tell alone. What a section refused is
// missing here or has its default, which must not lead to further faults.
func (d *decoder) check(c *Config) {
	d.checkListeners(c)
	d.checkBackends(c)
	d.checkRoutes(c)
}

// checkListeners finds addresses that can't be listened on at one time.
func (d *decoder) checkListeners(c *Config) {
	for i, l := range c.Listeners {
		if l.Address == "" {
			continue // refused already
		}
		at := d.places.listeners[i]
		if c.Admin.Address != "" && overlap(l.Address, c.Admin.Address) {
			if at == nil {
				at = d.places.admin // which was given, or it would not be here
			}
			d.fault(at, "address: %s is taken by admin.address, %s", quote(l.Address), c.Admin.Address)
		}
		for j, earlier := range c.Listeners[:i] {
			if earlier.Address != "" && overlap(l.Address, earlier.Address) {
				d.fault(at, "address: %s is taken by the listener in line %d", quote(l.Address), d.places.listeners[j].Line)
				break
			}
		}
	}
}

// checkBackends finds backends that come twice in a pool, and those that are
// agiproxy itself.
func (d *decoder) checkBackends(c *Config) {
	for i, p := range c.Pools {
		names, addresses := make(map[string]int), make(map[string]int) // lines
		for j, b := range p.Backends {
			if b.Address == "" {
				continue // refused already
			}
			at := d.places.backends[i][j]
			if line, ok := addresses[b.Address]; ok {
				d.fault(at, "pool %s: the address %s is in line %d already", quote(p.Name), b.Address, line)
			} else if line, ok := names[b.Name]; ok {
				d.fault(at, "pool %s: the name %s is in line %d already", quote(p.Name), b.Name, line)
			}
			names[b.Name], addresses[b.Address] = at.Line, at.Line
			for _, l := range c.Listeners {
				if loopsBack(l.Address, b.Address) {
					d.fault(at, "pool %s: %s is agiproxy's own listener, %s; sessions would go round in a loop", quote(p.Name), b.Address, l.Address)
					break
				}
			}
		}
	}
}

// checkRoutes finds routes that lead nowhere or can't be reached, and pools
// that no route leads to.
func (d *decoder) checkRoutes(c *Config) {
	if len(c.Pools) == 0 {
		if d.places.pools.section.Kind == yaml.MappingNode {
			d.fault(d.places.pools.section, "pools: none given; want at least one, with at least one backend")
		}
		return
	}
	if len(d.places.routes) == 0 {
		if len(c.Pools) > 1 {
			d.fault(d.places.pools.section, "routes: none given, but %d pools; want routes that say which sessions go where", len(c.Pools))
		}
		return
	}
	names := make([]string, len(c.Pools))
	routed := make(map[string]bool) // whether a route leads there
	for i, p := range c.Pools {
		names[i] = p.Name
		routed[p.Name] = false
	}
	astray := false // a route misses its pool; which one it meant is not known
	for i, r := range c.Routes {
		place := d.places.routes[i]
		if _, ok := routed[r.Pool]; ok {
			routed[r.Pool] = true
		} else {
			astray = true
			d.noPool(place, r.Pool, names)
		}
		for j, earlier := range c.Routes[:i] {
			if earlierPlace := d.places.routes[j]; !place.bad && !earlierPlace.bad && covers(earlier, r) {
				d.fault(place.route, "routes: this one is never reached: the one in line %d takes all that it matches", earlierPlace.route.Line)
				break
			}
		}
	}
	for i, p := range c.Pools {
		if !routed[p.Name] && !astray {
			d.fault(d.places.pools.keys[i], "pool %s: no route leads to it", quote(p.Name))
		}
	}
}

// noPool adds the fault for a route to a pool that isn't there; one without any
// pool was refused already.
func (d *decoder) noPool(place routePlace, name string, names []string) {
	if name == "" {
		return
	}
	const most = 20
	if len(names) > most {
		names = append(names[:most:most], "…")
	}
	d.fault(place.pool, "pool: %s does not exist; want one of %s%s", quote(name), strings.Join(names, ", "), hint(name, names))
}

// covers reports whether earlier matches whatever later does, as far as equal
// patterns tell.
func covers(earlier, later Route) bool {
	for _, m := range earlier.Match {
		if !slices.Contains(later.Match, m) {
			return false
		}
	}
	return true
}
