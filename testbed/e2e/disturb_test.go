package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"agiproxy/testbed/fastagi/fault"
)

// A disturber does to Perl servers what happens to servers, to one at a time.
type disturber struct {
	t       *testing.T
	random  *rand.Rand
	servers []*perlServer
	ended   chan struct{}  // when nothing more is to be done
	done    map[string]int // how often what was done
}

// A disturbance is one of the things that happen: it begins, lasts for a while, and
// is over when the server serves again.
type disturbance struct {
	what        string
	begin, over func(b *perlServer) error
}

func (d *disturber) disturbances() []disturbance {
	var stand *fault.Server // in the place of a server
	return []disturbance{
		{"killed", (*perlServer).die, d.start},
		{"stopped", func(b *perlServer) error { return b.signal(syscall.SIGSTOP) },
			func(b *perlServer) error { return b.signal(syscall.SIGCONT) }},
		{"restarted", (*perlServer).terminate, nil},
		{"refusing", (*perlServer).refuse, d.start},
		{"accepting and closing", func(b *perlServer) (err error) {
			if err := b.die(); err != nil {
				return err
			}
			stand, err = fault.Listen(b.addr, fault.Options{Name: b.name,
				Behaviour: fault.Behaviour{Mode: fault.AcceptClose, Reset: d.random.IntN(2) == 0}})
			return err
		}, func(b *perlServer) error {
			stand.Close()
			return d.start(b)
		}},
	}
}

// run does one thing after the other until the calls have ended, and leaves all
// servers well. Each thing happens as often as the others, in an order and to
// servers that the seed decides.
func (d *disturber) run() error {
	var deck []disturbance
	for {
		if !d.pass(500*time.Millisecond, 1500*time.Millisecond) {
			return nil
		}
		if len(deck) == 0 {
			deck = d.disturbances()
			d.random.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		next, b := deck[0], d.servers[d.random.IntN(len(d.servers))]
		deck = deck[1:]
		if err := d.do(next, b); err != nil {
			return fmt.Errorf("%s %s: %w", b.name, next.what, err)
		}
	}
}

func (d *disturber) do(what disturbance, b *perlServer) error {
	d.t.Logf("%s %s", b.name, what.what)
	if err := what.begin(b); err != nil {
		return err
	}
	d.done[what.what]++
	if what.over == nil {
		return d.start(b)
	}
	d.pass(2*time.Second, 5*time.Second)
	return what.over(b)
}

func (d *disturber) start(b *perlServer) error { return b.tryStart(d.t) }

// pass lets some time pass, and tells whether there are calls still.
func (d *disturber) pass(least, most time.Duration) bool {
	select {
	case <-d.ended:
		return false
	case <-time.After(least + time.Duration(d.random.Int64N(int64(most-least)))):
		return true
	}
}

// String tells what was done, and how often.
func (d *disturber) String() string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(d.done)) {
		parts = append(parts, fmt.Sprintf("%s %d×", what, d.done[what]))
	}
	return strings.Join(parts, ", ")
}

// die ends the server and its calls at once.
func (b *perlServer) die() error {
	if err := b.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-b.exited
	return nil
}

// terminate ends it as systemd would: every process of it is told.
func (b *perlServer) terminate() error {
	if err := b.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-b.exited:
		return nil
	case <-time.After(5 * time.Second):
		return fmt.Errorf("it has not ended 5s after TERM")
	}
}

// refuse ends the process that listens; its calls go on.
func (b *perlServer) refuse() error {
	if err := b.cmd.Process.Kill(); err != nil {
		return err
	}
	<-b.exited
	return nil
}
