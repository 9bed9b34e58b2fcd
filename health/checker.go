package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// A Target is the backend whose health is watched. Its methods must not block;
// they are called from the goroutine of [Checker.Run].
type Target interface {
	// SetUp is told the verdict by rise and fall whenever it turns.
	SetUp(up bool)

	// SetBusy is told when a probe has begun to wait in the backend's line while
	// its sessions make progress, and when that is over.
	SetBusy(busy bool)

	// Progressing reports whether the sessions under way on the backend show
	// progress, which explains why a probe has to wait.
	Progressing() bool
}

// A Checker probes one backend on a schedule and tells its Target what comes of
// it. Its fields must not change while it runs.
type Checker struct {
	Probe  Probe
	Target Target

	Interval     time.Duration // from start to start of two probes; 0 means 2s
	FastInterval time.Duration // the same while a streak against the verdict is under way; 0 means 500ms
	Timeout      time.Duration // for connecting and the answer together; 0 means 1s
	Rise         int           // successes in a row that make a backend up; 0 means 2
	Fall         int           // failures in a row that make it down; 0 means 3

	// Up is the verdict to begin with, which the Target has already.
	Up bool

	// Fresh says that Up is an assumption, as at the start of the process: the
	// first probe's result is the verdict, without waiting for Rise or Fall,
	// unless it is that there was no answer in time.
	// After a reload it is false, and the verdict that was found holds on.
	Fresh bool

	// Told is told of each probe that has ended; nil for nobody. It must not block.
	Told func(Result)

	Metrics *BackendMetrics // nil for none
	Log     hclog.Logger    // with pool, backend and address; nil for none
}

// A Result is what a probe came to.
type Result struct {
	Time   time.Time     // when it began
	Took   time.Duration // until the answer, or to its end if there was none
	Reason string        // that it failed for, see [Refused]; "" if it didn't fail
	Err    error         // nil if it didn't fail
}

// Run probes until ctx ends. When it returns, no probe is under way any more,
// the Target has been told that it is not busy, and keeps the last verdict. Run
// must not be called twice at a time.
func (c *Checker) Run(ctx context.Context) {
	w := &watch{Checker: *c}
	w.Interval = cmp.Or(w.Interval, 2*time.Second)
	w.FastInterval = cmp.Or(w.FastInterval, min(500*time.Millisecond, w.Interval))
	w.Timeout = cmp.Or(w.Timeout, time.Second)
	w.verdict = verdict{up: w.Up, fresh: w.Fresh, rise: cmp.Or(w.Rise, 2), fall: cmp.Or(w.Fall, 3)}
	if w.Log == nil {
		w.Log = hclog.NewNullLogger()
	}
	w.run(ctx)
}

// A watch is one Run of a Checker.
type watch struct {
	Checker
	verdict verdict
	busy    bool
}

func (w *watch) run(ctx context.Context) {
	// The first probes are spread, so that a thousand backends don't get theirs
	// in the same millisecond; but not for long, since until then they are up by
	// assumption only.
	timer := time.NewTimer(rand.N(w.Interval/10 + 1))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		began, r := w.probe(ctx)
		if ctx.Err() != nil {
			return // the probe was cut short: no result
		}
		w.judge(&r)
		if w.Told != nil {
			w.Told(r)
		}
		timer.Reset(time.Until(began.Add(w.pause())))
	}
}

// pause returns the time to the next probe. It varies by a tenth both ways, lest
// the probes of many backends, or of many proxies that were started together,
// fall into step and come in bursts.
func (w *watch) pause() time.Duration {
	d := w.Interval
	if w.verdict.wavering() {
		d = w.FastInterval
	}
	return d - d/10 + rand.N(d/5+1)
}

// probe runs one probe to its end and returns from when the next interval
// counts, beside its result, whose reason judge adds. A probe that gets no answer in time fails, unless the backend is busy:
// then it goes on waiting for as long as the backend's sessions show progress.
// It is this same probe that waits, since each further one would take a place in
// the server's line that a call could have.
func (w *watch) probe(parent context.Context) (began time.Time, r Result) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	var waiting atomic.Bool
	answered := make(chan struct{}, 1)
	result := make(chan error, 1)
	began = time.Now()
	r.Time = began
	go func() {
		result <- w.Probe(ctx, func(s Stage) {
			waiting.Store(s == Waiting)
			if s == Answered {
				select {
				case answered <- struct{}{}:
				default: // said already
				}
			}
		})
	}()

	served := func() {
		if w.busy {
			began = time.Now() // it stood in line; the interval is for what comes after
			w.setBusy(false)
		}
	}
	timer := time.NewTimer(w.Timeout)
	defer timer.Stop()
	for {
		select {
		case <-answered:
			r.Took = time.Since(r.Time)
			served()
			timer.Reset(w.Timeout)
			continue
		case <-timer.C:
			if waiting.Load() && w.Target.Progressing() && parent.Err() == nil {
				w.setBusy(true)
				timer.Reset(w.FastInterval)
				continue
			}
			cancel(w.late(waiting.Load()))
			r.Err = <-result
		case r.Err = <-result:
		}
		served()
		r.Took = cmp.Or(r.Took, time.Since(r.Time))
		if r.Err == nil {
			w.Metrics.answered(r.Took)
		}
		return began, r
	}
}

// late says what a probe that ran out of time was waiting for.
func (w *watch) late(waiting bool) error {
	if waiting {
		return fmt.Errorf("no answer within %v", w.Timeout)
	}
	return fmt.Errorf("no connection within %v", w.Timeout)
}

// judge counts a probe's result and tells of a verdict that turned.
func (w *watch) judge(r *Result) {
	local := false
	if r.Err != nil {
		r.Reason = Failed
		if e, ok := errors.AsType[*Error](r.Err); ok {
			r.Reason, local = e.Reason, e.Local
		}
		w.Metrics.failed(r.Reason)
		w.Log.Debug("probe failed", "reason", r.Reason, "error", r.Err)
	}
	if r.Reason == Silent || r.Reason == Timeout {
		// Lateness may be this machine's own, as at its boot, and then it is
		// every backend's at once: it takes Fall of it, at the start too.
		w.verdict.fresh = false
	}
	if local || !w.verdict.add(r.Err == nil) {
		return
	}
	w.Target.SetUp(w.verdict.up)
	if w.verdict.up {
		w.Log.Info("backend changed state", "state", "up")
	} else {
		w.Log.Warn("backend changed state", "state", "down", "reason", r.Reason, "error", r.Err)
	}
}

// setBusy tells the target that it is busy or not, if that is new.
func (w *watch) setBusy(busy bool) {
	if w.busy == busy {
		return
	}
	w.busy = busy
	w.Target.SetBusy(busy)
	state := "busy"
	if !busy && w.verdict.up {
		state = "up"
	} else if !busy {
		state = "down"
	}
	w.Log.Info("backend changed state", "state", state)
}
