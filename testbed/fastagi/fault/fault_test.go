package fault

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asterisk plays Asterisk to a server: it sends a header for script, answers every
// whole command with 200, and tells what it got and how the connection ended
// ("closed", "reset", "silent", or the error of the connect).
func asterisk(t *testing.T, addr, script string, answer bool) (lines []string, rest, end string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 300*time.Millisecond)
	if nerr, ok := errors.AsType[net.Error](err); ok && nerr.Timeout() {
		return nil, "", "connect timed out"
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, "", "refused"
	}
	if errors.Is(err, syscall.ECONNRESET) {
		return nil, "", "reset" // before Go has looked at the new socket
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	write := func(text string) (reset bool) {
		_, err := io.WriteString(c, text)
		return errors.Is(err, syscall.ECONNRESET) // which reading doesn't tell again
	}
	if write("agi_network: yes\nagi_network_script: " + script + "\nagi_uniqueid: 17.4\nagi_uniqueid: forged\nagi_attempt: 2\nagi_resumed: yes\n\n") {
		return nil, "", "reset"
	}
	in := bufio.NewReader(c)
	for {
		c.SetReadDeadline(time.Now().Add(400 * time.Millisecond))
		ln, err := in.ReadString('\n')
		switch {
		case err == nil:
			lines = append(lines, strings.TrimSuffix(ln, "\n"))
			if answer && write("200 result=0\n") {
				return lines, "", "reset"
			}
			continue
		case errors.Is(err, io.EOF):
			return lines, ln, "closed"
		case errors.Is(err, syscall.ECONNRESET):
			return lines, ln, "reset"
		default:
			return lines, ln, "silent"
		}
	}
}

func TestBehaviours(t *testing.T) {
	const begun, play, served = "SET VARIABLE BEGUN ivr1", `STREAM FILE welcome ""`, "SET VARIABLE SERVED ivr1"
	whole := []string{begun, play, served}
	tests := []struct {
		fault string
		lines []string
		rest  string // a line without an end
		end   string
	}{
		{"", whole, "", "closed"},
		{"fault=ok", whole, "", "closed"},
		{"fault=refuse", nil, "", "refused"},
		{"fault=blackhole", nil, "", "connect timed out"},
		{"fault=accept-close&reset=true", nil, "", "reset"},
		{"fault=read-close", nil, "", "closed"},
		{"fault=read-close&reset=true", nil, "", "reset"},
		{"fault=mute", nil, "", "silent"},
		{"fault=slow&delay=10ms", whole, "", "closed"},
		{"fault=slow&delay=2s", nil, "", "silent"},
		{"fault=pipelined", []string{begun, play, served, "NOOP"}, "", "closed"},
		{"fault=die", nil, "", "closed"},
		{"fault=die&after=2", whole[:2], "", "closed"},
		{"fault=die&after=2&reset=true", whole[:2], "", "reset"},
		{"fault=half-line", nil, begun[:len(begun)/2], "closed"},
		{"fault=half-line&after=1&reset=true", whole[:1], play[:len(play)/2], "reset"},
	}
	for _, test := range tests {
		t.Run(test.fault, func(t *testing.T) {
			b, err := Parse(test.fault)
			if err != nil {
				t.Fatal(err)
			}
			s := listen(t, b)
			lines, rest, end := asterisk(t, s.Addr(), "ivr", true)
			if strings.Join(lines, "|") != strings.Join(test.lines, "|") || rest != test.rest || end != test.end {
				t.Errorf("a session got %q, then %q, and was %s; want %q, %q, %s", lines, rest, end, test.lines, test.rest, test.end)
			}
		})
	}
}

func TestAcceptCloseNeverReads(t *testing.T) {
	s := listen(t, Behaviour{Mode: AcceptClose})
	lines, rest, end := asterisk(t, s.Addr(), "ivr", true)
	// a header that comes before the close makes it a reset
	if len(lines) > 0 || rest != "" || end == "silent" {
		t.Errorf("a session got %q, then %q, and was %s; want nothing and an end", lines, rest, end)
	}
	if st := s.Stats(); st.Accepted != 1 || st.Headers != 0 {
		t.Errorf("Stats() = %+v; want one connection and no header", st)
	}
}

func TestMidCommandGoesWhileTheCommandRuns(t *testing.T) {
	for _, reset := range []bool{false, true} {
		s := listen(t, Behaviour{Mode: MidCommand, Reset: reset})
		lines, _, end := asterisk(t, s.Addr(), "ivr", false)
		want := "closed"
		if reset {
			want = "reset"
		}
		if len(lines) != 1 || end != want {
			t.Errorf("with reset=%v a session got %q and was %s; want one command and %s", reset, lines, end, want)
		}
	}
}

func TestFloodAndLongLineAreBounded(t *testing.T) {
	for _, mode := range []Mode{Flood, LongLine} {
		s := listen(t, Behaviour{Mode: mode})
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, "agi_network: yes\n\n")
		n, _ := io.Copy(io.Discard, c)
		if n < floodBytes/2 || n > floodBytes {
			t.Errorf("%s sent %d bytes; want nearly %d", mode, n, floodBytes)
		}
	}
}

func TestScriptAsksForItsCommandsAndFault(t *testing.T) {
	s := listen(t, Behaviour{})
	lines, _, end := asterisk(t, s.Addr(), "ivr?do=EXEC+Wait+5&do=NOOP&fault=die&after=3&reset=1", true)
	if got := strings.Join(lines, "|"); got != "SET VARIABLE BEGUN ivr1|EXEC Wait 5|NOOP" || end != "reset" {
		t.Errorf("a session got %q and was %s; want the two commands asked for and a reset", got, end)
	}
	call := s.Calls()[0]
	if call.UniqueID != "17.4" || call.Commands != 3 || call.Done || call.Mode != Die {
		t.Errorf("the record is %+v; want 17.4, three commands, not done, die", call)
	}
	if got := strings.Join(call.Replies, "|"); got != "200 result=0|200 result=0|200 result=0" || call.Attempt != "2" || call.Resumed != "yes" {
		t.Errorf("the record is %+v; want three replies, attempt 2, resumed yes", call)
	}
}

func TestSetChangesTheSessionsToCome(t *testing.T) {
	s := listen(t, Behaviour{})
	for _, step := range []struct {
		mode Mode
		end  string
	}{{OK, "closed"}, {Refuse, "refused"}, {Blackhole, "connect timed out"}, {Refuse, "refused"}, {OK, "closed"}, {Mute, "silent"}} {
		if err := s.Set(Behaviour{Mode: step.mode}); err != nil {
			t.Fatal(err)
		}
		if _, _, end := asterisk(t, s.Addr(), "ivr", true); end != step.end {
			t.Errorf("after Set(%s) a session was %s; want %s", step.mode, end, step.end)
		}
	}
	if st := s.Stats(); st.Accepted != 3 || st.Done != 2 || st.Headers != 3 {
		t.Errorf("Stats() = %+v; want 3 accepted, 3 headers, 2 done", st)
	}
}

func TestProbesAreCountedApart(t *testing.T) {
	s := listen(t, Behaviour{})
	asterisk(t, s.Addr(), "agiproxy-probe", true)
	asterisk(t, s.Addr(), "ivr", true)
	if st := s.Stats(); st.Probes != 1 || st.Accepted != 1 || st.Commands != 3 || len(s.Calls()) != 1 {
		t.Errorf("Stats() = %+v, %d calls; want one probe, and one call of three commands", st, len(s.Calls()))
	}
}

// When the caller leaves, Asterisk answers the running command with -1, and HANGUP
// follows 40 ms later.
func TestScriptEndsWhenTheCallerLeaves(t *testing.T) {
	s := listen(t, Behaviour{})
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "agi_network: yes\n\n")
	in := bufio.NewReader(c)
	in.ReadString('\n')
	io.WriteString(c, "200 result=1\n")
	in.ReadString('\n')
	io.WriteString(c, "200 result=-1\n")
	time.Sleep(40 * time.Millisecond)
	io.WriteString(c, "HANGUP\n")
	if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
		t.Errorf("after -1 and HANGUP the server sent %q, %v; want a clean close", rest, err)
	}
	if st := s.Stats(); st.HungUp != 1 || st.Done != 0 || st.Commands != 2 {
		t.Errorf("Stats() = %+v; want 2 commands, hung up, not done", st)
	}
}

func TestControlPort(t *testing.T) {
	s := listen(t, Behaviour{})
	control := httptest.NewServer(s.Control())
	defer control.Close()
	for _, request := range []struct {
		query  string
		status int
		end    string
	}{
		{"fault=read-close&reset=true", 200, "reset"},
		{"fault=nonsense", 400, "reset"},
		{"fault=die&after=few", 400, "reset"},
		{"fault=ok", 200, "closed"},
	} {
		resp, err := http.Post(control.URL+"/fault?"+request.query, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		_, _, end := asterisk(t, s.Addr(), "ivr", true)
		if resp.StatusCode != request.status || end != request.end {
			t.Errorf("POST %s: %d, and then a session was %s; want %d and %s",
				request.query, resp.StatusCode, end, request.status, request.end)
		}
	}
	resp, err := http.Get(control.URL + "/stats")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var st Stats
	if err := json.NewDecoder(resp.Body).Decode(&st); err != nil || st != s.Stats() || st.Accepted != 4 {
		t.Errorf("GET /stats: %+v, %v; want %+v with 4 accepted", st, err, s.Stats())
	}
}

func listen(t *testing.T, b Behaviour) *Server {
	t.Helper()
	s, err := Listen("127.0.0.1:0", Options{Name: "ivr1", Script: []string{`STREAM FILE welcome ""`}, Behaviour: b})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
