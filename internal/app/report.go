package app

import (
	"context"
	"fmt"
	"time"
)

// reportEvery is how often the service manager is told how it goes, unless it
// wants to hear that somebody lives more often.
const reportEvery = 5 * time.Second

// report tells the service manager how it goes, until ctx ends.
func (a *App) report(ctx context.Context) {
	if a.opts.Notify == nil {
		return
	}
	every := reportEvery
	watchdog := a.opts.Notify.Watchdog()
	if watchdog > 0 {
		every = min(every, watchdog/3) // one that is late is not yet too late
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		a.opts.Notify.Status(a.summary())
		if watchdog > 0 {
			if !a.loopsAnswer(ctx, watchdog) {
				return
			}
			a.opts.Notify.Alive()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// loopsAnswer asks each event loop for an answer and waits until all have given
// it, however long: a loop that hangs holds up all its calls, and then nobody may
// say that this process is alive. It reports false when ctx ends before.
func (a *App) loopsAnswer(ctx context.Context, patience time.Duration) bool {
	answers := make(chan struct{}, len(a.workers))
	asked := 0
	for _, w := range a.workers {
		if w.loop.Do(func() { answers <- struct{}{} }) == nil { // else it has ended, and Run with it
			asked++
		}
	}
	late := time.NewTimer(patience / 2)
	defer late.Stop()
	for asked > 0 {
		select {
		case <-answers:
			asked--
		case <-late.C:
			a.log.Error("event loop doesn't answer", "duration", patience/2)
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// summary is how it goes, in a line.
func (a *App) summary() string {
	able, all := 0, 0
	for _, p := range a.server.Table().Pools {
		for _, b := range p.Backends().Backends() {
			all++
			if b.State().CanServe() {
				able++
			}
		}
	}
	doing := "serving"
	if a.draining.Load() {
		doing = "draining"
	}
	text := fmt.Sprintf("%s: %d sessions, %d of %d backends up", doing, a.server.Sessions(), able, all)
	if !a.lastReload.Load().OK {
		text += "; the configuration file has an error and is not in force"
	}
	return text
}
