package loop

import (
	"runtime"
	"testing"
	"time"
)

// TestRingKeepsWhatTheKernelDoesNotTake prepares more than the queue has room
// for while the kernel takes nothing: the ring isn't started.
func TestRingKeepsWhatTheKernelDoesNotTake(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, err := openRing()
	if err != nil {
		t.Skipf("the kernel doesn't allow it: %v", err)
	}
	defer r.close()
	const count = 3*ringEntries + 1
	for i := range uint64(count) {
		r.next().data = i // which does nothing, and has a result
	}
	if n := r.prepared(); n != count {
		t.Errorf("prepared() = %d; want %d", n, count)
	}
	if err := r.start(); err != nil {
		t.Fatal(err)
	}
	for want := uint64(0); want < count; {
		if err := r.enter(1, time.Second, true); err != nil {
			t.Fatal(err)
		}
		if r.results() == 0 {
			t.Fatalf("%d results; want %d", want, count)
		}
		for range r.results() {
			if e := r.take(); e.data != want || e.res != 0 {
				t.Fatalf("result %d, %d; want that of entry %d", e.data, e.res, want)
			}
			want++
		}
	}
	if n := r.prepared(); n != 0 {
		t.Errorf("prepared() = %d after all results; want 0", n)
	}
}
