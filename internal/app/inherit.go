package app

import (
	"fmt"
	"net"
	"net/netip"
	"os"
)

// inherited is a socket that listens already and was given to this process. It
// is kept for the App's whole life: while somebody else has it open too, its
// address can't be listened on anew, so a listener that a reload removes, and
// another one brings back, needs it again.
type inherited struct {
	file *os.File
	addr netip.AddrPort
}

// inherit finds out where sockets listen.
func inherit(files []*os.File) (all []*inherited, err error) {
	for _, f := range files {
		ln, err := net.FileListener(f)
		if err != nil {
			return nil, fmt.Errorf("socket %s, which was given: %w", f.Name(), err)
		}
		ln.Close()
		tcp, ok := ln.Addr().(*net.TCPAddr)
		if !ok {
			return nil, fmt.Errorf("socket %s, which was given: %s is no TCP address", f.Name(), ln.Addr())
		}
		all = append(all, &inherited{f, tcp.AddrPort()})
	}
	return all, nil
}

// isFor reports whether a listener with that address, in the configuration's
// canonical form, is meant to use the socket. One that is given by name is not:
// what it stands for would have to be looked up, and may change.
func (s *inherited) isFor(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port != fmt.Sprint(s.addr.Port()) {
		return false
	}
	if host == "" { // every address, of either kind
		return s.addr.Addr().IsUnspecified()
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap() == s.addr.Addr().Unmap()
}

// warnUnused tells of sockets that no listener uses: who connects there waits for
// an answer that doesn't come.
func (a *App) warnUnused() {
	for _, s := range a.sockets {
		used := false
		for _, f := range a.fronts {
			used = used || s.isFor(f.address)
		}
		if !used {
			a.log.Warn("socket that was given has no listener in the configuration", "address", s.addr)
		}
	}
}

// disown closes the sockets that were given.
func (a *App) disown() {
	for _, f := range a.opts.Sockets {
		f.Close()
	}
}
