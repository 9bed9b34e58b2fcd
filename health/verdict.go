package health

// A verdict is what a backend's probes so far amount to.
//
// It works as HAProxy's: only an unbroken streak of results against the verdict
// turns it, rise successes when down, fall failures when up; one result in its
// favour, and the streak begins anew.
type verdict struct {
	up         bool
	fresh      bool // nothing but an assumption: the next result is the verdict
	rise, fall int
	streak     int // results in a row that contradict up
}

// add takes a probe's result and reports whether the verdict has turned.
func (v *verdict) add(healthy bool) (turned bool) {
	fresh := v.fresh
	v.fresh = false
	if healthy == v.up {
		v.streak = 0
		return false
	}
	v.streak++
	need := v.fall
	if healthy {
		need = v.rise
	}
	if v.streak < need && !fresh {
		return false
	}
	v.up, v.streak = healthy, 0
	return true
}

// wavering reports whether a streak against the verdict is under way.
func (v *verdict) wavering() bool { return v.streak > 0 }
