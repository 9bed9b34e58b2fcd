package proxy

import (
	"bytes"
	"syscall"
	"testing"
	"time"

	"agiproxy/agi"
)

// mostBuffered is what a session may keep for a side that doesn't read: what one
// read of the other side can bring. Package loop reads 64 KiB at a time.
const mostBuffered = 64<<10 + agi.MaxLine

// dialogueUnderWay returns a player whose ivr1 has sent its first command.
func dialogueUnderWay(t *testing.T) *player {
	p := newPlayer(t)
	for _, step := range [][2]string{
		{"backends", "ivr1"}, {"asterisk", "header"}, {"ivr1", "expects header"}, {"ivr1", "NOOP"}, {"asterisk", "expects NOOP"},
	} {
		p.step(step[0], step[1])
	}
	return p
}

func (p *player) session() *Session { return p.worker.sessions.first }

func TestFloodingBackendIsHeldBack(t *testing.T) {
	p := dialogueUnderWay(t)
	p.parts["asterisk"].conn.Pause()
	flood := bytes.Repeat([]byte("NOOP and so on\n"), 1<<18) // 4 MiB
	p.parts["ivr1"].conn.Write(flood)
	most := 0
	for range 200 {
		p.pass(10 * time.Millisecond)
		most = max(most, p.session().front.Buffered())
	}
	if most > mostBuffered {
		t.Errorf("%d bytes kept for an Asterisk that doesn't read; want at most %d", most, mostBuffered)
	}
	p.parts["asterisk"].conn.Resume()
	for range 4000 {
		p.pass(10 * time.Millisecond)
	}
	if got, want := len(p.parts["asterisk"].got), len(flood)/len("NOOP and so on\n"); got != want {
		t.Errorf("Asterisk got %d lines once it read; want %d", got, want)
	}
	p.finish()
}

func TestFloodingAsteriskIsHeldBack(t *testing.T) {
	p := dialogueUnderWay(t)
	p.parts["ivr1"].conn.Pause()
	p.parts["asterisk"].conn.Write(bytes.Repeat([]byte("200 result=0\n"), 1<<18))
	most := 0
	for range 200 {
		p.pass(10 * time.Millisecond)
		most = max(most, p.session().back.Buffered())
	}
	if most > mostBuffered {
		t.Errorf("%d bytes kept for a backend that doesn't read; want at most %d", most, mostBuffered)
	}
	// The backend goes; Asterisk, which was not read from, must be heard again.
	p.step("ivr1", "resets")
	p.step("asterisk", "expects GET FULL VARIABLE "+anyMarker)
	p.step("asterisk", "")
	p.step("asterisk", "200 result=1 ("+anyMarker+")")
	p.pass(500 * time.Millisecond)
	p.step("asterisk", "has SET VARIABLE AGIPROXYSTATUS BACKENDLOST")
	p.finish()
}

func TestBackendIsHeardAgainWhenAsteriskIsGone(t *testing.T) {
	p := dialogueUnderWay(t)
	p.parts["asterisk"].conn.Pause()
	p.parts["ivr1"].conn.Write(bytes.Repeat([]byte("NOOP and so on\n"), 1<<18))
	p.pass(time.Second)
	p.step("asterisk", "resets")
	p.step("ivr1", "closes")
	p.step("wait", "30s") // less than hangup_timeout
	if p.record == nil {
		t.Error("the session goes on although both sides have closed")
	}
	p.finish()
}

// TestFloodAfterAsteriskLeftEndsTheSession unless the server has only a script's last
// commands to send.
func TestFloodAfterAsteriskLeftEndsTheSession(t *testing.T) {
	var records []Record
	s := newStage(Options{Ended: func(r Record) { records = append(records, r) }}, limits())
	s.establish(plainHeader)
	back := s.host.back.handler
	back.Received([]byte("NOOP\n"))
	s.handler.Closed(syscall.ECONNRESET)
	lines := bytes.Repeat([]byte("NOOP and so on\n"), 64)
	sent := 0
	for ; sent+len(lines) <= mostWasted; sent += len(lines) {
		back.Received(lines)
	}
	if len(records) > 0 || s.host.back.closed {
		t.Fatalf("the session has ended after %d bytes; want it to go on until %d", sent, mostWasted)
	}
	back.Received(lines)
	if len(records) != 1 || !s.host.back.closed || records[0].Outcome != Hangup {
		t.Errorf("after %d bytes that nobody takes: closed %v, records %+v; want one of a hangup", sent+len(lines), s.host.back.closed, records)
	}
}
