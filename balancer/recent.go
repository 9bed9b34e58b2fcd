package balancer

import "time"

const (
	// memory is how long a recent failure counts, and the one before it after
	// that. With a second a backend that accepts and closes, where ejection was
	// off, got three times as many sessions as it had a fair share of; with four
	// it gets less than its share, see docs/balancing.md.
	memory = 4 * time.Second

	// maxRecent is how many are remembered at most: a backend is forgiven after
	// half a minute, and 8 make more sessions than a server ever has.
	maxRecent = 8
)

// penalty is the number of sessions that b's recent failures count as. A server
// that drops what it gets has no sessions; it is to look fuller than all the
// others though these may have thousands. So each failure makes it look four
// times as full, and each four seconds undo one: 3, 15, 63, 255 … 65535. Whatever
// the others have, a few sessions find out, and then one now and again.
func (b *Backend) penalty() int64 { return 1<<(2*(b.flags.Load()/recentFailure)) - 1 }

// addRecent counts a recent failure. The clock calls back only while there are
// any: who counts the first has it begin.
func (b *Backend) addRecent() {
	for {
		f := b.flags.Load()
		if f/recentFailure == maxRecent {
			return
		}
		if b.flags.CompareAndSwap(f, f+recentFailure) {
			if f < recentFailure {
				b.forgetLater()
			}
			return
		}
	}
}

func (b *Backend) forgetLater() { b.owner.Load().opts.Clock.AfterFunc(memory, b.forget) }

// forget takes back one recent failure, and has the next taken back if there is
// one. Nobody else takes any back.
func (b *Backend) forget() {
	if b.flags.Add(^uint32(recentFailure-1)) >= recentFailure {
		b.forgetLater()
	}
}
