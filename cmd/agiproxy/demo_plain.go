package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// A plain is a stage of lines: each event, and the counts now and then.
type plain struct {
	out     io.Writer
	events  int           // written so far
	summary time.Duration // when the counts are due
}

// summaryEvery is how often a plain stage has the counts.
const summaryEvery = 2 * time.Second

func (p *plain) begin(sc *scene) {
	fmt.Fprintf(p.out, "agiproxy listens on %s for %d simulated callers, in front of %s of this process\n",
		sc.listen, sc.callers, count(len(sc.servers), "FastAGI server"))
	fmt.Fprintf(p.out, "metrics: http://%s/metrics\n", sc.metrics)
	fmt.Fprintf(p.out, "to call it from a real Asterisk:\n  %s\n", strings.Join(sc.dialplan(), "\n  "))
	p.summary = summaryEvery
}

func (p *plain) draw(sc *scene) {
	fresh := min(sc.passed-p.events, len(sc.events))
	for _, e := range sc.events[len(sc.events)-fresh:] {
		fmt.Fprintf(p.out, "%5s  %s\n", clock(e.at), e.text)
	}
	p.events = sc.passed
	if sc.elapsed < p.summary {
		return
	}
	p.summary = sc.elapsed.Truncate(summaryEvery) + summaryEvery
	fmt.Fprintf(p.out, "%5s  calls: %d under way, %d served, %d failed, %d moved; served by",
		clock(sc.elapsed), sc.totals.underWay, sc.totals.served, sc.totals.failed, sc.totals.moved)
	for i, v := range sc.servers {
		if i > 0 {
			fmt.Fprint(p.out, ",")
		}
		fmt.Fprintf(p.out, " %s %d", v.name, v.served)
		if words := v.words(); words != "up" {
			fmt.Fprintf(p.out, " (%s)", words)
		}
	}
	fmt.Fprintln(p.out)
}

func (p *plain) end() {}
