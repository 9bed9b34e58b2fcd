package netns

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"
)

// Trouble is what becomes of the packets that go one way.
type trouble struct {
	cut     bool          // all are dropped, and nobody is told
	loss    float64       // the share of them that is dropped, by chance
	delay   time.Duration // that the others take
	largest int           // bytes; larger packets are dropped, and nobody is told. 0 means any size
}

// mostLost is how many packets of one connection are lost in a row, whichever way they
// go. TCP waits twice as long each time, from 200ms: more of them would be an outage,
// which other tests are about.
const mostLost = 4

// A network joins hosts: every packet that one of them sends passes here.
type network struct {
	t       *testing.T
	reading sync.WaitGroup

	mu       sync.Mutex
	rand     *rand.Rand
	ports    map[netip.Addr]*port
	troubles map[way]trouble
	lost     map[conversation]int // packets in a row
}

// A way leads from one host to another.
type way struct{ from, to netip.Addr }

// A conversation is a connection, seen from the end with the smaller address.
type conversation struct{ a, b netip.AddrPort }

// A port is where a host is plugged in.
type port struct {
	tun *os.File
	out chan parcel
}

// A parcel is a packet on its way.
type parcel struct {
	due    time.Time
	packet []byte
}

func newNetwork(t *testing.T) *network {
	n := &network{
		t: t, rand: rand.New(rand.NewPCG(1, 2)),
		ports: make(map[netip.Addr]*port), troubles: make(map[way]trouble), lost: make(map[conversation]int),
	}
	t.Cleanup(n.close)
	return n
}

// between sets what happens to packets between two hosts, both ways. The zero trouble
// heals.
func (n *network) between(a, b *host, f trouble) {
	n.toward(a, b, f)
	n.toward(b, a, f)
}

// toward sets what happens to packets from one host to another.
func (n *network) toward(from, to *host, f trouble) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.troubles[way{from.addr, to.addr}] = f
}

// plug joins the host whose network interface tun is.
func (n *network) plug(addr netip.Addr, tun *os.File) {
	p := &port{tun: tun, out: make(chan parcel, 4096)}
	n.mu.Lock()
	n.ports[addr] = p
	n.mu.Unlock()
	n.reading.Go(func() { n.read(p) })
	n.reading.Go(func() { p.deliver() })
}

// unplug takes a host off the network, with its interface. No packet of the host's
// gets out any more.
func (n *network) unplug(addr netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.ports[addr]; p != nil {
		delete(n.ports, addr)
		close(p.out)
		p.tun.Close()
	}
}

func (n *network) close() {
	for addr := range n.ports {
		n.unplug(addr)
	}
	n.reading.Wait()
}

// read takes what a host sends, until it is unplugged.
func (n *network) read(p *port) {
	buf := make([]byte, 1<<16)
	for {
		size, err := p.tun.Read(buf)
		if err != nil {
			return
		}
		n.pass(append([]byte(nil), buf[:size]...))
	}
}

// pass sends a packet on its way, or drops it.
func (n *network) pass(packet []byte) {
	if len(packet) < 24 || packet[0]>>4 != 4 { // the kernel announces itself by IPv6
		return
	}
	from, _ := netip.AddrFromSlice(packet[12:16])
	to, _ := netip.AddrFromSlice(packet[16:20])
	n.mu.Lock()
	defer n.mu.Unlock()
	f, p := n.troubles[way{from, to}], n.ports[to]
	if p == nil || f.cut || f.largest > 0 && len(packet) > f.largest {
		return
	}
	if f.loss > 0 && n.loses(f.loss, between(packet, from, to)) {
		return
	}
	select {
	case p.out <- parcel{time.Now().Add(f.delay), packet}:
	default: // as a switch does whose buffer is full
	}
}

// loses throws the dice for a packet.
func (n *network) loses(share float64, c conversation) bool {
	if n.rand.Float64() < share && n.lost[c] < mostLost {
		n.lost[c]++
		return true
	}
	delete(n.lost, c)
	return false
}

// between returns the connection that a packet belongs to.
func between(packet []byte, from, to netip.Addr) conversation {
	ports := packet[int(packet[0]&15)*4:]
	a := netip.AddrPortFrom(from, binary.BigEndian.Uint16(ports))
	b := netip.AddrPortFrom(to, binary.BigEndian.Uint16(ports[2:]))
	if b.Compare(a) < 0 {
		a, b = b, a
	}
	return conversation{a, b}
}

// deliver gives a host what was sent to it, in order.
func (p *port) deliver() {
	for parcel := range p.out {
		time.Sleep(time.Until(parcel.due))
		_, _ = p.tun.Write(parcel.packet) // of an interface that is down, or gone, nobody reads
	}
}
