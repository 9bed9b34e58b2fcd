package health

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"agiproxy/agi"
)

// serve listens on loopback and calls handle for each connection, which is
// closed afterwards. It ends with the test, which awaits it.
func serve(t *testing.T, handle func(c *net.TCPConn)) (address string) {
	t.Helper()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(5 * time.Second)) // a test's server never hangs
				handle(c)
			})
		}
	})
	return ln.Addr().String()
}

// look runs a probe with a time limit as a Checker does, but for the further
// time that an answer gives.
func look(probe Probe, limit time.Duration) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	defer time.AfterFunc(limit, func() { cancel(errors.New("time is up")) }).Stop()
	return probe(ctx, func(Stage) {})
}

// expectReason fails unless err has one of the reasons, separated by blanks;
// none means that err must be nil.
func expectReason(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil {
		if want != "" {
			t.Errorf("%s: healthy; want reason %s", what, want)
		}
		return
	}
	e, ok := errors.AsType[*Error](err)
	switch {
	case !ok:
		t.Errorf("%s: %T %v; want an *Error", what, err, err)
	case want == "" || !strings.Contains(" "+want+" ", " "+e.Reason+" "):
		t.Errorf("%s: reason %s (%v); want %q", what, e.Reason, err, want)
	}
}

// readHeader reads to the empty line.
func readHeader(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil || line == "\n" {
			return
		}
	}
}

// reset makes the close of c a reset.
func reset(c *net.TCPConn) { c.SetLinger(0) }

// says is a server that reads the header and answers with text.
func says(text string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		readHeader(c)
		io.WriteString(c, text)
		io.Copy(io.Discard, c)
	}
}

func TestAGIJudgesBackends(t *testing.T) {
	for _, test := range []struct {
		name   string
		server func(*net.TCPConn)
		// the reasons allowed, by what is expected; "" is healthy
		command, close, any string
	}{
		{"a command", says("VERBOSE \"probe\" 1\n"), "", Unexpected, ""},
		{"a command in lower case, with CR", says("answer\r\n"), "", Unexpected, ""},
		{"a command before the header is read", func(c *net.TCPConn) {
			io.WriteString(c, "NOOP\n")
			readHeader(c)
			io.Copy(io.Discard, c)
		}, "", Unexpected, ""},
		{"a command and gone", func(c *net.TCPConn) {
			readHeader(c)
			io.WriteString(c, "NOOP\n")
		}, "", Unexpected, ""},
		{"a command and reset", func(c *net.TCPConn) {
			readHeader(c)
			io.WriteString(c, "NOOP\n")
			time.Sleep(20 * time.Millisecond)
			reset(c)
		}, "", Unexpected, ""},
		{"commands after the hangup", func(c *net.TCPConn) {
			readHeader(c)
			for range 100 {
				io.WriteString(c, "SET VARIABLE X y\n")
			}
			io.Copy(io.Discard, c)
		}, "", Unexpected, ""},
		{"a slow command", func(c *net.TCPConn) {
			readHeader(c)
			time.Sleep(50 * time.Millisecond)
			io.WriteString(c, "NOOP\n")
			io.Copy(io.Discard, c)
		}, "", Unexpected, ""},
		{"a slow close after a command", func(c *net.TCPConn) {
			readHeader(c)
			io.WriteString(c, "NOOP\n")
			time.Sleep(300 * time.Millisecond)
		}, "", Unexpected, ""},
		{"read and close", readAndClose, Unexpected, "", ""},
		{"accept and close", func(*net.TCPConn) {}, "closed reset", "closed reset", "closed reset"},
		{"accept and reset", reset, Reset, Reset, Reset},
		{"read a part and close", func(c *net.TCPConn) { c.Read(make([]byte, 100)) }, Reset, Reset, Reset},
		{"read and reset", func(c *net.TCPConn) { readHeader(c); reset(c) }, Reset, Reset, Reset},
		{"mute", func(c *net.TCPConn) { io.Copy(io.Discard, c) }, Silent, Silent, Silent},
		{"half a line and close", func(c *net.TCPConn) {
			readHeader(c)
			io.WriteString(c, "STREAM FI")
		}, Closed, Closed, Closed},
		{"half a line and reset", func(c *net.TCPConn) {
			readHeader(c)
			io.WriteString(c, "STREAM FI")
			time.Sleep(20 * time.Millisecond)
			reset(c)
		}, Reset, Reset, Reset},
		{"half a line and silence", says("STREAM FI"), Silent, Silent, Silent},
		{"failure", says("failure\n"), Unexpected, Unexpected, Unexpected},
		{"a proxy without backends", func(c *net.TCPConn) {
			readHeader(c)
			io.WriteString(c, "SET VARIABLE AGIPROXYSTATUS NOBACKEND\n")
			c.Read(make([]byte, 100))
			io.WriteString(c, "failure\n")
		}, Unexpected, Unexpected, Unexpected},
		{"agiproxy without backends, to a caller who has left", says("SET VARIABLE AGIPROXYSTATUS NOBACKEND\n"), Unexpected, Unexpected, Unexpected},
		{"a script that sets a variable", says("SET VARIABLE AGIPROXYSTATUS_SEEN NOBACKEND\n"), "", Unexpected, ""},
		{"a web server", says("HTTP/1.1 400 Bad Request\r\n\r\n"), Unexpected, Unexpected, Unexpected},
		{"an SSH server", says("SSH-2.0-OpenSSH_9.2\r\n"), Unexpected, Unexpected, Unexpected},
		{"an echo", func(c *net.TCPConn) { io.Copy(c, c) }, Unexpected, Unexpected, Unexpected},
		{"an empty line", says("\n"), Unexpected, Unexpected, Unexpected},
		{"a line too long", says("NOOP " + strings.Repeat("x", agi.MaxLine) + "\n"), Unexpected, Unexpected, Unexpected},
		{"the longest line", says("NOOP " + strings.Repeat("x", agi.MaxLine-6) + "\n"), "", Unexpected, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			address := serve(t, test.server)
			for expect, want := range map[string]string{
				"command": test.command, "close": test.close, "any": test.any, "": test.any,
			} {
				err := look(AGI(AGIOptions{Address: address, Expect: expect}), 200*time.Millisecond)
				expectReason(t, "expect "+expect, err, want)
			}
		})
	}
}

func readAndClose(c *net.TCPConn) { readHeader(c) }

// The FIN of a backend that closes without reading can be there before the reset
// that its header provokes.
func TestAGITakesNoCloseBeforeTheHeaderForAnAnswer(t *testing.T) {
	address := serve(t, func(*net.TCPConn) {})
	for range 20 {
		err := look(AGI(AGIOptions{
			Address: address,
			Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := new(net.Dialer).DialContext(ctx, network, address)
				time.Sleep(5 * time.Millisecond) // until the FIN is here
				return c, err
			},
		}), time.Second)
		expectReason(t, "closed before the header", err, Closed)
		if !errors.Is(err, errUnread) {
			t.Errorf("the error is %v; want %v", err, errUnread)
		}
	}
}

func TestAGITellsFailedConnects(t *testing.T) {
	failing := func(err error) func(context.Context, string, string) (net.Conn, error) {
		return func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
		}
	}
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"no route", syscall.EHOSTUNREACH, Unreachable},
		{"no network", syscall.ENETUNREACH, Unreachable},
		{"reset", syscall.ECONNRESET, Reset},
		{"the kernel's own time-out", syscall.ETIMEDOUT, Timeout},
		{"no such host", &net.DNSError{Err: "no such host", IsNotFound: true}, Failed},
	} {
		t.Run(test.name, func(t *testing.T) {
			expectReason(t, test.name, look(AGI(AGIOptions{Dial: failing(test.err)}), time.Second), test.want)
		})
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := ln.Addr().String()
	ln.Close()
	expectReason(t, "AGI probe of a closed port", look(AGI(AGIOptions{Address: closed}), time.Second), Refused)
	expectReason(t, "TCP probe of a closed port", look(TCP(closed, nil), time.Second), Refused)

	deaf := fullListener(t)
	err = look(AGI(AGIOptions{Address: deaf}), 100*time.Millisecond)
	expectReason(t, "AGI probe of a full accept queue", err, Timeout)
	if err != nil && err.Error() != "time is up" {
		t.Errorf("the error is %q; want the cause that ended the context", err)
	}
	expectReason(t, "TCP probe of a full accept queue", look(TCP(deaf, nil), 100*time.Millisecond), Timeout)
}

// fullListener returns an address where SYNs are dropped: its accept queue is
// full, and nobody accepts.
func fullListener(t *testing.T) string {
	t.Helper()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	raw, err := ln.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) }) // the least possible queue
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		c, err := net.DialTimeout("tcp", ln.Addr().String(), 50*time.Millisecond)
		if err != nil {
			return ln.Addr().String()
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Skip("the accept queue takes ten connections; here it can't be filled")
	return ""
}

func TestAGIPlaysAWholeSession(t *testing.T) {
	first := make(chan []byte, 1)
	rest := make(chan string, 1)
	address := serve(t, func(c *net.TCPConn) {
		b := make([]byte, 8192)
		n, _ := c.Read(b) // one read: the header comes in one write
		first <- b[:n]
		io.WriteString(c, "STREAM FILE welcome \"\"\n")
		b, err := io.ReadAll(c)
		if err != nil {
			b = fmt.Append(b, err)
		}
		rest <- string(b)
	})
	var stages []Stage
	err := AGI(AGIOptions{Address: address})(t.Context(), func(s Stage) { stages = append(stages, s) })
	expectReason(t, "a good server", err, "")
	if len(stages) != 2 || stages[0] != Waiting || stages[1] != Answered {
		t.Errorf("stages %v; want waiting, answered", stages)
	}
	if got := <-rest; got != "200 result=-1\nHANGUP\n" {
		t.Errorf("after its command the server read %q and EOF; want the reply -1 and HANGUP", got)
	}

	bytesSent := <-first
	header := agi.NewHeader(64 << 10)
	n, err := header.Feed(bytesSent)
	if err != nil || !header.Done() || n != len(bytesSent) {
		t.Fatalf("Feed(%q) = %d, %v, done %v; want one whole header in the first read", bytesSent, n, err, header.Done())
	}
	if fields := bytes.Count(bytesSent, []byte("\n")) - 1; fields < 20 {
		t.Errorf("the header has %d fields; want 20 at least", fields)
	}
	for name, want := range map[string]string{
		"agi_network":        "yes",
		"agi_network_script": "agiproxy-probe",
		"agi_request":        "agi://" + address + "/agiproxy-probe",
		"agi_channel":        "Probe/agiproxy",
		"agi_type":           "Probe",
	} {
		if got := string(header.Field(name)); got != want {
			t.Errorf("%s is %q; want %q", name, got, want)
		}
	}
}

func TestAGISendsItsHeaderEvenIfItMustEnd(t *testing.T) {
	got := make(chan int, 1)
	address := serve(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		got <- len(b)
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	err := AGI(AGIOptions{
		Address: address,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			cancel(errors.New("stop"))
			return c, err
		},
	})(ctx, func(Stage) {})
	expectReason(t, "ended while connecting", err, Silent)
	if n := <-got; n < 300 {
		t.Errorf("the server read %d bytes; want a whole header: a bare connect upsets it", n)
	}
}

func TestAGIStopsListeningToEndlessTalk(t *testing.T) {
	address := serve(t, func(c *net.TCPConn) {
		readHeader(c)
		for err := error(nil); err == nil; {
			_, err = io.WriteString(c, "NOOP\n")
		}
	})
	began := time.Now()
	expectReason(t, "endless talk", look(AGI(AGIOptions{Address: address}), 4*time.Second), "")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the probe took %v; want it to stop listening after %d bytes", took, drainLimit)
	}
}

func TestAGIAsksForItsScript(t *testing.T) {
	script := make(chan string, 1)
	address := serve(t, func(c *net.TCPConn) {
		header := agi.NewHeader(64 << 10)
		b := make([]byte, 8192)
		for !header.Done() {
			n, err := c.Read(b)
			if err != nil {
				break
			}
			header.Feed(b[:n])
		}
		script <- string(header.Script())
	})
	err := look(AGI(AGIOptions{Address: address, Script: "health/check", Expect: "close"}), time.Second)
	expectReason(t, "a clean close", err, "")
	if got := <-script; got != "health/check" {
		t.Errorf("the probe asked for %q; want health/check", got)
	}
}

func TestTCPOnlyConnects(t *testing.T) {
	got := make(chan []byte, 1)
	address := serve(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		got <- b
	})
	expectReason(t, "a listener", look(TCP(address, nil), time.Second), "")
	if b := <-got; len(b) != 0 {
		t.Errorf("the TCP probe sent %q; want nothing", b)
	}
}

func TestAGIPanicsOnUnknownExpect(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("AGI took Expect: maybe; want a panic")
		}
	}()
	AGI(AGIOptions{Expect: "maybe"})
}
