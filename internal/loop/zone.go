package loop

import (
	"net"
	"net/netip"
	"strconv"
)

// zone returns the index of the interface that a link-local address belongs
// to, 0 if it names none that exists.
func zone(a netip.Addr) uint32 {
	if a.Zone() == "" {
		return 0
	}
	if n, err := strconv.ParseUint(a.Zone(), 10, 32); err == nil {
		return uint32(n)
	}
	if i, err := net.InterfaceByName(a.Zone()); err == nil {
		return uint32(i.Index)
	}
	return 0
}
