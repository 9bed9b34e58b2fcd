package proxy

import (
	"time"

	"agiproxy/agi"
)

// counts are what the sessions of one worker count. They are plain words of its
// loop, so that counting costs no more than memory does; whoever wants to read
// them asks the loop, see [Server.counts].
type counts struct {
	toBackend  uint64 // bytes passed on
	toAsterisk uint64
	pools      map[string]*poolCounts // "" is for sessions that were not routed
	rejected   map[rejection]uint64
}

type rejection struct{ listener, reason string }

type poolCounts struct {
	ended    [NumOutcomes]uint64
	duration histogram
	dispatch histogram
	queued   histogram                       // how long sessions waited for a slot, in vain too
	replays  uint64                          // headers sent to another backend than the first
	resumed  uint64                          // sessions that another backend went on with in mid-call, each time
	full     uint64                          // times that a session found the pool with as many sessions as it may have
	cutShort uint64                          // callers who left while a command ran
	commands [agi.NumCommands]*commandCounts // nil until the command is first seen
	denied   map[denial]uint64               // lines that were refused
	backends map[string]*backendCounts
}

// denial is what refused lines are counted by.
type denial struct {
	command agi.Command
	reason  denialReason
}

type commandCounts struct {
	sent uint64
	took histogram
}

type backendCounts struct {
	pool     *poolCounts
	name     string
	attempts [numResults]uint64
	losses   uint64    // sessions lost in mid-call, those included that another backend went on with
	first    histogram // from the header's being sent to the first command
	think    histogram
}

// The buckets' upper bounds.
var (
	durationBounds = seconds(.1, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
	dispatchBounds = seconds(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20)
	commandBounds  = seconds(.001, .0025, .01, .05, .1, .5, 1, 5, 10, 30, 60, 300, 1800)
	queueBounds    = seconds(.01, .05, .1, .5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
	thinkBounds    = seconds(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10)
)

func seconds(bounds ...float64) []time.Duration {
	all := make([]time.Duration, len(bounds))
	for i, b := range bounds {
		all[i] = time.Duration(b * float64(time.Second))
	}
	return all
}

func newCounts() *counts {
	return &counts{pools: make(map[string]*poolCounts), rejected: make(map[rejection]uint64)}
}

// pool returns the counts of the pool of that name.
func (c *counts) pool(name string) *poolCounts {
	p := c.pools[name]
	if p == nil {
		p = &poolCounts{
			duration: newHistogram(durationBounds), dispatch: newHistogram(dispatchBounds), queued: newHistogram(queueBounds),
			denied: make(map[denial]uint64), backends: make(map[string]*backendCounts),
		}
		c.pools[name] = p
	}
	return p
}

// backend returns the counts of the pool's backend of that name.
func (p *poolCounts) backend(name string) *backendCounts {
	b := p.backends[name]
	if b == nil {
		b = &backendCounts{pool: p, name: name, first: newHistogram(dispatchBounds), think: newHistogram(thinkBounds)}
		p.backends[name] = b
	}
	return b
}

// command returns the counts of a command.
func (p *poolCounts) command(c agi.Command) *commandCounts {
	n := p.commands[c]
	if n == nil {
		n = &commandCounts{took: newHistogram(commandBounds)}
		p.commands[c] = n
	}
	return n
}

func (c *counts) reject(l *Listener, reason string) { c.rejected[rejection{l.name, reason}]++ }

// end counts a session that has ended.
func (p *poolCounts) end(r *Record) {
	p.ended[r.Outcome]++
	p.duration.observe(r.Duration)
}

// add adds what another worker has counted.
func (c *counts) add(other *counts) {
	c.toBackend += other.toBackend
	c.toAsterisk += other.toAsterisk
	for r, n := range other.rejected {
		c.rejected[r] += n
	}
	for name, p := range other.pools {
		c.pool(name).add(p)
	}
}

func (p *poolCounts) add(other *poolCounts) {
	for o, n := range other.ended {
		p.ended[o] += n
	}
	p.duration.add(&other.duration)
	p.dispatch.add(&other.dispatch)
	p.queued.add(&other.queued)
	p.replays += other.replays
	p.resumed += other.resumed
	p.cutShort += other.cutShort
	p.full += other.full
	for c, n := range other.commands {
		if n != nil {
			sum := p.command(agi.Command(c))
			sum.sent += n.sent
			sum.took.add(&n.took)
		}
	}
	for d, n := range other.denied {
		p.denied[d] += n
	}
	for name, b := range other.backends {
		sum := p.backend(name)
		for r, n := range b.attempts {
			sum.attempts[r] += n
		}
		sum.losses += b.losses
		sum.first.add(&b.first)
		sum.think.add(&b.think)
	}
}

// A histogram counts durations.
type histogram struct {
	bounds  []time.Duration
	buckets []uint64 // one more than bounds
	sum     float64  // nanoseconds; as a Duration ten thousand calls would fill it in ten days
}

func newHistogram(bounds []time.Duration) histogram {
	return histogram{bounds: bounds, buckets: make([]uint64, len(bounds)+1)}
}

func (h *histogram) observe(d time.Duration) {
	i := 0
	for i < len(h.bounds) && d > h.bounds[i] {
		i++
	}
	h.buckets[i]++
	h.sum += float64(d)
}

func (h *histogram) add(other *histogram) {
	for i, n := range other.buckets {
		h.buckets[i] += n
	}
	h.sum += other.sum
}

// cumulative returns the histogram as Prometheus has it: in each bucket all that
// is not above its bound, which is in seconds.
func (h *histogram) cumulative() (count uint64, sum float64, buckets map[float64]uint64) {
	buckets = make(map[float64]uint64, len(h.bounds))
	for i, bound := range h.bounds {
		count += h.buckets[i]
		buckets[bound.Seconds()] = count
	}
	return count + h.buckets[len(h.bounds)], h.sum / float64(time.Second), buckets
}

// counts returns what all workers have counted so far.
func (s *Server) counts() *counts {
	total := newCounts()
	s.onWorkers(func(w *Worker) { total.add(w.counts) })
	return total
}

// onWorkers has f run for each worker on its loop, one after the other, and waits.
func (s *Server) onWorkers(f func(*Worker)) {
	for _, w := range s.allWorkers() {
		done := make(chan struct{})
		run := func() {
			f(w)
			close(done)
		}
		if w.host.Do(run) != nil {
			run() // the loop has ended, and counts no more
		}
		<-done
	}
}
