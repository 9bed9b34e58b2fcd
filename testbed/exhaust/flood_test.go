//go:build linux

package exhaust

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"agiproxy/internal/agisim"
)

// TestFloodOfConnections has connections come that close at once, and some that say
// nonsense before.
func TestFloodOfConnections(t *testing.T) {
	p := startProgram(t, "auto", 0, "", pool("good", goodServer(t)))
	p.slow(goodCall)
	before := p.rss()
	p.wantUndisturbed(func(stop <-chan struct{}) {
		until(stop, 4, func() {
			for i := range 10 {
				if c, err := net.Dial("tcp", p.address); err == nil {
					if i%2 == 0 {
						_, _ = io.WriteString(c, "nonsense\n\n") // it is closed then
					}
					c.Close()
				}
			}
			time.Sleep(10 * time.Millisecond)
		})
	})
	p.wantMemory(before, 1, 0, "nothing of those that have gone")
}

// TestFloodOverTheDescriptors has more connections come than there are descriptors.
// Calls under way go on as before, and others are served as soon as there is room.
func TestFloodOverTheDescriptors(t *testing.T) {
	const descriptors, attackers = 400, 600
	rounds := server(t, func(s *agisim.Session) {
		if _, err := s.Header(); err != nil {
			return
		}
		for {
			if _, err := s.Command("NOOP"); err != nil {
				return
			}
		}
	})
	p := startProgram(t, "auto", descriptors, "header_timeout: 5m", pool("good", rounds))
	// Calls whose command is answered when somebody calls round.
	type held struct {
		c net.Conn
		r *bufio.Reader
	}
	calls := make(chan held, 8)
	for range cap(calls) {
		c, err := net.Dial("tcp", p.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		r := bufio.NewReader(c)
		if _, err := c.Write(header("good")); err != nil {
			t.Fatal(err)
		}
		if line, err := r.ReadString('\n'); line != "NOOP\n" {
			t.Fatalf("a call begins with %q, %v", line, err)
		}
		calls <- held{c, r}
	}
	round := func(string) (time.Duration, error) {
		h := <-calls
		defer func() { calls <- h }()
		began := time.Now()
		h.c.SetDeadline(began.Add(20 * time.Second))
		if _, err := io.WriteString(h.c, "200 result=0\n"); err != nil {
			return 0, err
		}
		line, err := h.r.ReadString('\n')
		if err != nil || line != "NOOP\n" {
			return 0, fmt.Errorf("a call under way is told %q, %w", line, errors.Join(err))
		}
		return time.Since(began), nil
	}
	before := p.rss()
	p.wantCallsUndisturbed(round, func(stop <-chan struct{}) {
		var all sync.WaitGroup
		defer all.Wait()
		for range attackers {
			all.Go(func() {
				until(stop, 1, func() {
					c, err := net.Dial("tcp", p.address)
					if err != nil {
						return
					}
					defer c.Close()
					_, _ = io.WriteString(c, "agi_")
					told := make(chan struct{})
					go func() { defer close(told); _, _ = io.Copy(io.Discard, c) }()
					select { // it stays for as long as it may, and comes again
					case <-told:
						time.Sleep(100 * time.Millisecond)
					case <-stop:
					}
				})
			})
		}
	})
	p.wantMemory(before, descriptors, 16<<10, "no more than there are descriptors")
	within(t, 10*time.Second, "another call is served", func() bool {
		c, err := net.Dial("tcp", p.address)
		if err != nil {
			return false
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = c.Write(header("good"))
		line, _ := bufio.NewReader(c).ReadString('\n')
		return line == "NOOP\n"
	})
	p.wantIdle()
}
