package app

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agiproxy/agi"
	"agiproxy/config"
	"agiproxy/internal/agisim"
	"agiproxy/internal/proxyheader"
)

// listening is a configuration whose listener has these settings, and whose pool
// has those.
func listening(listener, pool string, backends ...string) string {
	text := file(pool, backends...)
	return strings.Replace(text, "\nadmin:", "\n    "+strings.ReplaceAll(strings.TrimSpace(listener), "\n", "\n    ")+"\nadmin:", 1)
}

// placeFrom is place from an address of this machine.
func placeFrom(t *testing.T, source, address, script string) *caller {
	c := &caller{t, make(chan agisim.Result, 1)}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	go func() {
		defer cancel()
		c.done <- (&agisim.Asterisk{Dial: d.DialContext}).Run(ctx, agisim.Call{Address: address, Environment: agi.Environment{Script: script}})
	}()
	return c
}

// wantRefused checks that the dialplan was told FAILURE, without a reason.
func (c *caller) wantRefused() {
	c.t.Helper()
	if r := c.result(); r.Status != agisim.Failure || r.ProxyStatus() != "" || r.Commands != 0 {
		c.t.Errorf("call: AGISTATUS=%s AGIPROXYSTATUS=%q after %d commands (%v); want the bare line failure", r.Status, r.ProxyStatus(), r.Commands, r.Err)
	}
}

func (p *program) wantRejected(n float64, reason string) {
	p.t.Helper()
	p.wantSeries(n, "agiproxy_rejected_connections_total", "127.0.0.1:0", reason)
}

func TestASourceHasItsLimits(t *testing.T) {
	s := startServer(t, "ivr1")
	p := serve(t, listening("max_sessions_per_source: 1\nrate: {sessions_per_second: 0.001, burst: 2}", unprobed, s.entry("")))
	held := hold(t, p.addr(0), "hold", s)
	place(t, p.addr(0), "x").wantRefused()
	placeFrom(t, "127.0.0.2", p.addr(0), "x").wantServed("ivr1")
	s.release()
	held.wantServed("ivr1")
	eventually(t, "the end of the calls", func() bool { return p.server.Sessions() == 0 })
	place(t, p.addr(0), "x").wantServed("ivr1")
	eventually(t, "the end of the calls", func() bool { return p.server.Sessions() == 0 })
	place(t, p.addr(0), "x").wantRefused()
	p.wantOutcomes(map[string]uint64{"completed": 3, "rejected": 2})
	p.wantRejected(1, "source_max_sessions")
	p.wantRejected(1, "rate")
	p.log.want("source begins more sessions than it may")
}

// writeTokens writes a token file and returns its path.
func writeTokens(t *testing.T, path, text string) string {
	t.Helper()
	if path == "" {
		path = filepath.Join(t.TempDir(), "tokens")
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTokens(t *testing.T) {
	const first, second = "0123456789abcdef-first", "0123456789abcdef-second"
	s := startServer(t, "ivr1")
	path := writeTokens(t, "", "# ours\n\n"+first+"\n")
	file := listening("token_file: "+path, unprobed, s.entry(""))
	p := serve(t, file)
	place(t, p.addr(0), "x?token="+first).wantServed("ivr1")
	place(t, p.addr(0), "x?token="+second).wantRefused()
	place(t, p.addr(0), "x").wantRefused()
	writeTokens(t, path, second+"\r\n"+first)
	p.reload(file) // as HUP does, with the same file
	place(t, p.addr(0), "x?token="+second+"&a=1").wantServed("ivr1")
	place(t, p.addr(0), "x?token="+first).wantServed("ivr1")
	writeTokens(t, path, "short\n")
	if err := p.Reload(); err == nil || !strings.Contains(err.Error(), "line 1: a token of 5 characters") || strings.Contains(err.Error(), "short") {
		t.Errorf("Reload with a short token = %v; want an error that says so, without it", err)
	}
	place(t, p.addr(0), "x?token="+second).wantServed("ivr1") // as before
	writeTokens(t, path, second)
	p.reload(file)
	place(t, p.addr(0), "x?token="+first).wantRefused()
	eventually(t, "the end of the calls", func() bool { return p.server.Sessions() == 0 })
	p.wantRejected(3, "token")
	_, sessions := p.get("/api/v1/endings")
	if strings.Contains(sessions, first) || p.log.count(first)+p.log.count(second) != 0 {
		t.Error("a token is in the log, or in the API")
	}
	if p.log.count("can be read by others") != 0 {
		t.Error("a token file that nobody else can read is warned of")
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	p.reload(file)
	p.log.want("token file can be read by others")
}

func TestTokenFiles(t *testing.T) {
	const good = "0123456789abcdef"
	for _, c := range []struct{ text, want string }{
		{good, ""},
		{"\n# one\n  " + good + "  \r\n" + good + "x\n", ""},
		{"", "no token in it, so that nobody could call; want one a line"},
		{"# nothing\n", "no token in it, so that nobody could call; want one a line"},
		{good + "\n0123456789abcde\n", "line 2: a token of 15 characters; want at least 16"},
		{good + "&a=b", "line 1: a token with a character that would not pass through a dialplan's URL; want letters, digits and such as - _ . + / ="},
		{good + ",b", "line 1: a token with a character that would not pass through a dialplan's URL; want letters, digits and such as - _ . + / ="},
		{strings.Repeat(good+"\n", 1001), "line 1001: too many tokens; want at most 1000"},
		{strings.Repeat(good+"\n", 5000), "more than 64 KiB"},
	} {
		path := writeTokens(t, "", c.text)
		cfg, err := config.Parse("agiproxy.yaml", []byte("listeners: [{token_file: "+path+"}]\npools: {ivr: {backends: [10.0.0.11:4573]}}\n"))
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		if c.want != "" {
			want = "listener :4577: token_file: " + path + ": " + c.want
		}
		got := ""
		if _, err := Check(cfg); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("Check with the tokens %.40q = %q; want %q", c.text, got, want)
		}
	}
	cfg, err := config.Parse("agiproxy.yaml", []byte("listeners: [{token_file: /nonexistent}]\npools: {ivr: {backends: [10.0.0.11:4573]}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Check(cfg); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("Check without the token file = %v; want no such file", err)
	}
}

// Two agiproxies in a row: the second knows, by the PROXY protocol, who calls the
// first.
func TestProxyProtocolFromOneToTheNext(t *testing.T) {
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) {
			s := startServer(t, "ivr1")
			back := serve(t, listening("allow: [127.0.0.7, 127.0.0.8, 127.0.0.1]\naccept_proxy_protocol: [127.0.0.1]\nmax_sessions_per_source: 1", unprobed, s.entry("")))
			next := fmt.Sprintf("{name: back, address: %q}", back.addr(0))
			front := serve(t, file("health: {interval: 50ms}\nsend_proxy_protocol: "+version, next))
			eventually(t, "a probe through both", func() bool { return s.read(&s.probes) > 0 })
			front.state("back", "up")

			before := s.read(&s.held)
			held := placeFrom(t, "127.0.0.7", front.addr(0), "hold")
			eventually(t, "a held call", func() bool { return s.read(&s.held) > before })
			placeFrom(t, "127.0.0.7", front.addr(0), "x").wantRefused() // one too many of that source
			placeFrom(t, "127.0.0.8", front.addr(0), "x").wantServed("ivr1")
			if r := placeFrom(t, "127.0.0.9", front.addr(0), "x").result(); r.Commands > 0 {
				t.Errorf("a call of one who isn't allowed: %+v; want a close without a byte", r)
			}
			s.release()
			held.wantServed("ivr1")
			eventually(t, "the end of the calls", func() bool {
				return back.log.count("client=127.0.0.7:") == 2 && back.log.count("client=127.0.0.8:") == 1
			})
			back.wantRejected(1, "source_max_sessions")
			if n, _ := back.series("agiproxy_rejected_connections_total", "127.0.0.1:0", "not_allowed"); n == 0 {
				t.Error("nobody was turned away as not allowed")
			}
			if n, _ := back.series("agiproxy_rejected_connections_total", "127.0.0.1:0", "proxy_protocol"); n != 0 {
				t.Errorf("%v connections had no PROXY header", n)
			}
		})
	}
}

// What a backend gets to see: the caller, and the address that was called.
func TestBackendIsToldTheCaller(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	p := serve(t, listening("accept_proxy_protocol: [127.0.0.5]\nallow: [any]", unprobed+"send_proxy_protocol: v2", fmt.Sprintf("{name: raw, address: %q}", ln.Addr())))
	for _, c := range []struct{ source, preamble, wantSource, wantTo string }{
		{"127.0.0.4", "", "127.0.0.4", p.addr(0)},
		{"127.0.0.5", "PROXY TCP4 192.0.2.7 192.0.2.1 4000 4577\r\n", "192.0.2.7", "192.0.2.1:4577"},
		{"127.0.0.5", "PROXY TCP6 2001:db8::7 2001:db8::1 4000 4577\r\n", "2001:db8::7", "[2001:db8::1]:4577"},
		{"127.0.0.5", "PROXY UNKNOWN\r\n", "127.0.0.5", p.addr(0)},
	} {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.source)}, Timeout: patience}
		asterisk, err := d.Dial("tcp", p.addr(0))
		if err != nil {
			t.Fatal(err)
		}
		header := (&agi.Environment{Script: "x"}).AppendTo(nil)
		fmt.Fprintf(asterisk, "%s%s", c.preamble, header)
		backend, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		backend.SetDeadline(time.Now().Add(patience))
		h, err := proxyheader.Read(backend)
		if err != nil || h.Source.Addr().String() != c.wantSource || h.Destination.String() != c.wantTo {
			t.Errorf("from %s, %q: the backend is told %v, %v; want %s to %s", c.source, c.preamble, h, err, c.wantSource, c.wantTo)
		}
		if line, err := bufio.NewReader(backend).ReadString('\n'); line != "agi_network: yes\n" {
			t.Errorf("then comes %q, %v; want the header", line, err)
		}
		backend.Close()
		asterisk.Close()
	}
	eventually(t, "the end of all sessions", func() bool { return p.server.Sessions() == 0 })
}

// A call whose client a PROXY header has announced keeps it at another process,
// with its place among its source's.
func TestUpgradeKeepsTheAnnouncedClient(t *testing.T) {
	s := startServer(t, "ivr1")
	text := listening("allow: [192.0.2.7]\naccept_proxy_protocol: [127.0.0.1]\nmax_sessions_per_source: 1", unprobed, s.entry(""))
	p := serve(t, text)
	call := func() *caller {
		c := &caller{t, make(chan agisim.Result, 1)}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		dial := func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err == nil {
				_, err = conn.Write([]byte("PROXY TCP4 192.0.2.7 192.0.2.1 4000 4577\r\n"))
			}
			return conn, err
		}
		address := p.addr(0)
		go func() {
			defer cancel()
			c.done <- (&agisim.Asterisk{Dial: dial}).Run(ctx, agisim.Call{Address: address, Environment: agi.Environment{Script: "hold"}})
		}()
		return c
	}
	held := call()
	eventually(t, "a held call", func() bool { return s.read(&s.held) > 0 })
	p = p.upgrade(text)
	if _, list := p.get("/api/v1/sessions"); !strings.Contains(list, "192.0.2.7:4000") {
		t.Errorf("the sessions after an upgrade: %s; want the announced client's", list)
	}
	call().wantRefused()
	s.release()
	held.wantServed("ivr1")
	eventually(t, "the end of all sessions", func() bool { return p.server.Sessions() == 0 })
}

// The limit of a pool holds for all its backends together, over a reload and an
// upgrade.
func TestAPoolHasItsLimit(t *testing.T) {
	one, two := startServer(t, "ivr1"), startServer(t, "ivr2")
	text := file(unprobed+"max_sessions: 2", one.entry(""), two.entry(""))
	p := serve(t, file(unprobed, one.entry(""), two.entry("")))
	first, second := hold(t, p.addr(0), "hold", one, two), hold(t, p.addr(0), "hold", one, two)
	p.reload(text)
	place(t, p.addr(0), "x").wantFailure("NOBACKEND")
	eventually(t, "the record", func() bool { return p.log.count("pool has as many sessions as it may") == 1 })
	p.wantSeries(1, "agiproxy_pool_full_total", "ivr")
	p.reload(file(unprobed+"max_sessions: 2", two.entry(""))) // one of the two drains, and counts
	place(t, p.addr(0), "x").wantFailure("NOBACKEND")
	eventually(t, "the end of the calls", func() bool { return p.server.Sessions() == 2 })
	p = p.upgrade(file(unprobed+"max_sessions: 2", two.entry("")))
	place(t, p.addr(0), "x").wantFailure("NOBACKEND")
	one.release()
	two.release()
	first.wantServed("")
	second.wantServed("")
	eventually(t, "the end of the calls", func() bool { return p.server.Sessions() == 0 })
	place(t, p.addr(0), "x").wantServed("ivr2")
	p.wantSeries(3, "agiproxy_pool_full_total", "ivr")
}
