package e2e

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// hold is a command during which a call lasts until a key is pressed, a minute at
// most.
const hold = `STREAM FILE demo-instruct "#"`

// callers numbers the calls of this run, with as many digits each: Asterisk takes an id
// for one in use that another one begins with.
var callers atomic.Int64

// A dial says what to call.
type dial struct {
	exten string        // of the context demo; "" means any URL
	url   string        // for any URL
	leave time.Duration // the caller hangs up after this; 0 means a minute
}

// script dials a script on agiproxy, which runs the commands do.
func (s *suite) script(path string, do ...string) dial { return script(s.front, path, do...) }

// script dials a script on a server.
func script(addr, path string, do ...string) dial {
	u := "agi://" + addr + "/" + path
	if len(do) > 0 {
		u += "?" + url.Values{"do": do}.Encode()
	}
	return dial{url: u}
}

// A call is one that the suite has placed.
type call struct {
	id     string
	suite  *suite
	result chan result

	mu    sync.Mutex
	heard []string // "music CLASS", "silence" and "begun SERVER", in their order
}

// A result is what the dialplan saw.
type result struct {
	id          string
	where       string // the branch of the dialplan: after, served, down, h
	status      string // AGISTATUS
	proxyStatus string // AGIPROXYSTATUS
	begun       string // who has begun to serve it
	served      string // who has served it to its end
	fell        string // what a pool's fallback has set FELL to
	uniqueID    string // of the channel that ran AGI()
	start, end  time.Time
	failed      string // why there was no call at all
}

func (r result) took() time.Duration { return r.end.Sub(r.start) }

func (r result) String() string {
	if r.failed != "" {
		return fmt.Sprintf("%s: not placed: %s", r.id, r.failed)
	}
	return fmt.Sprintf("%s (%s): %s AGISTATUS=%s AGIPROXYSTATUS=%s begun=%s served=%s fell=%s after %v",
		r.id, r.uniqueID, r.where, r.status, r.proxyStatus, r.begun, r.served, r.fell, r.took().Round(time.Millisecond))
}

// place places n calls at once.
func (s *suite) place(t *testing.T, n int, d dial) []*call {
	t.Helper()
	calls := make([]*call, n)
	for i := range calls {
		calls[i] = s.placeOne(t, d)
	}
	return calls
}

func (s *suite) placeOne(t *testing.T, d dial) *call {
	t.Helper()
	c := &call{id: fmt.Sprintf("call-%05d", callers.Add(1)), suite: s, result: make(chan result, 1)}
	s.ami.watch(c.id, c.event)
	channel := "Local/" + d.exten + "@demo/n"
	if d.exten == "" {
		channel = "Local/run@lab/n"
	}
	if d.leave == 0 {
		d.leave = time.Minute
	}
	_, err := s.ami.do("Originate", field{"ActionID", c.id}, field{"Channel", channel}, field{"ChannelId", c.id}, field{"OtherChannelId", c.uniqueID()},
		field{"Application", "Wait"}, field{"Data", strconv.FormatFloat(d.leave.Seconds(), 'f', 1, 64)},
		field{"Variable", "__TESTID=" + c.id}, field{"Variable", "__AGIURL=" + d.url}, field{"Async", "true"})
	if err != nil {
		t.Fatalf("place %s: %v", c.id, err)
	}
	return c
}

// agiLeg ends the unique id of the channel that runs AGI(): the other leg of the
// caller's.
const agiLeg = ".agi"

func (c *call) uniqueID() string { return c.id + agiLeg }

// event takes what Asterisk says about the call.
func (c *call) event(m message) {
	switch {
	case m["Event"] == "OriginateResponse" && m["Response"] == "Failure":
		c.end(result{id: c.id, failed: "reason " + m["Reason"]})
	case m["Event"] == "MusicOnHoldStart":
		c.hears("music " + m["Class"])
	case m["Event"] == "MusicOnHoldStop":
		c.hears("silence")
	case m["Event"] == "VarSet" && m["Variable"] == "BEGUN":
		c.hears("begun " + m["Value"])
	case m["UserEvent"] == "AGIResult":
		c.end(result{id: c.id, where: m["Where"], status: m["AGISTATUS"], proxyStatus: m["AGIPROXYSTATUS"],
			begun: m["Begun"], served: m["Served"], fell: m["Fell"], uniqueID: m["Uniqueid"],
			start: stamp(m["Start"]), end: stamp(m["End"])})
	}
}

func (c *call) hears(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = append(c.heard, what)
}

// story returns what has happened to the call so far, as far as it can be heard,
// and who has begun to serve it.
func (c *call) story() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.heard, ", ")
}

func (c *call) end(r result) {
	c.suite.ami.unwatch(c.id)
	c.result <- r
}

// stamp reads the dialplan's own clock.
func stamp(s string) time.Time {
	seconds, micros, _ := strings.Cut(s, ".")
	sec, _ := strconv.ParseInt(seconds, 10, 64)
	us, _ := strconv.ParseInt(micros, 10, 64)
	return time.Unix(sec, us*1000)
}

// press lets the caller press a key.
func (c *call) press(t *testing.T, digit string) {
	t.Helper()
	if _, err := c.suite.ami.do("PlayDTMF", field{"Channel", c.id}, field{"Digit", digit}); err != nil {
		t.Fatalf("press %s on %s: %v", digit, c.id, err)
	}
}

// hangUp lets the caller hang up.
func (c *call) hangUp(t *testing.T) {
	t.Helper()
	if _, err := c.suite.ami.do("Hangup", field{"Channel", c.id}); err != nil {
		t.Fatalf("hang up %s: %v", c.id, err)
	}
}

// wait returns what the dialplan saw of each call.
func wait(t *testing.T, limit time.Duration, calls ...*call) []result {
	t.Helper()
	deadline := time.After(limit)
	results := make([]result, 0, len(calls))
	for _, c := range calls {
		select {
		case r := <-c.result:
			if r.failed != "" {
				t.Fatal(r)
			}
			results = append(results, r)
		case <-deadline:
			t.Fatalf("%s has not ended within %v; %d of %d calls have", c.id, limit, len(results), len(calls))
		}
	}
	return results
}

// underWay returns how many of the calls have not ended yet.
func underWay(calls []*call) int {
	n := 0
	for _, c := range calls {
		if c.underWay() {
			n++
		}
	}
	return n
}

func (c *call) underWay() bool { return len(c.result) == 0 }

// release presses the key that ends the sound of held calls, as far as they last.
func release(t *testing.T, calls ...*call) {
	t.Helper()
	for _, c := range calls {
		if c.underWay() {
			c.press(t, "#")
		}
	}
}

// run places n calls, width of them at a time, and returns what the dialplan saw.
func (s *suite) run(t *testing.T, n, width int, d dial) []result {
	t.Helper()
	return s.runEach(t, slices.Repeat([]dial{d}, n), width)
}

// runEach places a call for each of the dials, width of them at a time at most, and
// returns what the dialplan saw, in the same order.
func (s *suite) runEach(t *testing.T, dials []dial, width int) []result {
	t.Helper()
	const limit = 2 * time.Minute // a caller stays for a minute
	var results []result
	var pending []*call
	for _, d := range dials {
		if len(pending) == width {
			results = append(results, wait(t, limit, pending[0])...)
			pending = pending[1:]
		}
		pending = append(pending, s.placeOne(t, d))
	}
	return append(results, wait(t, limit, pending...)...)
}

// mustBeServed fails the test for every call that was not served to its end.
func mustBeServed(t *testing.T, results []result) {
	t.Helper()
	mustBe(t, results, "SUCCESS", "")
}

// mustBe fails the test for every call that ended with another AGISTATUS or
// AGIPROXYSTATUS, and for every SUCCESS without a script that ran to its end.
func mustBe(t *testing.T, results []result, status, proxyStatus string) {
	t.Helper()
	wrong := 0
	for _, r := range results {
		if r.status == status && r.proxyStatus == proxyStatus && (r.status == "SUCCESS") == (r.served != "") {
			continue
		}
		if wrong++; wrong <= 5 {
			t.Errorf("%v; want AGISTATUS=%s AGIPROXYSTATUS=%s", r, status, proxyStatus)
		}
	}
	if wrong > 0 {
		t.Fatalf("%d of %d calls did not end as they should", wrong, len(results))
	}
}

// servedBy counts the calls by who served them.
func servedBy(results []result) map[string]int {
	counts := make(map[string]int)
	for _, r := range results {
		counts[r.served]++
	}
	return counts
}
