package config

import "gopkg.in/yaml.v3"

// notYet refuses whatever is given: the keys of features that do not exist yet are
// known, so that nobody believes to have what isn't there.
func (d *decoder) notYet(advice string) decode {
	return func(key string, n *yaml.Node) {
		d.fault(n, "%s is not supported yet; %s", key, advice)
	}
}
