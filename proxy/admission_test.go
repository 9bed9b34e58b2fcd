package proxy

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"agiproxy/agi"
	"agiproxy/balancer"
	"agiproxy/internal/proxyheader"

	"github.com/hashicorp/go-hclog"
)

const (
	secret      = "swordfish-swordfish"
	otherSecret = "second-secret-of-two"
)

// callTo is the header of a call to that script.
func callTo(script string) []byte {
	return (&agi.Environment{Host: "agiproxy", Script: script, UniqueID: "1.1", Channel: "SIP/a"}).AppendTo(nil)
}

// An admissionStage is a stage whose time is its host's, and what it has told.
type admissionStage struct {
	*stage
	records []Record
	log     bytes.Buffer
}

func newAdmissionStage(o ListenerOptions) *admissionStage {
	a := new(admissionStage)
	a.stage = newStage(Options{
		Ended: func(r Record) { a.records = append(a.records, r) },
		Now:   func() time.Time { return time.Unix(1e9, 0).Add(a.host.now) },
		Log:   hclog.New(&hclog.LoggerOptions{Output: &a.log, Level: hclog.Debug}),
	}, o)
	return a
}

// serve has the backend send a command, and complete the call.
func (a *admissionStage) serve() {
	a.exchange(noop, okReply)
	a.finish()
}

// wantRefused wants the last session to have been told failure, and to have been
// counted by that reason, and by nothing else that is limited.
func (a *admissionStage) wantRefused(t *testing.T, what string, why refusal) {
	t.Helper()
	if string(a.front.last) != FailureLine || !a.front.writeEnd {
		t.Errorf("%s: told %q, ended %v; want failure, and the end", what, a.front.last, a.front.writeEnd)
	}
	if n := a.worker.counts.rejected[rejection{":4577", why.String()}]; n != 1 {
		t.Errorf("%s: %d counted as %v; want 1 (%v)", what, n, why, a.worker.counts.rejected)
	}
	places := a.listener.sessions.Load()
	a.handler.Closed(nil)
	r := a.records[len(a.records)-1]
	if r.Outcome != Rejected || r.Err == nil {
		t.Errorf("%s: outcome %v (%v); want rejected, and why", what, r.Outcome, r.Err)
	}
	if places != a.listener.sessions.Load() {
		t.Errorf("%s: it took a place of the listener's while it lingered", what)
	}
}

func TestSourceIsFull(t *testing.T) {
	o := limits()
	o.MaxSessionsPerSource = 1
	s := newAdmissionStage(o)
	s.establish(plainHeader)
	first := s.handler
	s.accept(asteriskAddr)
	s.wantRefused(t, "the second of one session", refusedSource)
	if s.listener.sessions.Load() != 1 {
		t.Errorf("the listener counts %d sessions; want 1", s.listener.sessions.Load())
	}
	s.accept(netip.MustParseAddrPort("127.0.0.2:40000"))
	if s.front.written > 0 {
		t.Errorf("another source is told %q; want it let in", s.front.last)
	}
	s.handler.Closed(nil)
	first.Closed(nil)
	s.host.back.handler.Closed(nil)
	s.accept(asteriskAddr)
	if s.front.written > 0 {
		t.Errorf("after the end of the one session the next is told %q; want it let in", s.front.last)
	}
	s.handler.Closed(nil)
	checkSources(t, &s.listener.sources, 0, 0)
}

func TestSourceIsTooFast(t *testing.T) {
	o := limits()
	o.Rate = Rate{2, 1}
	s := newAdmissionStage(o)
	s.accept(asteriskAddr)
	s.handler.Closed(nil)
	s.accept(asteriskAddr)
	s.wantRefused(t, "the second at once", refusedRate)
	s.host.now += 500 * time.Millisecond
	s.accept(asteriskAddr)
	if s.front.written > 0 {
		t.Errorf("the second, half a second later, is told %q; want it let in", s.front.last)
	}
	s.handler.Closed(nil)
}

func TestToken(t *testing.T) {
	o := limits()
	o.Tokens = []Token{NewToken([]byte(otherSecret)), NewToken([]byte(secret))}
	for _, c := range []struct {
		script string
		pass   bool
	}{
		{"ivr?token=" + secret, true},
		{"ivr?token=" + otherSecret, true},
		{"ivr?a=1&token=" + secret + "&b=2", true},
		{"ivr", false},
		{"ivr?token=", false},
		{"ivr?token=" + secret[1:], false},
		{"ivr?token=" + secret + "x", false},
		{"ivr?token=wrong-wrong-wrong&token=" + secret, false},
		{"ivr?Token=" + secret, false},
		{"", false},
	} {
		in := callTo(c.script)
		for cut := range len(in) {
			s := newAdmissionStage(o)
			s.accept(asteriskAddr)
			s.handler.Received(in[:cut])
			s.handler.Received(in[cut:])
			if !c.pass {
				if s.host.back.handler != nil {
					t.Fatalf("%q: a backend was connected to; want it refused", c.script)
				}
				s.wantRefused(t, fmt.Sprintf("%q", c.script), refusedToken)
				continue
			}
			s.host.back.last = make([]byte, 0, 4096)
			if s.host.back.handler == nil {
				t.Fatalf("%q was told %q; want it dispatched", c.script, s.front.last)
			}
			s.host.back.handler.Connected()
			if got := string(s.host.back.last); strings.Contains(got, "token") || !strings.HasSuffix(got, "\n\n") || !strings.Contains(got, "agi_network_script: ivr") {
				t.Fatalf("%q, cut at %d: the backend gets %q; want all but the token", c.script, cut, got)
			}
			s.serve()
			if s.records[0].Outcome != Completed {
				t.Errorf("%q: outcome %v; want completed", c.script, s.records[0].Outcome)
			}
		}
	}
}

// Without tokens the query is the scripts' own.
func TestQueryIsLeftAlone(t *testing.T) {
	s := newAdmissionStage(limits())
	s.accept(asteriskAddr)
	s.handler.Received(callTo("ivr?token=" + secret))
	s.host.back.last = make([]byte, 0, 4096)
	s.host.back.handler.Connected()
	if got := s.host.back.last; !bytes.Equal(got, callTo("ivr?token="+secret)) {
		t.Errorf("the backend gets %q; want it as it came", got)
	}
	s.serve()
}

// The secret is nowhere to be read: neither in the log nor in records, in what the
// API shows, in a trace or at another process.
func TestTokenIsNowhere(t *testing.T) {
	o := limits()
	o.Tokens = []Token{NewToken([]byte(secret))}
	for _, given := range []string{secret, secret + "-wrong"} {
		s := newAdmissionStage(o)
		s.accept(asteriskAddr)
		trace, err := s.server.Trace(s.worker.sessions.first.id)
		if err != nil {
			t.Fatal(err)
		}
		in := callTo("ivr?token=" + given)
		s.handler.Received(in[:len(in)/2])
		s.handler.Received(in[len(in)/2:])
		for info := range s.worker.sessions.all() {
			if shown := fmt.Sprintf("%+v", info.info()); strings.Contains(shown, secret) {
				t.Errorf("the API shows %s", shown)
			}
		}
		if given == secret {
			s.host.back.handler.Connected()
			s.worker.Freeze()
			if moved := fmt.Sprintf("%+v %s", *s.worker.frozen.first.Move(), s.worker.frozen.first.Move().Dispatch.Header); strings.Contains(moved, secret) {
				t.Errorf("a hand-over tells %s", moved)
			}
			s.worker.Thaw()
			s.serve()
		} else {
			s.handler.Closed(nil)
		}
		lines := 0
		for len(trace.Lines()) > 0 {
			line := <-trace.Lines()
			lines++
			if strings.Contains(line.Text, secret) {
				t.Errorf("a trace shows %q", line.Text)
			}
		}
		if lines < 10 {
			t.Errorf("a trace shows %d lines; want the header's", lines)
		}
		if record := fmt.Sprintf("%+v", s.records); strings.Contains(record, secret) || strings.Contains(s.log.String(), secret) {
			t.Errorf("the record is %s, the log\n%s", record, s.log.String())
		}
	}
}

var (
	frontProxy = netip.MustParseAddrPort("10.9.0.2:50000")
	announced  = netip.MustParseAddrPort("10.1.0.7:40007")
	called     = netip.MustParseAddrPort("10.9.0.1:4577")
)

// behindProxy are limits of a listener that has a proxy before it.
func behindProxy() ListenerOptions {
	o := limits()
	o.Allow = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	o.AcceptProxyProtocol = []netip.Prefix{netip.MustParsePrefix("10.9.0.2/32")}
	return o
}

func TestProxyHeaderNamesTheClient(t *testing.T) {
	for _, v := range []proxyheader.Version{proxyheader.V1, proxyheader.V2} {
		in := append(proxyheader.Append(nil, v, announced, called), callTo("ivr")...)
		for cut := range len(in) {
			s := newAdmissionStage(behindProxy())
			s.accept(frontProxy)
			s.handler.Received(in[:cut])
			s.handler.Received(in[cut:])
			if s.host.back.handler == nil {
				t.Fatalf("version %d, cut at %d: told %q; want it dispatched", v, cut, s.front.last)
			}
			if got := s.worker.sessions.first.info().Client; got != announced {
				t.Fatalf("version %d: the API's client is %v; want %v", v, got, announced)
			}
			s.host.back.last = make([]byte, 0, 4096)
			s.host.back.handler.Connected()
			if got := s.host.back.last; !bytes.Equal(got, callTo("ivr")) {
				t.Fatalf("version %d, cut at %d: the backend gets %q; want the header of AGI", v, cut, got)
			}
			s.serve()
			if r := s.records[0]; r.Client != announced || r.Outcome != Completed || !strings.Contains(s.log.String(), "client="+announced.String()) {
				t.Fatalf("version %d: record %+v, log\n%s\nwant the client %v", v, r, s.log.String(), announced)
			}
		}
	}
}

func TestProxyHeaderIsJudged(t *testing.T) {
	in := func(prefix string) []byte { return append([]byte(prefix), callTo("ivr")...) }
	for _, c := range []struct {
		name string
		from netip.AddrPort
		in   []byte
		want refusal // notRefused: it is dispatched
	}{
		{"from an allowed client", frontProxy, in("PROXY TCP4 10.1.0.7 10.9.0.1 1 2\r\n"), notRefused},
		{"from another client", frontProxy, in("PROXY TCP4 10.2.0.7 10.9.0.1 1 2\r\n"), refusedAllow},
		{"the proxy for itself, which is not allowed", frontProxy, in("PROXY UNKNOWN\r\n"), refusedAllow},
		{"no PROXY header from where there must be one", frontProxy, in(""), refusedProxyHeader},
		{"a broken one", frontProxy, in("PROXY TCP4 10.1.0.7\r\n"), refusedProxyHeader},
		{"two of them", frontProxy, in("PROXY TCP4 10.1.0.7 10.9.0.1 1 2\r\nPROXY TCP4 10.1.0.8 10.9.0.1 1 2\r\n"), refusedMalformed},
		{"from who must not send one", announced, in("PROXY TCP4 10.1.0.8 10.9.0.1 1 2\r\n"), refusedMalformed},
		{"plain, from who needs none", announced, in(""), notRefused},
		{"plain, from who is not allowed", netip.MustParseAddrPort("10.2.0.1:1"), nil, refusedAllow},
	} {
		s := newAdmissionStage(behindProxy())
		s.accept(c.from)
		if s.handler != nil {
			s.handler.Received(c.in)
		}
		if dispatched := s.host.back.handler != nil; dispatched != (c.want == notRefused) {
			t.Errorf("%s: dispatched %v; want %v", c.name, dispatched, !dispatched)
		}
		switch c.want {
		case notRefused:
			s.host.back.handler.Connected()
			s.serve()
		default:
			if c.want == refusedAllow && c.from != frontProxy {
				if s.front.written > 0 || !s.front.closed {
					t.Errorf("%s: told %q, closed %v; want a close without a byte", c.name, s.front.last, s.front.closed)
				}
			} else if string(s.front.last) != FailureLine || !s.front.writeEnd || s.front.closed {
				t.Errorf("%s: told %q, ended %v, closed %v; want failure, the end, and what is on its way read", c.name, s.front.last, s.front.writeEnd, s.front.closed)
			}
			if n := s.worker.counts.rejected[rejection{":4577", c.want.String()}]; n != 1 || len(s.worker.counts.rejected) != 1 {
				t.Errorf("%s: counted as %v; want %v once", c.name, s.worker.counts.rejected, c.want)
			}
			if !s.front.closed {
				s.handler.Closed(nil)
			}
		}
		if s.server.Sessions() != 0 || s.listener.sessions.Load() != 0 || len(s.records) != 1 {
			t.Errorf("%s: %d sessions, %d of the listener, %d records at the end", c.name, s.server.Sessions(), s.listener.sessions.Load(), len(s.records))
		}
	}
}

// The limits of a source are those of the client that is announced.
func TestLimitsAreTheAnnouncedClients(t *testing.T) {
	o := behindProxy()
	o.MaxSessionsPerSource = 1
	s := newAdmissionStage(o)
	come := func(client string) {
		s.accept(frontProxy)
		s.handler.Received(proxyheader.Append(nil, proxyheader.V2, netip.MustParseAddrPort(client), called))
	}
	come("10.1.0.1:1")
	first := s.handler
	come("10.1.0.2:1")
	if s.front.written > 0 {
		t.Errorf("a second client behind the proxy is told %q; want it let in", s.front.last)
	}
	s.handler.Closed(nil)
	come("10.1.0.1:2")
	s.wantRefused(t, "a second session of the first client", refusedSource)
	first.Closed(nil)
	checkSources(t, &s.listener.sources, 0, 0)
}

// A PROXY header has no more time than the header as a whole, and takes its place
// among the listener's sessions meanwhile.
func TestProxyHeaderIsLate(t *testing.T) {
	o := behindProxy()
	o.MaxSessions = 1
	s := newAdmissionStage(o)
	s.accept(frontProxy)
	silent, front := s.handler, s.front
	s.accept(frontProxy)
	s.wantRefused(t, "the second of one session", refusedListener)
	if want := s.host.now + o.HeaderTimeout; front.timer != want {
		t.Errorf("the PROXY header may take until %v; want %v", front.timer, want)
	}
	silent.Received([]byte("PROXY TCP4 10."))
	silent.TimedOut()
	if string(front.last) != FailureLine {
		t.Errorf("after its time it is told %q; want failure", front.last)
	}
	silent.Closed(nil)
	if n := s.worker.counts.rejected[rejection{":4577", "late"}]; n != 1 {
		t.Errorf("%v; want 1 that is late", s.worker.counts.rejected)
	}
}

// A backend that wants it is told the client in the same write as the header, each
// attempt's and at another process too.
func TestSendProxyHeader(t *testing.T) {
	for _, v := range []proxyheader.Version{proxyheader.V1, proxyheader.V2} {
		s := newAdmissionStage(behindProxy())
		b := balancer.NewBackend("ivr1", "10.0.0.1:4573")
		b.SetAddr(netip.MustParseAddrPort("10.0.0.1:4573"))
		c := balancer.NewBackend("ivr2", "10.0.0.2:4573")
		c.SetAddr(netip.MustParseAddrPort("10.0.0.2:4573"))
		pool := NewPool("ivr", PoolOptions{Attempts: 2, SendProxyHeader: v}, balancer.NewPool(balancer.RoundRobin{}, balancer.Options{}, []*balancer.Backend{b, c}))
		s.server.Swap(&Table{Pools: []*Pool{pool}, Routes: []Route{{Pool: "ivr"}}})

		s.host.back.last = make([]byte, 0, 4096)
		s.accept(netip.MustParseAddrPort("10.1.0.9:40009"))
		s.handler.Received(callTo("ivr"))
		s.host.back.handler.Connected()
		own := proxyheader.Append(nil, v, netip.MustParseAddrPort("10.1.0.9:40009"), listenerAddr)
		if got, want := s.host.back.last, append(own, callTo("ivr")...); !bytes.Equal(got, want) || s.host.back.written != len(want) {
			t.Errorf("version %d: the backend gets %q; want %q", v, got, want)
		}
		s.serve()

		s.accept(frontProxy)
		s.handler.Received(append(proxyheader.Append(nil, proxyheader.V1, announced, called), callTo("ivr")...))
		s.host.back.handler.Closed(errNoMeans) // another backend
		s.host.back.handler.Connected()
		h := agi.NewHeader(4096)
		if _, err := h.Feed(callTo("ivr")); err != nil {
			t.Fatal(err)
		}
		if got, want := s.host.back.last, append(proxyheader.Append(nil, v, announced, called), h.AppendReplay(nil, 2, false)...); !bytes.Equal(got, want) {
			t.Errorf("version %d: the second backend gets %q; want %q", v, got, want)
		}
		s.serve()
	}
}

// The proof that a header was not read holds with a PROXY header before it.
func TestUnreadProxyHeaderIsReplayed(t *testing.T) {
	s := newAdmissionStage(limits())
	var all []*balancer.Backend
	for i, name := range []string{"ivr1", "ivr2"} {
		b := balancer.NewBackend(name, backendAddr(i).String())
		b.SetAddr(backendAddr(i))
		all = append(all, b)
	}
	pool := NewPool("ivr", PoolOptions{Attempts: 2, SendProxyHeader: proxyheader.V2}, balancer.NewPool(balancer.RoundRobin{}, balancer.Options{}, all))
	s.server.Swap(&Table{Pools: []*Pool{pool}, Routes: []Route{{Pool: "ivr"}}})
	s.accept(asteriskAddr)
	s.handler.Received(callTo("ivr"))
	s.host.back.handler.Connected()
	s.host.back.handler.Closed(syscall.ECONNRESET)
	s.host.back.handler.Connected()
	s.serve()
	if r := s.records[0]; r.Attempts != 2 || r.Outcome != Completed {
		t.Errorf("%d attempts, outcome %v (%v); want 2, completed", r.Attempts, r.Outcome, r.Err)
	}
}

// One source that is refused again and again has one record a second.
func TestRefusalsDontFloodTheLog(t *testing.T) {
	o := limits()
	o.Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	s := newAdmissionStage(o)
	ended := func() int { return strings.Count(s.log.String(), "session ended") }
	knock := func(from string) { s.accept(netip.MustParseAddrPort(from)) }
	for i := range 100 {
		knock(fmt.Sprintf("192.0.2.1:%d", 1000+i))
	}
	if ended() != 1 {
		t.Errorf("100 refusals of one source have %d records; want 1", ended())
	}
	knock("192.0.2.2:1")
	if ended() != 2 {
		t.Errorf("another source's refusal makes %d records; want 2", ended())
	}
	for range 50 { // for another reason
		s.accept(netip.MustParseAddrPort("10.0.0.1:1"))
		s.handler.Received([]byte("GET / HTTP/1.1\r\n"))
		s.handler.Closed(nil)
	}
	if ended() != 3 {
		t.Errorf("50 malformed headers make %d records; want 3", ended())
	}
	s.host.now += time.Second
	knock("192.0.2.1:7")
	if ended() != 4 || !strings.Contains(s.log.String(), "suppressed=99\n") {
		t.Errorf("a second later there are %d records; want 4, the last with suppressed=99:\n%s", ended(), s.log.String())
	}
	if len(s.records) != 152 {
		t.Errorf("%d sessions were told of; want 152: only the log is spared", len(s.records))
	}
	for range 20 { // what is no refusal is always told
		s.accept(netip.MustParseAddrPort("10.0.0.1:1"))
		s.handler.Received(plainHeader)
		s.host.back.handler.Connected()
		s.serve()
	}
	if ended() != 24 {
		t.Errorf("20 calls make %d records; want 24", ended())
	}
}

// A session that another process goes on with has its client there, and counts for
// its source.
func TestMovedSessionKeepsItsClient(t *testing.T) {
	o := behindProxy()
	o.MaxSessionsPerSource = 1
	s := newAdmissionStage(o)
	s.accept(frontProxy)
	s.handler.Received(append(proxyheader.Append(nil, proxyheader.V2, announced, called), callTo("ivr")...))
	s.host.back.handler.Connected()
	moved := s.worker.Freeze()[0].Move()

	other := newAdmissionStage(o)
	front, back := new(fakeConn), new(fakeConn)
	front.reset(frontProxy, nil)
	toFront, toBack, err := other.worker.Restore(moved, other.listener, PoolOptions{}, front, back)
	if err != nil {
		t.Fatal(err)
	}
	other.worker.Thaw()
	s.worker.Release()
	checkSources(t, &s.listener.sources, 0, 0)
	checkSources(t, &other.listener.sources, 1, 1)
	if got := other.worker.sessions.first; got.client() != announced || got.destination() != called {
		t.Errorf("the session is %v to %v; want %v to %v", got.client(), got.destination(), announced, called)
	}
	other.accept(frontProxy)
	other.handler.Received(proxyheader.Append(nil, proxyheader.V2, announced, called))
	other.wantRefused(t, "a second session of its client", refusedSource)
	toBack.Closed(nil)
	toFront.Closed(nil)
	checkSources(t, &other.listener.sources, 0, 0)
	if r := other.records[len(other.records)-1]; r.Client != announced {
		t.Errorf("the record's client is %v; want %v", r.Client, announced)
	}
}

// A proxy that announces its clients, and isn't listed, is a common mistake.
func TestUnlistedProxyHeaderIsNamed(t *testing.T) {
	for name, begin := range map[string]string{
		"version 1": "PROXY TCP4 10.0.0.5 10.0.0.1 4000 4577\r\nagi_network: yes\n",
		"version 2": "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c",
	} {
		var ended Record
		s := newStage(Options{Ended: func(r Record) { ended = r }}, limits())
		s.accept(asteriskAddr)
		s.handler.Received([]byte(begin))
		s.handler.Closed(nil)
		if ended.Outcome != BadHeader || !strings.Contains(ended.Err.Error(), "accept_proxy_protocol") {
			t.Errorf("%s: %v, %v; want %v that names accept_proxy_protocol", name, ended.Outcome, ended.Err, BadHeader)
		}
	}
}
