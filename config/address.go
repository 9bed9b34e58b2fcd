package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// listenAddress checks an address to listen on and gives its canonical form.
// Its host may be empty, which is every address, and its port 0.
func listenAddress(s string) (string, error) {
	host, port, err := splitAddress(s)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), nil
}

// backendAddress checks an address to connect to and gives its canonical form.
func backendAddress(s string) (string, error) {
	host, port, err := splitAddress(s)
	switch {
	case err != nil:
		return "", err
	case host == "":
		return "", errors.New("the host is missing; want host:port, such as 10.0.0.11:4573")
	case isWildcard(host):
		return "", errors.New("nothing can be reached at the unspecified address; want the server's own")
	case port == 0:
		return "", errors.New("nothing can be reached at port 0; want 1 to 65535")
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), nil
}

// adminAddress is listenAddress, or "".
func adminAddress(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	return listenAddress(s)
}

// splitAddress takes host:port apart. The host comes back in canonical form: an
// IP address as Go writes it, a name in lower case, or "".
func splitAddress(s string) (host string, port int, err error) {
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		return "", 0, fmt.Errorf("%s does not belong here; want host:port alone, such as %s", quote(scheme+"://"), withoutURL(rest))
	}
	host, portText, err := net.SplitHostPort(s)
	if err != nil {
		switch ip, ipErr := netip.ParseAddr(strings.Trim(s, "[]")); {
		case ipErr == nil && ip.Is6():
			if last := strings.LastIndexByte(s, ':'); maybePort.MatchString(s[last+1:]) {
				if head, err := netip.ParseAddr(s[:last]); err == nil {
					return "", 0, fmt.Errorf("the brackets are missing, or the port too; want [%s]:%s, or [%s]:4573", head, s[last+1:], ip)
				}
			}
			return "", 0, fmt.Errorf("the port is missing; want an IPv6 address in brackets and a port, such as [%s]:4573", ip)
		case strings.Count(s, ":") > 1:
			return "", 0, errors.New("too many colons; want host:port, an IPv6 address in brackets: [2001:db8::1]:4573")
		case !strings.Contains(s, ":"):
			return "", 0, errors.New("the port is missing; want host:port")
		}
		return "", 0, errors.New("want host:port")
	}
	number, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("the port %s is wrong; want a number from 1 to 65535", quote(portText))
	}
	host, err = canonicalHost(host, strings.HasPrefix(s, "["))
	return host, int(number), err
}

// withoutURL is what s, a URL's part behind the scheme, may have meant as host:port.
func withoutURL(s string) string {
	host, port, _ := strings.Cut(s[:strings.IndexAny(s+"/", "/?")], ":")
	if _, err := canonicalHost(host, false); err != nil || host == "" {
		host = "10.0.0.11"
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		port = "4573"
	}
	return net.JoinHostPort(host, port)
}

func canonicalHost(host string, bracketed bool) (string, error) {
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil && ip.Is4() && bracketed:
		return "", errors.New("only an IPv6 address stands in brackets")
	case err == nil:
		return ip.Unmap().String(), nil
	case bracketed:
		return "", fmt.Errorf("%s is no IPv6 address", quote(host))
	case host == "":
		return "", nil
	case looksNumeric.MatchString(host):
		return "", fmt.Errorf("%s is neither an IP address nor a host's name", quote(host))
	case len(host) > 253 || !hostName.MatchString(host):
		return "", fmt.Errorf("%s is no host's name; want an IP address or a name of letters, digits, dashes and dots", quote(host))
	}
	return strings.ToLower(host), nil
}

var (
	// hostName allows underscores too: DNS forbids them in hosts' names, yet
	// container networks use them.
	hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?$`)
	// maybePort is an IPv6 address's last group if it may as well be a port.
	maybePort = regexp.MustCompile(`^[1-9][0-9]{3}$`)
	// looksNumeric is what resolvers take for a badly written IPv4 address.
	looksNumeric = regexp.MustCompile(`^([^.]*\.)*[0-9]+\.?$`)
)

func isWildcard(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// overlap reports whether two canonical addresses can't be listened on both.
func overlap(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	return portA == portB && portA != "0" && (isWildcard(hostA) || isWildcard(hostB) || sameHost(hostA, hostB))
}

// loopsBack reports whether who connects to backend reaches listener, as far as
// that can be told from the canonical addresses alone.
func loopsBack(listener, backend string) bool {
	hostL, portL, _ := net.SplitHostPort(listener)
	hostB, portB, _ := net.SplitHostPort(backend)
	return portL == portB && (sameHost(hostL, hostB) || isWildcard(hostL) && isLoopback(hostB))
}

// sameHost compares canonical hosts; localhost is whatever is called so.
func sameHost(a, b string) bool {
	named := func(name, other string) bool {
		return name == "localhost" && (other == "127.0.0.1" || other == "::1")
	}
	return a == b || named(a, b) || named(b, a)
}

// privateNetworks is what "private" stands for in allow: loopback, RFC 1918,
// link-local (RFC 3927, RFC 4291) and IPv6's unique local addresses (RFC 4193).
func privateNetworks() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"),
		netip.MustParsePrefix("10.0.0.0/8"),
		netip.MustParsePrefix("172.16.0.0/12"),
		netip.MustParsePrefix("192.168.0.0/16"),
		netip.MustParsePrefix("169.254.0.0/16"),
		netip.MustParsePrefix("::1/128"),
		netip.MustParsePrefix("fe80::/10"),
		netip.MustParsePrefix("fc00::/7"),
	}
}

// parseNetworks expands one entry of allow.
func parseNetworks(s string) ([]netip.Prefix, error) {
	switch s {
	case "private":
		return privateNetworks(), nil
	case "any":
		return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}, nil
	}
	if ip, err := netip.ParseAddr(s); err == nil {
		if ip.Zone() != "" {
			return nil, fmt.Errorf("an address with a zone; want it without, %s", ip.WithZone(""))
		}
		ip = ip.Unmap()
		return []netip.Prefix{netip.PrefixFrom(ip, ip.BitLen())}, nil
	}
	prefix, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return nil, errors.New("no such network; want a CIDR such as 10.0.0.0/8, an address, private or any")
	case prefix.Addr().Is4In6():
		return nil, errors.New("an IPv4 network in IPv6's clothes would match nobody; want it as IPv4")
	case prefix != prefix.Masked():
		return nil, fmt.Errorf("this is an address inside of a network; want the network %s or the address %s", prefix.Masked(), prefix.Addr())
	}
	return []netip.Prefix{prefix}, nil
}
