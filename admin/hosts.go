package admin

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// open are the pages that anybody may ask for by any name: they change nothing, and
// tell nothing of calls.
var openPages = map[string]bool{"/metrics": true, "/-/healthy": true, "/-/ready": true}

// knownHosts answers only who has asked for this machine by its address, or by a name
// that is known. Any other name may have come to mean this machine just now, by DNS
// rebinding, for a page that a browser here shows: for the browser that page and this
// port are then one site.
func knownHosts(names func() []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if openPages[r.URL.Path] || knownHost(r.Host, names()) {
			next.ServeHTTP(w, r)
			return
		}
		problem(w, refuse(http.StatusMisdirectedRequest,
			"asked for as %q, which is neither an address nor localhost; if that name is meant for this port, admin.hosts in the configuration has to have it", r.Host))
	})
}

// knownHost reports whether a request's Host, which no browser leaves out, is an IP
// address, localhost, or one of these names in lower case.
func knownHost(host string, names []string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return true
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || slices.Contains(names, host)
}

// guarded reports whether a file of TLS and users keeps pages of other sites out by
// itself: their browser has no password for the name by which they ask, or finds no
// certificate for it.
func guarded(file string) (bool, error) {
	if file == "" {
		return false, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	var c struct {
		TLS   map[string]any    `yaml:"tls_server_config"`
		Users map[string]string `yaml:"basic_auth_users"`
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		return false, fmt.Errorf("web_config_file %s: %w", file, err)
	}
	return len(c.TLS) > 0 || len(c.Users) > 0, nil
}
