// Package proxyheader reads and writes the line, or the block, by which a proxy
// tells for whom it has made a connection: the PROXY protocol, versions 1 and 2.
//
// Bytes come in any pieces, and this package waits for none: it says when a header
// is whole. Only then the library that knows its fields gets it.
//
// Source: https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt
package proxyheader

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

const (
	maxV1   = 107     // bytes, the line end included (2.1 of the specification)
	fixedV2 = 16      // bytes before those that the length counts
	maxV2   = 4 << 10 // bytes that the length may count: a client's certificate is the largest of what comes
)

var (
	errNone    = errors.New("not a PROXY header")
	errTooLong = errors.New("PROXY header is too long")
	errPacket  = errors.New("PROXY header is not for a TCP connection")
)

// A Version of the protocol.
type Version byte

const (
	None Version = iota
	V1
	V2
)

// A Header says between which addresses the connection is that a proxy passes on.
// Both are the zero AddrPort where the proxy speaks for itself, or doesn't know:
// then the addresses are those of its own connection.
type Header struct {
	Source, Destination netip.AddrPort
}

// Parse reads the header that p begins with, and returns how many bytes of p it
// has: 0 as long as it isn't whole. What follows belongs to the connection. The
// error says that no header comes.
func Parse(p []byte) (h Header, n int, err error) {
	n, err = length(p)
	if n == 0 || err != nil {
		return Header{}, 0, err
	}
	parsed, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(p[:n]), n))
	if err != nil {
		return Header{}, 0, err
	}
	if parsed.Command == proxyproto.LOCAL {
		return Header{}, n, nil
	}
	if parsed.TransportProtocol.IsDatagram() {
		return Header{}, 0, errPacket
	}
	source, destination, ok := parsed.TCPAddrs()
	if !ok { // of a socket in the file system
		return Header{}, n, nil
	}
	return Header{plain(source), plain(destination)}, n, nil
}

// plain returns the address as connections have it.
func plain(a *net.TCPAddr) netip.AddrPort {
	ip, _ := netip.AddrFromSlice(a.IP)
	return netip.AddrPortFrom(ip.Unmap(), uint16(a.Port))
}

// length returns how long the header is that p begins with, 0 as long as that can't
// be told or p is shorter.
func length(p []byte) (int, error) {
	switch {
	case begins(p, proxyproto.SIGV2):
		if len(p) < fixedV2 {
			return 0, nil
		}
		n := int(binary.BigEndian.Uint16(p[fixedV2-2:]))
		if n > maxV2 {
			return 0, fmt.Errorf("%w: %d bytes", errTooLong, n)
		}
		if n += fixedV2; n <= len(p) {
			return n, nil
		}
		return 0, nil
	case begins(p, []byte("PROXY ")):
		n := bytes.IndexByte(p[:min(len(p), maxV1)], '\n') + 1
		if n == 0 && len(p) >= maxV1 {
			return 0, errTooLong
		}
		return n, nil
	}
	return 0, errNone
}

// begins reports whether p begins with signature, or is the beginning of it.
func begins(p, signature []byte) bool {
	n := min(len(p), len(signature))
	return bytes.Equal(p[:n], signature[:n])
}

// Read reads the header that a connection begins with, and no byte more, for those
// who can wait. The caller sees to a deadline.
func Read(r io.Reader) (Header, error) {
	var p []byte
	for {
		if h, n, err := Parse(p); n > 0 || err != nil {
			return h, err
		}
		// One byte at a time, but for the part of which the length is known.
		more := 1
		if len(p) >= fixedV2 && begins(p, proxyproto.SIGV2) {
			more = fixedV2 + int(binary.BigEndian.Uint16(p[fixedV2-2:])) - len(p)
		}
		p = append(p, make([]byte, more)...)
		if _, err := io.ReadFull(r, p[len(p)-more:]); err != nil {
			return Header{}, err
		}
	}
}

// Append appends the header for a connection between these addresses. Where one is
// not known it says no more than that a proxy speaks for itself.
func Append(dst []byte, v Version, source, destination netip.AddrPort) []byte {
	if v == None {
		return dst
	}
	h := &proxyproto.Header{Version: byte(v), Command: proxyproto.LOCAL}
	if source.IsValid() && destination.IsValid() {
		h = proxyproto.HeaderProxyFromAddrs(byte(v), net.TCPAddrFromAddrPort(source), net.TCPAddrFromAddrPort(destination))
	}
	text, err := h.Format()
	if err != nil {
		panic(fmt.Sprintf("proxyheader: %v to %v: %v", source, destination, err)) // of two addresses nothing can be wrong
	}
	return append(dst, text...)
}
