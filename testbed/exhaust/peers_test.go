//go:build linux

package exhaust

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"agiproxy/agi"
	"agiproxy/internal/agisim"
)

// perFlood is what a session with a flood may cost: one read of 64 KiB that the other
// side didn't take, in a slice that has grown to it.
const perFlood = 256 << 10

// floods sends commands until that fails.
func floods(c net.Conn) {
	lines := bytes.Repeat([]byte("NOOP flood\n"), 4096)
	for {
		if _, err := c.Write(lines); err != nil {
			return
		}
	}
}

// routes sends calls to the pool of their script's name.
const routes = "routes: [{match: {script: good}, pool: good}, {pool: bad}]\n"

// TestServersFlood has servers send commands without end: to Asterisks that read
// slowly, that don't read, and that have left; before they have read the header, too.
func TestServersFlood(t *testing.T) {
	const n = 20
	bad := server(t, func(s *agisim.Session) {
		floods(s.Conn())
	})
	p := startProgram(t, "auto", 0, "", pool("good", goodServer(t))+pool("bad", bad)+routes)
	p.slow(goodCall)
	before := p.rss()
	p.wantUndisturbed(func(stop <-chan struct{}) {
		conns := connect(t, p.address, n, header("bad"))
		defer closeAll(conns)
		defer p.wantMemory(before, n, perFlood, "a read's bytes that Asterisk doesn't take")
		buf := make([]byte, 4<<10)
		for {
			for _, c := range conns[:n/3] { // the others never read
				c.SetReadDeadline(time.Now().Add(time.Millisecond))
				if _, err := c.Read(buf); err != nil && !isTimeout(err) {
					t.Errorf("an Asterisk that reads slowly is told %v", err)
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	// All have left, and servers would flood on if they were let.
	p.wantIdle()
	p.wantMemory(before, n, 0, "nothing that nobody takes")
}

// TestAsterisksFlood has Asterisks send without end to servers that don't read.
func TestAsterisksFlood(t *testing.T) {
	const n = 20
	over := make(chan struct{})
	defer close(over)
	bad := server(t, func(s *agisim.Session) {
		_ = s.Send("NOOP") // it may have gone
		<-over
	})
	p := startProgram(t, "auto", 0, "", pool("good", goodServer(t))+pool("bad", bad)+routes)
	p.slow(goodCall)
	before := p.rss()
	p.wantUndisturbed(func(stop <-chan struct{}) {
		conns := connect(t, p.address, n, header("bad"))
		defer closeAll(conns)
		defer p.wantMemory(before, n, perFlood, "a read's bytes that the server doesn't take")
		replies := []byte(strings.Repeat("200 result=0\n", 1000))
		for {
			for _, c := range conns {
				c.SetWriteDeadline(time.Now().Add(time.Millisecond))
				if _, err := c.Write(replies); err != nil && !isTimeout(err) {
					return // one whose replies before the first command were too many
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	p.wantIdle()
}

// TestGiantLines has headers with a line without an end, and with lines without end,
// and servers with a command without an end. Each gets its end at once.
func TestGiantLines(t *testing.T) {
	giant := bytes.Repeat([]byte("x"), 1<<20)
	many := bytes.Repeat([]byte("agi_x: y\n"), 100000)
	bad := server(t, func(s *agisim.Session) {
		if _, err := s.Header(); err == nil {
			_, _ = s.Conn().Write(giant) // it is cut off
		}
	})
	p := startProgram(t, "auto", 0, "", pool("good", goodServer(t))+pool("bad", bad)+routes)
	p.slow(goodCall)
	before := p.rss()
	send := func(what string, text []byte) {
		c, err := net.Dial("tcp", p.address)
		if err != nil {
			return
		}
		defer c.Close()
		go c.Write(text) // which may fail when agiproxy has had enough
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		said, err := io.ReadAll(c)
		if isTimeout(err) || len(said) > agi.MaxLine || what != "a command" && len(said) > len("failure\n") {
			t.Errorf("%s: Asterisk is told %d bytes, %v; want no more than failure", what, len(said), err)
		}
	}
	p.wantUndisturbed(func(stop <-chan struct{}) {
		until(stop, 2, func() {
			send("a header with a giant line", append([]byte("agi_network: "), giant...))
			send("a header of thousands of lines", many)
			command(p.address)
			time.Sleep(20 * time.Millisecond)
		})
	})
	p.wantMemory(before, 4, perFlood, "a header has a limit, and so has a line")
}

// command makes a call whose server sends a command without an end, and answers what
// agiproxy says then.
func command(address string) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write(header("bad")); err != nil {
		return
	}
	_, _ = io.WriteString(c, "200 result=1\n")
	_, _ = io.Copy(io.Discard, c)
}
