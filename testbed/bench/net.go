//go:build linux

package main

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
)

// Ports for proxies are below those that the system gives to connections, of
// which there are many thousands: between choosing and listening, one of them
// could take the port.
const (
	firstPort = 20000
	lastPort  = 32000
)

// freePort returns a loopback address at which nobody listens.
func freePort() (netip.AddrPort, error) {
	for range 100 {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(firstPort+rand.IntN(lastPort-firstPort)))
		ln, err := net.Listen("tcp4", at.String())
		if err == nil {
			return at, ln.Close()
		}
	}
	return netip.AddrPort{}, errors.New("no free port")
}

// listens reports whether somebody listens there.
func listens(at netip.AddrPort) bool {
	c, err := net.Dial("tcp4", at.String())
	if err != nil {
		return false
	}
	c.Close()
	return true
}
