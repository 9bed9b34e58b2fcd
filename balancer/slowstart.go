package balancer

import (
	"sync"
	"time"
)

// A weight is kept in rampSteps parts, so that a slow start can give a backend
// of weight 1 a part of it. Twenty steps are enough for none of them to be felt.
const (
	rampSteps = 20
	firstStep = 2 // a tenth: enough to warm up by, little enough if it fails
)

// A ramp is where a backend's weight is between coming back and the whole of
// what was configured. Picks don't look at it but at what it comes to,
// [Backend].weight.
type ramp struct {
	mu     sync.Mutex
	weight int32  // as configured
	step   int32  // how many of the rampSteps parts count
	starts uint64 // slow starts; the steps of an earlier one are void
}

// setWeight sets the weight that was configured. A slow start goes on.
func (b *Backend) setWeight(weight int) {
	b.ramp.mu.Lock()
	defer b.ramp.mu.Unlock()
	b.ramp.weight = int32(weight)
	b.weight.Store(b.ramp.weight * b.ramp.step)
}

// Weight returns the backend's share relative to the others', as configured.
func (b *Backend) Weight() int {
	b.ramp.mu.Lock()
	defer b.ramp.mu.Unlock()
	return int(b.ramp.weight)
}

// cameBack begins a slow start, if the backend's pool has one: of what was down,
// ejected or drained and is so no longer. A backend that is new has its whole
// weight at once: when a process starts there are no others to take the calls
// meanwhile.
func (b *Backend) cameBack() {
	p := b.owner.Load()
	if p == nil || p.opts.SlowStart <= 0 {
		return
	}
	b.ramp.mu.Lock()
	defer b.ramp.mu.Unlock()
	b.ramp.starts++
	b.setStep(firstStep)
	b.climb(p.opts.Clock, p.opts.SlowStart/(rampSteps-firstStep), b.ramp.starts)
}

// climb takes a step after each interval until the weight is whole, or another
// slow start has begun.
func (b *Backend) climb(clock Clock, interval time.Duration, start uint64) {
	clock.AfterFunc(interval, func() {
		b.ramp.mu.Lock()
		defer b.ramp.mu.Unlock()
		if b.ramp.starts != start {
			return
		}
		b.setStep(b.ramp.step + 1)
		if b.ramp.step < rampSteps {
			b.climb(clock, interval, start)
		}
	})
}

// setStep has so many parts of the weight count. The caller holds ramp.mu.
func (b *Backend) setStep(step int32) {
	b.ramp.step = step
	b.weight.Store(b.ramp.weight * step)
}
