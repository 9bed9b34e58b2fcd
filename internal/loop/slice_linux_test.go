package loop

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestShortSlicesKeepTheRest looks at what a thread was given by whoever started
// the program.
func TestShortSlicesKeepTheRest(t *testing.T) {
	for _, want := range []unix.SchedAttr{
		{Policy: unix.SCHED_NORMAL, Nice: 5},
		{Policy: unix.SCHED_BATCH, Nice: 7},
	} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // for ever, so that the thread ends with it
			want.Size = unix.SizeofSchedAttr
			if err := unix.SchedSetAttr(0, &want, 0); err != nil {
				t.Errorf("set %+v: %v", want, err)
				return
			}
			wantShortSlices()
			got, err := unix.SchedGetAttr(0, 0)
			if err != nil || got.Policy != want.Policy || got.Nice != want.Nice {
				t.Errorf("policy and niceness are %d and %d, %v; want %d and %d", got.Policy, got.Nice, err, want.Policy, want.Nice)
			}
		}()
		<-done
	}
}
