//go:build linux

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
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

// loopbackUp brings the loopback interface up, which in a new network namespace
// is down.
func loopbackUp() error {
	if lo, err := net.InterfaceByName("lo"); err == nil && lo.Flags&net.FlagUp != 0 {
		return nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("bring the loopback interface up: %w", err)
	}
	return nil
}
