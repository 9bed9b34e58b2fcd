package app

import (
	"context"
	"testing"
	"time"
)

// The manager's watchdog bites when a loop hangs: no beat until each has answered.
func TestHungLoopIsNotAlive(t *testing.T) {
	p := serve(t, file(unprobed, "127.0.0.1:1"))
	if !p.loopsAnswer(t.Context(), time.Hour) {
		t.Error("loops that run don't answer")
	}
	hung, release := make(chan struct{}), make(chan struct{})
	p.workers[0].loop.Do(func() { close(hung); <-release })
	<-hung
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan bool, 1)
	go func() { answered <- p.loopsAnswer(ctx, time.Nanosecond) }()
	eventually(t, "a word about the loop", func() bool { return p.log.count("event loop doesn't answer") == 1 })
	cancel()
	if <-answered {
		t.Error("a loop that hangs has answered")
	}
	close(release)
	if !p.loopsAnswer(t.Context(), time.Hour) {
		t.Error("a loop that runs again doesn't answer")
	}
}

func TestSummary(t *testing.T) {
	s := startServer(t, "ivr1")
	p := serve(t, file(quick, s.entry(""), `{name: dead, address: "127.0.0.1:1"}`))
	p.state("dead", "down")
	held := hold(t, p.addr(0), "hold", s)
	if got, want := p.summary(), "serving: 1 sessions, 1 of 2 backends up"; got != want {
		t.Errorf("summary() = %q; want %q", got, want)
	}
	s.release()
	held.wantServed("ivr1")
}
