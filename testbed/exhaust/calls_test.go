//go:build linux

package exhaust

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agiproxy/agi"
	"agiproxy/internal/agisim"
)

// goodServer serves calls that are nobody's attack.
func goodServer(t *testing.T) *agisim.Server {
	t.Helper()
	return server(t, func(s *agisim.Session) {
		if _, err := s.Header(); err != nil {
			return // who sends none has a test of his own
		}
		for range 3 {
			if _, err := s.Command("NOOP"); err != nil {
				return
			}
		}
	})
}

func server(t *testing.T, script func(*agisim.Session)) *agisim.Server {
	t.Helper()
	s, err := agisim.Listen("127.0.0.1:0", script)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// pool is a pool's lines in the file.
func pool(name string, s *agisim.Server) string {
	return fmt.Sprintf("  %s: {health: {probe: none}, ejection: {failures: 0}, backends: [{address: %q}]}\n", name, s.Addr())
}

func header(script string) []byte {
	e := agi.Environment{Script: script, UniqueID: "1.1"}
	return e.AppendTo(nil)
}

// goodCall makes a call and returns how long its first command took.
func goodCall(address string) (time.Duration, error) {
	began := time.Now()
	c, err := net.DialTimeout("tcp", address, 20*time.Second)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	c.SetDeadline(began.Add(20 * time.Second))
	if _, err := c.Write(header("good")); err != nil {
		return 0, err
	}
	var first time.Duration
	r := bufio.NewReader(c)
	for n := 0; ; n++ {
		line, err := r.ReadString('\n')
		if err == io.EOF && n == 3 {
			return first, nil
		}
		if err != nil || line != "NOOP\n" {
			return 0, fmt.Errorf("after %d commands: %q, %w", n, line, errors.Join(err))
		}
		if n == 0 {
			first = time.Since(began)
		}
		if _, err := io.WriteString(c, "200 result=0\n"); err != nil {
			return 0, err
		}
	}
}

// window is how long calls are looked at.
const window = time.Second

// slow returns what the slowest hundredth of good calls takes to its first command.
// All of them must be served.
func (p *program) slow(call func(string) (time.Duration, error)) time.Duration {
	p.t.Helper()
	var mu sync.Mutex
	var all []time.Duration
	var workers sync.WaitGroup
	end := time.Now().Add(window)
	for range 4 {
		workers.Go(func() {
			for time.Now().Before(end) {
				d, err := call(p.address)
				mu.Lock()
				if err != nil {
					p.t.Errorf("a call that has nothing to do with the attack: %v", err)
				}
				all = append(all, d)
				mu.Unlock()
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	workers.Wait()
	slices.Sort(all)
	return all[len(all)*99/100]
}

const (
	// mostTimes is how many times longer a first command may take during an attack.
	mostTimes = 10
	// unnoticed is what nobody minds, and a busy machine makes of next to nothing.
	unnoticed = 50 * time.Millisecond
	// begins is how long an attack is let alone: what peers find that flood, the
	// kernel's buffers, is filled then, at all the speed that the machine has.
	begins = 700 * time.Millisecond
	// tries is how often a busy machine may try: what an attack brings about is there
	// each time.
	tries = 4
)

// wantUndisturbed measures good calls in quiet and then during an attack, which goes on
// until stop is closed.
func (p *program) wantUndisturbed(attack func(stop <-chan struct{})) {
	p.t.Helper()
	p.wantCallsUndisturbed(goodCall, attack)
}

func (p *program) wantCallsUndisturbed(call func(string) (time.Duration, error), attack func(stop <-chan struct{})) {
	p.t.Helper()
	var said []string
	for range tries {
		quiet := p.slow(call)
		stop := make(chan struct{})
		var attackers sync.WaitGroup
		attackers.Go(func() { attack(stop) })
		time.Sleep(begins)
		before := p.cpu()
		busy := p.slow(call)
		said = append(said, fmt.Sprintf("%v in quiet, %v during the attack, in which agiproxy took %.0f %% of a processor",
			quiet.Round(time.Microsecond), busy.Round(time.Microsecond), 100*(p.cpu()-before).Seconds()/window.Seconds()))
		close(stop)
		attackers.Wait()
		if busy <= max(mostTimes*quiet, unnoticed) {
			p.t.Logf("p99 of first commands: %s", strings.Join(said, "; "))
			return
		}
	}
	p.t.Errorf("p99 of first commands: %s; want at most %d times as long, or %v", strings.Join(said, "; "), mostTimes, unnoticed)
}

// until calls f until stop is closed, on so many goroutines.
func until(stop <-chan struct{}, workers int, f func()) {
	var all sync.WaitGroup
	defer all.Wait()
	for range workers {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f()
				}
			}
		})
	}
}
