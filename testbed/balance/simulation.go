package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"agiproxy/balancer"
)

// A machine is what a server runs on.
type machine struct {
	children int     // calls at a time; more wait in the server's line
	speed    float64 // of each child: a call takes 1/speed as long
}

// machines are ten that were bought over the years. Together they can do the
// work of 150 children of speed 1.
var machines = []machine{
	{4, 1}, {4, 1.5}, {8, 1}, {8, 1}, {8, 0.5}, {16, 1}, {16, 1}, {16, 1.5}, {24, 1}, {32, 1.25},
}

// A call takes meanCall on average on a child of speed 1, half of them less than
// a third of that, one in a hundred more than ten times as long. A pool is
// measured for observed, after its servers have filled for settling.
const (
	meanCall = 20 * time.Second
	sigma    = 1.5 // of the logarithm
	settling = 20 * time.Minute
	observed = 2 * time.Hour
)

// A setup is a pool's configuration.
type setup struct {
	policy string
	weight weight
	limits bool // max_sessions is the number of children, and the pool has a queue
}

// A weight is what the weights of a pool's backends stand for.
type weight string

const (
	none     weight = ""         // all are 1
	rate     weight = "rate"     // how many calls a server can do in an hour
	children weight = "children" // how many it can do at a time
)

// of returns the weight of a server.
func (w weight) of(m machine) int {
	switch w {
	case rate:
		return int(float64(m.children) * m.speed)
	case children:
		return m.children
	}
	return 1
}

// String returns the set-up as a chart has it.
func (s setup) String() string {
	if s.limits {
		return s.policy + ", queue"
	}
	return s.policy
}

// A scenario is what the pool has to do.
type scenario struct {
	load     float64 // of what all servers together can do
	failing  bool    // one of them accepts and closes at once
	ejection balancer.Ejection
}

// failing is the server that fails, of which the pool can do without.
const failing = 3

// A result is what came of it.
type result struct {
	p50, p99  float64 // seconds for which calls waited
	imbalance float64 // utilisation of the most used server, over the average
	wasted    float64 // attempts that failed, for each call
}

// A simulation is one run of a pool.
type simulation struct {
	clock
	scenario
	rng          *rand.Rand
	pool         *balancer.Pool
	servers      []*server
	start, end   time.Time // of what is observed
	calls        int       // that are under way
	waits        []float64
	total, waste int
}

// A server is a pre-forking FastAGI server: it accepts by its children, and who
// comes when all are on calls waits in the kernel's line.
type server struct {
	machine
	backend *balancer.Backend
	fails   bool
	busy    int
	line    []*call
	used    time.Duration // by all children, while observed
}

// A call is a session.
type call struct {
	key    uint64
	work   time.Duration // on a child of speed 1
	came   time.Time
	tried  []*balancer.Backend
	loan   balancer.Loan
	server *server
}

// simulate runs the pool; the same seed gives the same calls to all of them.
func simulate(s setup, sc scenario, seed uint64) (result, error) {
	sim := &simulation{scenario: sc, rng: rand.New(rand.NewPCG(seed, 1))}
	sim.now = time.Unix(0, 0)
	sim.start = sim.now.Add(settling)
	sim.end = sim.start.Add(observed)
	policy, err := balancer.NewPolicy(s.policy)
	if err != nil {
		return result{}, err
	}
	if _, ok := policy.(balancer.Random); ok {
		policy = balancer.Random{Rand: rand.NewPCG(seed, 2).Uint64}
	}
	var backends []*balancer.Backend
	for i, m := range machines {
		b := balancer.NewBackend(fmt.Sprintf("ivr%d", i+1), "")
		b.SetAddr(someAddr)
		limit := 0
		if s.limits {
			limit = m.children
		}
		b.Configure(s.weight.of(m), limit, false)
		backends = append(backends, b)
		sim.servers = append(sim.servers, &server{machine: m, backend: b, fails: sc.failing && i == failing})
	}
	o := balancer.Options{Ejection: sc.ejection, Clock: sim}
	if s.limits {
		o.Queue = math.MaxInt32
	}
	sim.pool = balancer.NewPool(policy, o, backends)
	sim.calls++ // the next to come
	sim.AfterFunc(sim.gap(), sim.arrive)
	sim.runUntil(func() bool { return sim.calls == 0 })
	return sim.result(), nil
}

// gap is the time between two arrivals: they don't know of each other.
func (s *simulation) gap() time.Duration {
	work := 0.0
	for _, m := range machines {
		work += float64(m.children) * m.speed
	}
	return time.Duration(s.rng.ExpFloat64() * float64(meanCall) / (s.load * work))
}

// arrive has a call come, and plans the next.
func (s *simulation) arrive() {
	work := math.Exp(sigma*s.rng.NormFloat64() - sigma*sigma/2)
	c := &call{key: s.rng.Uint64(), work: time.Duration(work * float64(meanCall)), came: s.now}
	if gap := s.gap(); s.now.Add(gap).Before(s.end) {
		s.calls++
		s.AfterFunc(gap, s.arrive)
	}
	s.dispatch(c)
}

// dispatch has the pool choose a server, or lets the call wait for one.
func (s *simulation) dispatch(c *call) {
	if loan, err := s.pool.Pick(c.tried, c.key); err == nil {
		s.connect(c, loan)
		return
	}
	if err := s.pool.Wait(&balancer.Waiter{Tried: c.tried, Key: c.key, Ready: func(loan balancer.Loan) {
		s.AfterFunc(0, func() { s.connect(c, loan) }) // Ready must not call the pool
	}}); err != nil {
		panic(err) // without limits nobody waits, and the queue has none
	}
}

// connect takes the call to the server that was chosen.
func (s *simulation) connect(c *call, loan balancer.Loan) {
	c.loan = loan
	c.server = s.servers[slices.IndexFunc(s.servers, func(v *server) bool { return v.backend == loan.Backend() })]
	switch {
	case c.server.fails:
		s.AfterFunc(time.Millisecond, func() { s.fail(c) })
	case c.server.busy == c.server.children:
		c.server.line = append(c.server.line, c)
	default:
		s.serve(c)
	}
}

// fail is the close that a broken server answers with.
func (s *simulation) fail(c *call) {
	if s.now.After(s.start) {
		s.waste++
	}
	c.tried = append(c.tried, c.server.backend)
	c.loan.Failed()
	c.loan.Done()
	s.dispatch(c)
}

// serve has a child take the call.
func (s *simulation) serve(c *call) {
	c.server.busy++
	c.loan.Served()
	if c.came.After(s.start) {
		s.total++
		s.waits = append(s.waits, s.now.Sub(c.came).Seconds())
	}
	takes := time.Duration(float64(c.work) / c.server.speed)
	c.server.used += s.within(s.now.Add(takes)) - s.within(s.now)
	s.AfterFunc(takes, func() { s.finish(c) })
}

// within returns how much of what is observed lies before t.
func (s *simulation) within(t time.Time) time.Duration {
	return min(max(t.Sub(s.start), 0), observed)
}

// finish ends the call; its child takes the next.
func (s *simulation) finish(c *call) {
	s.calls--
	v := c.server
	v.busy--
	c.loan.Done()
	if len(v.line) > 0 {
		next := v.line[0]
		v.line = v.line[1:]
		s.serve(next)
	}
}

func (s *simulation) result() result {
	slices.Sort(s.waits)
	var most, sum, n float64
	for _, v := range s.servers {
		if v.fails {
			continue
		}
		u := v.used.Seconds() / (observed.Seconds() * float64(v.children))
		most, sum, n = max(most, u), sum+u, n+1
	}
	return result{
		p50: s.waits[len(s.waits)/2], p99: s.waits[len(s.waits)*99/100],
		imbalance: most * n / sum, wasted: float64(s.waste) / float64(s.total),
	}
}
