package agisim

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"agiproxy/agi"
)

func listen(t *testing.T, script func(*Session)) *Server {
	t.Helper()
	s, err := Listen("127.0.0.1:0", script)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

func TestCallOverTCP(t *testing.T) {
	s := listen(t, func(s *Session) {
		h, err := s.Header()
		if err != nil {
			t.Errorf("Header(): %v", err)
			return
		}
		if got := string(h.Script()) + "?" + string(h.Field("agi_arg_2")); got != "ivr/main?two words" {
			t.Errorf("script and second argument are %q; want ivr/main?two words", got)
		}
		s.Command("ANSWER")
		s.Command("SET VARIABLE SERVED_BY ivr1")
		s.CloseWrite()
		if err := s.AwaitClose(); err != nil {
			t.Errorf("AwaitClose(): %v", err)
		}
		if !s.HungUp() {
			t.Error("no HANGUP after the server's close; want Asterisk's goodbye")
		}
	})
	var a Asterisk
	result := a.Run(t.Context(), Call{
		Address:     s.Addr().String(),
		Environment: agi.Environment{Script: "ivr/main", Args: []string{"one", "two words"}},
	})
	s.Stop() // the script has read the goodbye
	if !result.Served() || result.Variables["SERVED_BY"] != "ivr1" || result.Commands != 2 {
		t.Errorf("Run() = %+v; want it served by ivr1 with 2 commands", result)
	}
}

func TestRefusedCallIsFailure(t *testing.T) {
	s := listen(t, func(*Session) {})
	s.Stop()
	var a Asterisk
	result := a.Run(t.Context(), Call{Address: s.Addr().String()})
	if result.Status != Failure || !errors.Is(result.Err, syscall.ECONNREFUSED) {
		t.Errorf("AGISTATUS=%s, error %v; want FAILURE, refused", result.Status, result.Err)
	}
}

// A dialplan sees SUCCESS when a server dies; who plays Asterisk sees the reset.
func TestKilledServerIsSuccessToTheDialplan(t *testing.T) {
	asked := make(chan struct{})
	s := listen(t, func(s *Session) {
		s.Header()
		s.Send("WAIT FOR DIGIT 60000")
		close(asked)
		s.Await()
	})
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		<-asked
		time.Sleep(20 * time.Millisecond) // Asterisk has begun to wait
		s.Kill()
	}()
	var a Asterisk
	result := a.Run(t.Context(), Call{Address: s.Addr().String()})
	if result.Status != Success || !errors.Is(result.Err, ErrMidCommand) || result.Served() {
		t.Errorf("AGISTATUS=%s, error %v, served %v; want SUCCESS, %v, false", result.Status, result.Err, result.Served(), ErrMidCommand)
	}
	<-killed
	if n := s.Sessions(); n != 0 {
		t.Errorf("Sessions() = %d after Kill; want 0", n)
	}
}

// Both are SUCCESS to the dialplan. Only the first was never read.
func TestAcceptAndCloseIsToldFromAScriptWithoutCommands(t *testing.T) {
	unread := listen(t, func(*Session) {})
	read := listen(t, func(s *Session) { s.Header() })
	var a Asterisk
	for range 10 {
		if r := a.Run(t.Context(), Call{Address: unread.Addr().String()}); r.Status != Success || !errors.Is(r.Err, syscall.ECONNRESET) && !errors.Is(r.Err, syscall.EPIPE) {
			t.Errorf("accept and close: AGISTATUS=%s, error %v; want SUCCESS, reset", r.Status, r.Err)
		}
		if r := a.Run(t.Context(), Call{Address: read.Addr().String()}); !r.Served() {
			t.Errorf("read and close: AGISTATUS=%s, error %v; want SUCCESS, none", r.Status, r.Err)
		}
	}
}

func TestStopLetsSessionsEnd(t *testing.T) {
	asked := make(chan struct{})
	s := listen(t, func(s *Session) {
		s.Header()
		close(asked)
		time.Sleep(50 * time.Millisecond)
		s.Command("SET VARIABLE LAST word")
	})
	go func() {
		<-asked
		s.Stop()
	}()
	var a Asterisk
	if result := a.Run(t.Context(), Call{Address: s.Addr().String()}); result.Variables["LAST"] != "word" {
		t.Errorf("Run() = %+v; want the session's last command to have run", result)
	}
}

func TestEndOfContextKillsTheCall(t *testing.T) {
	s := listen(t, func(s *Session) { s.Command("WAIT FOR DIGIT -1") })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	var a Asterisk
	result := a.Run(ctx, Call{Address: s.Addr().String()})
	if !errors.Is(result.Err, context.DeadlineExceeded) || result.Served() {
		t.Errorf("Run() = %+v; want it ended by its context", result)
	}
}

func TestDialGivesUp(t *testing.T) {
	a := Asterisk{DialTimeout: 20 * time.Millisecond}
	// TEST-NET-1 routes nowhere: either nothing answers or the network says no.
	result := a.Run(t.Context(), Call{Address: "192.0.2.1:4573"})
	if result.Status != Failure || result.Err == nil || result.Duration > time.Second {
		t.Errorf("AGISTATUS=%s, error %v after %v; want FAILURE at once", result.Status, result.Err, result.Duration)
	}
	if !strings.Contains(result.Err.Error(), "192.0.2.1:4573") {
		t.Errorf("error %q doesn't name the address", result.Err)
	}
}
