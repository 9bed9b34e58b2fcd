package app

import (
	"errors"
	"fmt"
	"time"

	"agiproxy/admin"
	"agiproxy/agi"
	"agiproxy/config"
)

// Check returns what New would say of a configuration before it opens anything, and
// what is allowed in it and hardly meant.
func Check(cfg *config.Config) (warnings []string, err error) {
	if err := admin.CheckWebConfig(cfg.Admin.WebConfigFile); err != nil {
		return nil, fmt.Errorf("admin: web_config_file %s: %w", cfg.Admin.WebConfigFile, err)
	}
	for _, l := range cfg.Listeners {
		if _, _, err := readTokens(&l); err != nil {
			return nil, err
		}
	}
	k, err := loadKeys(cfg, nil)
	if err != nil {
		return nil, err
	}
	if _, err := routes(cfg); err != nil {
		return nil, err
	}
	warnings = cfg.Warnings()
	for _, w := range k.expiring(time.Now()) {
		warnings = append(warnings, w.String())
	}
	return warnings, nil
}

// A Decision says where a session would go.
type Decision struct {
	Route int      // index into the configuration's routes, -1 if none takes it
	Pool  string   // "" if no route takes it
	Steps []string // why each route before it doesn't
}

// Explain decides as a session with that header would be decided. The error is
// the header's, or a route's that doesn't compile.
func Explain(cfg *config.Config, header []byte) (Decision, error) {
	h := agi.NewHeader(len(header))
	if _, err := h.Feed(header); err != nil {
		return Decision{}, err
	}
	if !h.Done() {
		return Decision{}, errors.New("header has no empty line at its end")
	}
	all, err := routes(cfg)
	if err != nil {
		return Decision{}, err
	}
	d := Decision{Route: -1}
	for i := range all {
		why := all[i].Miss(h)
		if why == "" {
			d.Route, d.Pool = i, all[i].Pool
			return d, nil
		}
		d.Steps = append(d.Steps, fmt.Sprintf("route %d to %s: %s", i+1, all[i].Pool, why))
	}
	return d, nil
}
