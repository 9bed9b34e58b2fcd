package main

import (
	"context"
	"time"
)

// A plot is what happens in a demo: one server after the other is killed, and
// comes back.
type plot struct {
	pace    tempo
	servers []*ivr
	gate    *gate
	board   *board
}

// idleLook is how often a server is looked at that is to be killed.
const idleLook = 5 * time.Millisecond

func (p plot) run(ctx context.Context) {
	for n := 1; sleep(ctx, p.pace.calm); n++ { // the first is the one in the middle
		victim := p.servers[n%len(p.servers)]
		if !p.kill(ctx, victim) {
			continue
		}
		if !sleep(ctx, p.pace.outage) {
			return
		}
		if err := victim.start(); err != nil {
			p.board.event("%s can't start again: %v", victim.name, err)
			continue
		}
		p.board.event("%s is started again", victim.name)
	}
}

// kill kills a server at a moment when it has no call, and has all callers call
// in that moment. A server that others keep busy is spared.
func (p plot) kill(ctx context.Context, victim *ivr) bool {
	p.gate.Shut()
	defer p.gate.Open()
	p.board.event("callers hold off until %s has no call: a call that it has begun would die with it", victim.name)
	patience, cancel := context.WithTimeout(ctx, 2*(2*(p.pace.prompt+p.pace.spread)+p.pace.digit))
	defer cancel()
	for !victim.killIfIdle() {
		if !sleep(patience, idleLook) {
			if ctx.Err() == nil {
				p.board.event("%s still has a call, and is spared", victim.name)
			}
			return false
		}
	}
	p.board.count(func(t *totals) { t.kills++ })
	p.board.event("%s is killed, and %d callers call in this moment", victim.name, p.pace.callers)
	return true
}
