// Package resolve turns the names of backends into addresses and keeps them
// fresh.
package resolve

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// refresh is how often a name is looked up again. It stands in for the
	// record's time to live, which the system's resolver doesn't tell.
	refresh = 30 * time.Second
	// retry is how soon after a look-up that failed.
	retry = 2 * time.Second
	// Timeout is how long one look-up may take.
	Timeout = 2 * time.Second
)

// A Lookup returns the addresses of a host name.
type Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

// A Name is a host:port that is to have an address. It isn't safe for
// concurrent use.
type Name struct {
	Address string               // host:port; the host may be an IP address
	Set     func(netip.AddrPort) // told of the first address, and of each other one
	Log     hclog.Logger
	Lookup  Lookup // nil means net.DefaultResolver's

	host    string
	port    uint16
	current netip.Addr // the zero Addr until there is one
	failing bool       // the last look-up has failed
}

// First looks the name up for the first time, within [Timeout]. An IP address
// needs no look-up and never fails. After an error, Keep goes on trying.
func (n *Name) First(ctx context.Context) error {
	host, port, err := net.SplitHostPort(n.Address)
	if err != nil {
		return err
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("port of %s: %w", n.Address, err)
	}
	n.host, n.port = host, uint16(p)
	if n.Lookup == nil {
		n.Lookup = net.DefaultResolver.LookupNetIP
	}
	return n.look(ctx)
}

// Fixed reports whether the name is an IP address, which Keep need not watch.
func (n *Name) Fixed() bool {
	_, err := netip.ParseAddr(n.host)
	return err == nil
}

// Keep looks the name up again and again until ctx ends. What a look-up that
// fails leaves behind is the address before it: a name server that is down must
// not take the backends with it. It is logged once, and once when it is over.
func (n *Name) Keep(ctx context.Context) {
	for {
		pause := refresh
		if n.failing {
			pause = retry
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		failed := n.failing
		switch err := n.look(ctx); {
		case ctx.Err() != nil:
			return
		case err != nil && !failed:
			n.Log.Warn("look-up failed", "address", n.Address, "kept", n.current, "error", err)
		case err == nil && failed:
			n.Log.Info("look-up works again", "address", n.Address)
		}
	}
}

// look looks the name up once. An address that is still among the answers is
// kept, so that a backend with several doesn't move to and fro.
func (n *Name) look(ctx context.Context) error {
	if addr, err := netip.ParseAddr(n.host); err == nil {
		n.use(addr.Unmap())
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	addrs, err := n.Lookup(ctx, "ip", n.host)
	if err == nil && len(addrs) == 0 {
		err = fmt.Errorf("look up %s: no address", n.host)
	}
	if n.failing = err != nil; n.failing {
		return err
	}
	for i, a := range addrs {
		addrs[i] = a.Unmap() // the resolver gives some IPv4 addresses in IPv6's form
	}
	if !slices.Contains(addrs, n.current) {
		n.use(preferred(addrs))
	}
	return nil
}

// preferred returns the first IPv4 address, or the first if there is none. Many
// FastAGI servers listen on IPv4 alone, and a name such as localhost has both.
func preferred(addrs []netip.Addr) netip.Addr {
	if i := slices.IndexFunc(addrs, netip.Addr.Is4); i >= 0 {
		return addrs[i]
	}
	return addrs[0]
}

func (n *Name) use(a netip.Addr) {
	if a == n.current {
		return
	}
	if n.current.IsValid() {
		n.Log.Info("address has changed", "address", n.Address, "from", n.current, "to", a)
	}
	n.current = a
	n.Set(netip.AddrPortFrom(a, n.port))
}
