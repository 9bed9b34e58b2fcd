package loop

import "golang.org/x/sys/unix"

// shortSlice is how long the loop's thread wants the processor at a time, when
// others want it too.
const shortSlice = 100_000 // nanoseconds; the least that the kernel takes

// wantShortSlices asks the kernel to let the calling thread have the processor
// sooner, and for a shorter time each: a loop's turn takes microseconds, and
// should not wait until a collection or somebody who reads metrics is done with a
// whole slice. It changes no thread's share: its niceness stays, and a policy that
// somebody has chosen for the process. Kernels before 6.12 don't know this and
// leave everything as it is.
//
// Source: sched(7) and Linux' kernel/sched/syscalls.c, sched_setattr.
func wantShortSlices() {
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil || attr.Policy != unix.SCHED_NORMAL {
		return
	}
	attr.Runtime = shortSlice
	_ = unix.SchedSetAttr(0, attr, 0) // without it all works, a trifle later
}
