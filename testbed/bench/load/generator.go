//go:build linux

package load

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// slotBits of a session's number say where it is kept, the others which of the
// slot's sessions it is.
const (
	slotBits = 14
	maxSlots = 1 << slotBits
	noFD     = int32(-1)
)

// A Generator is the callers and the servers. Make it with [New]. All methods
// belong to one goroutine, which should be locked to its thread.
type Generator struct {
	epoll    int
	listener int32
	port     uint16
	base     time.Time
	now      int64 // nanoseconds since base, as of the event under way

	conns    []conn // by descriptor
	sessions []session
	free     []uint32 // slots without a session
	live     int      // sessions
	events   []unix.EpollEvent
	buf      []byte

	environment, command, reply line
	goodbye                     []byte // the reply of a caller that leaves, and HANGUP

	run *run // nil between runs: connections are served and count for nothing
}

// A role is what a descriptor is used for.
type role uint8

const (
	unused role = iota
	caller
	server
)

// A conn is one connection.
type conn struct {
	role       role
	connecting bool
	slot       int32  // of the session; -1 for a server that has not read its environment
	partial    []byte // what has come of a line, or of the environment; nearly always none
}

// New opens the servers' listening socket at that port; 0: one that the system
// chooses. Every loopback address leads to it, so there are as many servers as
// addresses are used.
func New(port uint16) (*Generator, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open epoll: %w", err)
	}
	g := &Generator{
		epoll: epoll, base: time.Now(), sessions: make([]session, maxSlots), free: make([]uint32, 0, maxSlots),
		conns: make([]conn, 1<<16), events: make([]unix.EpollEvent, 512), buf: make([]byte, 64<<10),
		environment: newLine(environment), command: newLine(commandLine), reply: newLine(replyLine),
		goodbye: []byte(leftReply + hangupLine),
	}
	for slot := range uint32(maxSlots) {
		g.free = append(g.free, maxSlots-1-slot)
		g.sessions[slot] = session{slot: slot, caller: noFD, server: noFD}
	}
	if g.listener, g.port, err = listen(port); err != nil {
		unix.Close(epoll)
		return nil, err
	}
	if errno := watch(epoll, g.listener, unix.EPOLLIN); errno != 0 {
		g.Close()
		return nil, fmt.Errorf("watch listener: %w", errno)
	}
	return g, nil
}

// Close ends all connections and the listener.
func (g *Generator) Close() {
	for fd, c := range g.conns {
		if c.role != unused {
			closeFD(int32(fd))
		}
	}
	closeFD(g.listener)
	closeFD(int32(g.epoll))
}

// Servers returns n different addresses that lead to the servers.
func (g *Generator) Servers(n int) []netip.AddrPort {
	all := make([]netip.AddrPort, n)
	for i := range all {
		all[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}).Next(), g.port)
	}
	return all
}

// Serve answers whoever connects, a proxy's probes above all, until the
// condition holds or d has passed; it reports whether it holds.
func (g *Generator) Serve(d time.Duration, until func() bool) bool {
	end := g.clock() + int64(d)
	for !until() {
		if g.now >= end {
			return false
		}
		g.turn(g.now + int64(time.Millisecond))
	}
	return true
}

func (g *Generator) clock() int64 {
	g.now = int64(time.Since(g.base))
	return g.now
}

// turn waits for events until that time at most, and handles them.
func (g *Generator) turn(until int64) {
	n, errno := wait(g.epoll, g.events, time.Duration(until-g.now))
	g.clock()
	if errno != 0 {
		panic(fmt.Sprintf("epoll_pwait2: %v", errno)) // of a descriptor that is ours
	}
	for _, e := range g.events[:n] {
		if e.Fd == g.listener {
			g.accept()
			continue
		}
		c := &g.conns[e.Fd]
		switch c.role {
		case caller:
			if c.connecting && !g.connected(e.Fd, c) {
				continue
			}
			g.receive(e, g.fromProxy)
		case server:
			g.receive(e, g.atServer)
		}
		g.clock()
	}
}

// receive reads what fd has and hands it on: p is empty at an orderly end. A
// read that doesn't fill the buffer has emptied the socket.
func (g *Generator) receive(e unix.EpollEvent, handle func(fd int32, p []byte, errno unix.Errno)) {
	role := g.conns[e.Fd].role
	for g.conns[e.Fd].role == role {
		n, errno := read(e.Fd, g.buf)
		if errno == unix.EAGAIN {
			return // an event of the descriptor's last use, or of room to write
		}
		if errno != 0 {
			n = 0
		}
		handle(e.Fd, g.buf[:n], errno)
		if n == 0 || e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
			return
		}
	}
}

// accept takes a server's connections.
func (g *Generator) accept() {
	for range 64 {
		fd, errno := accept(g.listener)
		if errno != 0 {
			if errno != unix.EAGAIN && g.run != nil {
				g.run.fault("accept", errno.Error())
			}
			return
		}
		g.conns[fd] = conn{role: server, slot: -1}
		if errno := watch(g.epoll, fd, unix.EPOLLIN|unix.EPOLLRDHUP|edge); errno != 0 {
			panic(fmt.Sprintf("epoll_ctl: %v", errno))
		}
	}
}

// edge is EPOLLET, which x/sys has as a negative number.
const edge = 1 << 31

// drop closes a connection.
func (g *Generator) drop(fd int32) {
	g.conns[fd] = conn{}
	closeFD(fd)
}

// expect takes p as the next part of what must come on c. It reports whether
// all of it is there; wrong says that something else came.
func (c *conn) expect(p, want []byte) (complete, wrong bool) {
	if len(c.partial) == 0 && len(p) == len(want) {
		return true, string(p) != string(want)
	}
	c.partial = append(c.partial, p...)
	n := len(c.partial)
	if n > len(want) || string(c.partial) != string(want[:n]) {
		return false, true
	}
	if n < len(want) {
		return false, false
	}
	c.partial = nil
	return true, false
}
