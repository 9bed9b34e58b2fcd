package seldom

import (
	"testing"
	"time"
)

func TestOneRecordASecondOfEachKind(t *testing.T) {
	var r Records[string]
	start := time.Unix(1e9, 0)
	for _, step := range []struct {
		at         time.Duration
		kind       string
		suppressed uint64
		ok         bool
	}{
		{0, "a", 0, true}, // the first at once
		{0, "a", 0, false},
		{0, "b", 0, true},
		{999 * time.Millisecond, "a", 0, false},
		{time.Second, "a", 2, true},
		{time.Second, "b", 0, true},
		{1500 * time.Millisecond, "a", 0, false},
		{time.Hour, "a", 1, true},
		{2 * time.Hour, "a", 0, true},
	} {
		suppressed, ok := r.Tell(step.kind, start.Add(step.at))
		if suppressed != step.suppressed || ok != step.ok {
			t.Errorf("Tell(%q) after %v = %d, %v; want %d, %v", step.kind, step.at, suppressed, ok, step.suppressed, step.ok)
		}
	}
}

// Whoever sends from many addresses fills neither the memory nor the log.
func TestManyKindsShareARecord(t *testing.T) {
	var r Records[int]
	now := time.Unix(1e9, 0)
	told := 0
	for i := range 10 * mostKinds {
		if _, ok := r.Tell(i, now); ok {
			told++
		}
	}
	if told != mostKinds+1 || len(r.kinds) != mostKinds || r.told.Len() != mostKinds {
		t.Errorf("%d of %d kinds were told, %d are remembered; want %d, the others in one record", told, 10*mostKinds, len(r.kinds), mostKinds)
	}
	now = now.Add(time.Second)
	if _, ok := r.Tell(-1, now); !ok {
		t.Error("a new kind a second later was not told; want it to take an old one's place")
	}
	if len(r.kinds) != mostKinds || r.told.Len() != mostKinds {
		t.Errorf("%d kinds are remembered; want %d", len(r.kinds), mostKinds)
	}
	for i := range mostKinds - 1 {
		r.Tell(i-10*mostKinds, now)
	}
	if n, ok := r.Tell(1, now); !ok || n != 9*mostKinds-1 {
		t.Errorf("the others' next record tells of %d more, %v; want %d", n, ok, 9*mostKinds-1)
	}
}
