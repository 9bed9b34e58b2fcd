package agisim

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"agiproxy/agi"
)

// NewCall returns the call that AGI(url,args…) makes in a dialplan. The scheme
// is agi, in any case; a port that is missing is 4573.
//
// Source: launch_netscript in res_agi.c. hagi, which asks DNS for servers, is
// not played.
func NewCall(url string, args ...string) (Call, error) {
	scheme, rest, ok := strings.Cut(url, "://")
	switch {
	case !ok:
		return Call{}, fmt.Errorf("%q: want agi://HOST:PORT/SCRIPT", url)
	case strings.EqualFold(scheme, "hagi"):
		return Call{}, fmt.Errorf("%q: hagi asks DNS for SRV records, which is not played here; want agi://HOST:PORT/SCRIPT", url)
	case !strings.EqualFold(scheme, "agi"):
		return Call{}, fmt.Errorf("%q: scheme %q; want agi://HOST:PORT/SCRIPT", url, scheme)
	}
	authority, script, _ := strings.Cut(rest, "/")
	address, err := withPort(authority)
	if err != nil {
		return Call{}, fmt.Errorf("%q: %w", url, err)
	}
	return Call{
		Address:     address,
		Environment: agi.Environment{Host: authority, Script: script, Args: args},
	}, nil
}

// withPort adds AGI's own port where none is given.
func withPort(authority string) (string, error) {
	host, port, err := net.SplitHostPort(authority)
	if err != nil {
		host, port = strings.Trim(authority, "[]"), strconv.Itoa(agi.DefaultPort)
		if strings.Contains(host, ":") && !strings.HasPrefix(authority, "[") {
			return "", errors.New("an IPv6 address stands in brackets, such as agi://[::1]:4573/script")
		}
	}
	if host == "" {
		return "", errors.New("the host is missing")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("port %q; want a number from 1 to 65535", port)
	}
	return net.JoinHostPort(host, port), nil
}
