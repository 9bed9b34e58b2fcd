package loop

import (
	"runtime"
	"testing"
	"time"
)

// TestIdleLoopSleeps looks at how often a loop wakes that has nothing to do,
// with connections and timers that are not due.
func TestIdleLoopSleeps(t *testing.T) {
	l := startLoop(t)
	ln := listen(t, "127.0.0.1:0")
	opened := false
	serve(t, l, ln, func(c *Conn) Handler {
		opened = true
		c.SetTimer(l.Now() + time.Millisecond)
		c.SetTimer(l.Now() + time.Hour)
		return echo(c)
	})
	dial(t, ln.Addr())
	eventually(t, l, "it was accepted", func() bool { return opened })
	thread := threadOf(t, l)
	time.Sleep(2 * quietAfter)
	const during = 500 * time.Millisecond
	sleeps := thread.sleeps()
	time.Sleep(during)
	if n := thread.sleeps() - sleeps; n > 2 {
		t.Errorf("an idle loop woke %d times in %v; want it to sleep", n, during)
	}
}

// BenchmarkCollect collects garbage while a loop waits that has just been at
// work, and so keeps its processor.
func BenchmarkCollect(b *testing.B) {
	l := startLoop(b)
	b.ReportAllocs()
	var longest time.Duration
	for b.Loop() {
		on(b, l, func() {}) // keeps it from being quiet
		began := time.Now()
		runtime.GC()
		longest = max(longest, time.Since(began))
	}
	b.ReportMetric(float64(longest.Microseconds()), "longest-µs")
}
