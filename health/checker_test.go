package health

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

// A fakeTarget writes down what it is told.
type fakeTarget struct {
	progressing atomic.Bool
	mu          sync.Mutex
	told        []string
}

func (f *fakeTarget) tell(what string, yes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !yes {
		what = "not " + what
	}
	f.told = append(f.told, what)
}

func (f *fakeTarget) SetUp(up bool)     { f.tell("up", up) }
func (f *fakeTarget) SetBusy(busy bool) { f.tell("busy", busy) }
func (f *fakeTarget) Progressing() bool { return f.progressing.Load() }

// expect fails unless f was told exactly that, in this order.
func (f *fakeTarget) expect(t *testing.T, when string, want ...string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.told, want) {
		t.Errorf("%s: target was told %q; want %q", when, f.told, want)
	}
}

// A script is a Probe that does one step after the other, and the last one for
// ever; it notes when each began.
type script struct {
	steps  []Probe
	mu     sync.Mutex
	starts []time.Time
	active atomic.Int32 // more than one is an overlap
	worst  atomic.Int32
}

func (s *script) probe(ctx context.Context, report func(Stage)) error {
	s.worst.Store(max(s.worst.Load(), s.active.Add(1)))
	defer s.active.Add(-1)
	s.mu.Lock()
	step := s.steps[min(len(s.starts), len(s.steps)-1)]
	s.starts = append(s.starts, time.Now())
	s.mu.Unlock()
	return step(ctx, report)
}

func (s *script) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.starts)
}

// gaps returns the times from start to start.
func (s *script) gaps() (gaps []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 1; i < len(s.starts); i++ {
		gaps = append(gaps, s.starts[i].Sub(s.starts[i-1]))
	}
	return gaps
}

func healthy(context.Context, func(Stage)) error { return nil }
func refused(context.Context, func(Stage)) error {
	return &Error{Reason: Refused, Err: syscall.ECONNREFUSED}
}

// unconnected never gets a connection.
func unconnected(ctx context.Context, _ func(Stage)) error {
	<-ctx.Done()
	return &Error{Reason: Timeout, Err: context.Cause(ctx)}
}

// mute connects and hears nothing.
func mute(ctx context.Context, report func(Stage)) error {
	report(Waiting)
	<-ctx.Done()
	return &Error{Reason: Silent, Err: context.Cause(ctx)}
}

// lasting is a probe that is answered after d.
func lasting(d time.Duration) Probe {
	return func(ctx context.Context, report func(Stage)) error {
		report(Waiting)
		select {
		case <-ctx.Done():
			return &Error{Reason: Silent, Err: context.Cause(ctx)}
		case <-time.After(d):
			report(Answered)
			return nil
		}
	}
}

// checker returns one with the defaults and a fake target that is up.
func checker(s *script) (*Checker, *fakeTarget) {
	target := new(fakeTarget)
	return &Checker{Probe: s.probe, Target: target, Up: true}, target
}

// start runs c until the test ends, or stop is called, which awaits it.
func start(t *testing.T, c *Checker) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

// within fails unless d is want, give or take a tenth.
func within(t *testing.T, what string, d, want time.Duration) {
	t.Helper()
	if d < want-want/10 || d > want+want/10 {
		t.Errorf("%s is %v; want %v ± 10 %%", what, d, want)
	}
}

func TestCheckerFirstProbeSaysDownAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, target := checker(&script{steps: []Probe{refused}})
		c.Fresh = true
		start(t, c)
		time.Sleep(200 * time.Millisecond) // a tenth of the interval is the spread
		synctest.Wait()
		target.expect(t, "after one failure", "not up")
	})
}

func TestCheckerKeepsAVerdictThatWasFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: []Probe{refused, refused, refused, healthy}}
		c, target := checker(s)
		start(t, c)
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if target.expect(t, "after one failure of three"); s.count() != 1 {
			t.Errorf("%d probes after the spread; want 1", s.count())
		}
		time.Sleep(1200 * time.Millisecond)
		synctest.Wait()
		target.expect(t, "after three failures", "not up")
		time.Sleep(time.Minute)
		synctest.Wait()
		target.expect(t, "after two successes and more", "not up", "up")
	})
}

func TestCheckerTimesProbesFromStartToStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: []Probe{lasting(900 * time.Millisecond)}}
		c, _ := checker(s)
		stop := start(t, c)
		time.Sleep(10 * time.Minute)
		stop()
		gaps := s.gaps()
		if len(gaps) < 280 {
			t.Errorf("%d probes in 10 minutes; want about 300", len(gaps)+1)
		}
		for _, gap := range gaps {
			within(t, "the gap", gap, 2*time.Second)
		}
		if low, high := slices.Min(gaps), slices.Max(gaps); high-low < 300*time.Millisecond {
			t.Errorf("gaps lie between %v and %v; want them spread over about 400ms", low, high)
		}
	})
}

func TestCheckerIsFastOnlyWhileWavering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: []Probe{healthy, refused, refused, refused, refused, healthy, healthy, healthy, healthy}}
		c, _ := checker(s)
		stop := start(t, c)
		time.Sleep(14 * time.Second)
		stop()
		gaps := s.gaps()
		for i, want := range []time.Duration{
			2 * time.Second,        // up
			500 * time.Millisecond, // one failure
			500 * time.Millisecond, // two
			2 * time.Second,        // three: down
			2 * time.Second,        // still down
			500 * time.Millisecond, // one success
			2 * time.Second,        // two: up
		} {
			within(t, "gap "+string(rune('1'+i)), gaps[i], want)
		}
	})
}

func TestCheckerNeverOverlapsProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: []Probe{unconnected}}
		c, _ := checker(s)
		c.Interval, c.FastInterval, c.Timeout = 300*time.Millisecond, 100*time.Millisecond, time.Second
		stop := start(t, c)
		time.Sleep(time.Minute)
		stop()
		if s.worst.Load() != 1 {
			t.Errorf("%d probes at a time; want 1", s.worst.Load())
		}
		for _, gap := range s.gaps() {
			if gap != time.Second {
				t.Errorf("the gap is %v; want 1s: the next begins as soon as one is over", gap)
			}
		}
	})
}

func TestCheckerSpreadsFirstProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var firsts []time.Duration
		for range 100 {
			s := &script{steps: []Probe{healthy}}
			c, _ := checker(s)
			stop := start(t, c)
			for s.count() == 0 {
				time.Sleep(time.Millisecond)
			}
			stop()
			firsts = append(firsts, s.starts[0].Sub(began))
			began = time.Now()
		}
		if low, high := slices.Min(firsts), slices.Max(firsts); high > 200*time.Millisecond || high-low < 100*time.Millisecond {
			t.Errorf("first probes between %v and %v; want them spread over 200ms", low, high)
		}
	})
}

func TestCheckerSilenceIsAFailureWithoutProgress(t *testing.T) {
	for _, test := range []struct {
		name        string
		probe       Probe
		progressing bool
		reason      string
	}{
		{"mute and idle", mute, false, Silent},
		{"no connection while sessions progress", unconnected, true, Timeout},
		{"no connection", unconnected, false, Timeout},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{steps: []Probe{test.probe}}
				c, target := checker(s)
				target.progressing.Store(test.progressing)
				metrics := NewMetrics(nil)
				c.Metrics = metrics.Backend("ivr", "ivr1")
				start(t, c)
				time.Sleep(3*time.Second + 200*time.Millisecond) // three timeouts; the gaps are shorter
				synctest.Wait()
				target.expect(t, "after three timeouts", "not up")
				if n := value(t, c.Metrics.failures[test.reason]); n != 3 {
					t.Errorf("%v failures with reason %s; want 3", n, test.reason)
				}
			})
		})
	}
}

func TestCheckerLetsOneProbeWaitAtABusyBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: []Probe{lasting(time.Hour), healthy}}
		c, target := checker(s)
		c.Fresh = true
		c.Metrics = NewMetrics(nil).Backend("ivr", "ivr1")
		target.progressing.Store(true)
		start(t, c)
		time.Sleep(900 * time.Millisecond)
		synctest.Wait()
		target.expect(t, "before the timeout")
		time.Sleep(400 * time.Millisecond)
		synctest.Wait()
		target.expect(t, "after the timeout", "busy")
		time.Sleep(58 * time.Minute)
		synctest.Wait()
		if target.expect(t, "while it waits", "busy"); s.count() != 1 {
			t.Errorf("%d probes while one waits; want no further one", s.count())
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		target.expect(t, "after the answer", "busy", "not busy")
		for reason, counter := range c.Metrics.failures {
			if n := value(t, counter); n != 0 {
				t.Errorf("%v failures with reason %s; want none", n, reason)
			}
		}
		within(t, "the gap after an hour in line", s.gaps()[0]-time.Hour, 2*time.Second)
	})
}

func TestCheckerGivesUpWaitingWhenProgressEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: []Probe{mute}}
		c, target := checker(s)
		c.Metrics = NewMetrics(nil).Backend("ivr", "ivr1")
		target.progressing.Store(true)
		start(t, c)
		time.Sleep(time.Minute)
		target.progressing.Store(false)
		time.Sleep(500 * time.Millisecond) // it is asked every fast interval
		synctest.Wait()
		target.expect(t, "when progress ends", "busy", "not busy")
		if n := value(t, c.Metrics.failures[Silent]); n != 1 {
			t.Errorf("%v silent probes; want 1", n)
		}
		time.Sleep(600 * time.Millisecond)
		synctest.Wait()
		if s.count() != 2 {
			t.Errorf("%d probes; want the second one a fast interval later", s.count())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		target.expect(t, "after three failures", "busy", "not busy", "not up")
	})
}

func TestCheckerGivesAnAnswerItsOwnTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended time.Duration
		slow := func(ctx context.Context, report func(Stage)) error {
			began := time.Now()
			report(Waiting)
			time.Sleep(800 * time.Millisecond)
			report(Answered)
			<-ctx.Done() // a backend that doesn't close
			ended = time.Since(began)
			return nil
		}
		c, target := checker(&script{steps: []Probe{slow, mute}})
		c.Metrics = NewMetrics(nil).Backend("ivr", "ivr1")
		stop := start(t, c)
		time.Sleep(2100 * time.Millisecond)
		stop()
		target.expect(t, "after a slow close")
		if ended != 1800*time.Millisecond {
			t.Errorf("the probe was ended after %v; want 1.8s: a timeout after the answer", ended)
		}
		if count, sum := observed(t, c.Metrics.duration); count != 1 || sum != 0.8 {
			t.Errorf("%d durations of %v s in all; want one of 0.8: the time to the answer", count, sum)
		}
	})
}

func TestCheckerEndsInMidProbe(t *testing.T) {
	for name, probe := range map[string]Probe{"connecting": unconnected, "waiting": mute} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{steps: []Probe{probe}}
				c, target := checker(s)
				c.Fresh = true
				stop := start(t, c)
				time.Sleep(500 * time.Millisecond)
				stop()
				target.expect(t, "after the end")
				if n := s.active.Load(); n != 0 {
					t.Errorf("%d probes under way after the end", n)
				}
			})
		})
	}
	t.Run("busy", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &script{steps: []Probe{mute}}
			c, target := checker(s)
			target.progressing.Store(true)
			stop := start(t, c)
			time.Sleep(time.Minute)
			stop()
			target.expect(t, "after the end", "busy", "not busy")
			if n := s.active.Load(); n != 0 {
				t.Errorf("%d probes under way after the end", n)
			}
		})
	})
}

func TestCheckerHoldsOwnFaultsAgainstNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := func(ctx context.Context, _ func(Stage)) error {
			return networkError(ctx, syscall.EMFILE, Timeout)
		}
		c, target := checker(&script{steps: []Probe{full}})
		c.Fresh = true
		c.Metrics = NewMetrics(nil).Backend("ivr", "ivr1")
		stop := start(t, c)
		time.Sleep(time.Minute)
		stop()
		target.expect(t, "without descriptors for a minute")
		if n := value(t, c.Metrics.failures[Failed]); n < 25 {
			t.Errorf("%v failures counted; want about 30", n)
		}
	})
}

func TestCheckerLogsStateChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		c, target := checker(&script{steps: []Probe{refused, func(context.Context, func(Stage)) error {
			return errors.New("odd")
		}, healthy, healthy, lasting(2 * time.Second), healthy}})
		c.Fresh = true
		target.progressing.Store(true)
		c.Log = hclog.New(&hclog.LoggerOptions{Output: &out, Level: hclog.Info, DisableTime: true}).
			With("pool", "ivr", "backend", "ivr1", "address", "10.0.0.11:4573")
		stop := start(t, c)
		time.Sleep(time.Minute)
		stop()
		const prefix = ": address=10.0.0.11:4573 backend=ivr1 pool=ivr state="
		want := strings.Join([]string{
			`[WARN]  backend changed state` + prefix + `down reason=refused error="connection refused"`,
			`[INFO]  backend changed state` + prefix + `up`,
			`[INFO]  backend changed state` + prefix + `busy`,
			`[INFO]  backend changed state` + prefix + `up`,
			``}, "\n")
		if out.String() != want {
			t.Errorf("the log is\n%s\nwant\n%s", out.String(), want)
		}
	})
}

func TestResultsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(_ context.Context, report func(Stage)) error {
			report(Waiting)
			time.Sleep(300 * time.Millisecond)
			report(Answered)
			time.Sleep(100 * time.Millisecond) // for a polite end
			return nil
		}
		var got []Result
		s := &script{steps: []Probe{refused, slow, func(context.Context, func(Stage)) error { return errors.New("odd") }}}
		c := &Checker{Probe: s.probe, Target: new(fakeTarget), Told: func(r Result) { got = append(got, r) }}
		ctx, cancel := context.WithCancel(t.Context())
		go c.Run(ctx)
		for s.count() < 4 {
			time.Sleep(100 * time.Millisecond)
		}
		cancel()
		synctest.Wait()
		want := []Result{
			{s.starts[0], 0, Refused, &Error{Reason: Refused, Err: syscall.ECONNREFUSED}},
			{s.starts[1], 300 * time.Millisecond, "", nil},
			{s.starts[2], 0, Failed, errors.New("odd")},
		}
		for i, w := range want {
			if g := got[i]; !g.Time.Equal(w.Time) || g.Took != w.Took || g.Reason != w.Reason || (g.Err == nil) != (w.Err == nil) || w.Err != nil && g.Err.Error() != w.Err.Error() {
				t.Errorf("probe %d: %+v; want %+v", i, g, w)
			}
		}
	})
}
