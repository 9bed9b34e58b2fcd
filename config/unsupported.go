package config

import (
	"slices"

	"gopkg.in/yaml.v3"
)

// The keys of features that do not exist yet. They are known, so that a file
// which spells out their inert defaults is right, and refused with any other
// value, so that nobody believes to have what isn't there.

// only accepts a single value that is one of inert, and refuses all else.
func (d *decoder) only(inert ...string) decode {
	return func(key string, n *yaml.Node) {
		if n.Kind == yaml.ScalarNode && slices.Contains(inert, n.Value) {
			return
		}
		d.notYet("leave it out")(key, n)
	}
}

// notYet refuses whatever is given.
func (d *decoder) notYet(advice string) decode {
	return func(key string, n *yaml.Node) {
		d.fault(n, "%s is not supported yet; %s", key, advice)
	}
}
