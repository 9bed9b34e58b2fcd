package systemd

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// told is a notifier, and what it has sent.
func told(watchdog time.Duration) (*Notifier, *[]string) {
	var sent []string
	return &Notifier{watchdog: watchdog, send: func(s string) { sent = append(sent, s) }}, &sent
}

var monotonic = regexp.MustCompile(`MONOTONIC_USEC=\d+`)

func TestNotifierTellsALife(t *testing.T) {
	n, sent := told(time.Second)
	n.Reloading() // still the start
	n.Status("starting")
	n.Ready()
	n.Status("one session")
	n.Status("one session")
	n.Alive()
	n.Reloading()
	n.Ready()
	n.Stopping(5 * time.Minute)
	n.Reloading()
	n.Ready()
	n.Alive()
	for i, s := range *sent {
		(*sent)[i] = monotonic.ReplaceAllString(s, "MONOTONIC_USEC=N")
	}
	want := []string{
		"STATUS=starting", "READY=1", "STATUS=one session", "WATCHDOG=1",
		"RELOADING=1\nMONOTONIC_USEC=N", "READY=1",
		"STOPPING=1\nEXTEND_TIMEOUT_USEC=300000000", "WATCHDOG=1",
	}
	if !slices.Equal(*sent, want) {
		t.Errorf("sent\n%q\nwant\n%q", *sent, want)
	}
}

func TestReloadingHasTheManagersTime(t *testing.T) {
	now := func() (usec int64) {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			t.Fatal(err)
		}
		return ts.Nano() / 1000
	}
	n, sent := told(0)
	n.Ready()
	before := now()
	n.Reloading()
	var usec int64
	if _, err := fmt.Sscanf((*sent)[1], "RELOADING=1\nMONOTONIC_USEC=%d", &usec); err != nil || usec < before || usec > now() {
		t.Errorf("sent %q between %d and %d, error %v; want a time between", (*sent)[1], before, now(), err)
	}
}

func TestWithoutAWatchdogNothingBeats(t *testing.T) {
	n, sent := told(0)
	n.Alive()
	if len(*sent) > 0 {
		t.Errorf("sent %q; want nothing", *sent)
	}
}

func TestNobodyIsTold(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	n := NewNotifier()
	if n != nil {
		t.Fatal("a notifier without a manager")
	}
	n.Ready()
	n.Reloading()
	n.Stopping(time.Second)
	n.Status("x")
	n.Alive()
	if n.Watchdog() != 0 {
		t.Error("a watchdog without a manager")
	}
}

func TestWatchdogIsForTheSuccessorToo(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/nowhere")
	t.Setenv("WATCHDOG_USEC", "30000000")
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
	if got := NewNotifier().Watchdog(); got != 30*time.Second {
		t.Errorf("watchdog %v; want 30s", got)
	}
	if pid, ok := os.LookupEnv("WATCHDOG_PID"); ok {
		t.Errorf("WATCHDOG_PID is still %s", pid)
	}
}

func TestIsJournal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(w.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	this := fmt.Sprintf("%d:%d", uint64(st.Dev), uint64(st.Ino))
	for _, c := range []struct {
		name, stream string
		out          io.Writer
		want         bool
	}{
		{"the journal", this, w, true},
		{"redirected since", this, null, false},
		{"no journal", "", w, false},
		{"no file", this, io.Discard, false},
	} {
		t.Setenv("JOURNAL_STREAM", c.stream)
		if got := IsJournal(c.out); got != c.want {
			t.Errorf("%s: IsJournal() = %v; want %v", c.name, got, c.want)
		}
	}
}

// writes keeps each write by itself.
type writes []string

func (w *writes) Write(p []byte) (int, error) {
	*w = append(*w, string(p))
	return len(p), nil
}

func TestEveryLineHasItsLevel(t *testing.T) {
	var got writes
	log := hclog.New(&hclog.LoggerOptions{Output: ForJournal(&got), Level: hclog.Trace, DisableTime: true})
	log.Trace("t")
	log.Debug("d")
	log.Info("i")
	log.Named("proxy").Warn("w", "key", "value")
	log.Error("e", "error", "one\ntwo")
	want := []string{
		"<7>[TRACE] t\n", "<7>[DEBUG] d\n", "<6>[INFO]  i\n", "<4>[WARN]  proxy: w: key=value\n",
	}
	if len(got) != 5 || !slices.Equal(got[:4], want) {
		t.Fatalf("written %q; want %q and an error", got, want)
	}
	for line := range strings.Lines(got[4]) {
		if !strings.HasPrefix(line, "<3>") {
			t.Errorf("a line of an error is %q; want its level first", line)
		}
	}
	if !strings.Contains(got[4], "two") {
		t.Errorf("the error is %q; want its second line too", got[4])
	}
}
