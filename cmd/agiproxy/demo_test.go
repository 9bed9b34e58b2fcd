package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The whole of it, on real sockets: a server dies, and no call fails.
func TestDemoLosesNoCall(t *testing.T) {
	var stdout, stderr strings.Builder
	code := run([]string{"demo", "--duration", "3s", "--listen", "127.0.0.1:0"}, &stdout, &stderr)
	if code != 0 || stderr.Len() > 0 {
		t.Errorf("exit code %d, standard error %q; want 0 and none", code, stderr.String())
	}
	for _, want := range []string{
		`(?m)^agiproxy listens on 127\.0\.0\.1:\d+ for 8 simulated callers, in front of 3 FastAGI servers of this process$`,
		`(?m)^   same => n,AGI\(agi://127\.0\.0\.1:\d+/welcome\)$`,
		`(?m)^ 0:0\d  ivr2 is killed, and 8 callers call in this moment$`,
		`(?m)^ 0:0\d  agiproxy sees that ivr2 is down; \d+ calls? had met it dead, and went on to another server$`,
		`(?m)^ 0:0\d  ivr2 is started again$`,
		`(?m)^ 0:02  calls: \d+ under way, \d+ served, 0 failed, \d+ moved; served by ivr1 \d+, ivr2 \d+.*, ivr3 \d+.*$`,
		`(?m)^demo: \d\d+ calls served, 0 failed; [12] servers? killed, [1-9]\d* calls? met a dead server and went on to another$`,
	} {
		if !regexp.MustCompile(want).MatchString(stdout.String()) {
			t.Errorf("no line is like %s", want)
		}
	}
	if t.Failed() {
		t.Logf("printed:\n%s", stdout.String())
	}
}

func TestDemoSaysThatItsPortIsBusy(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var stdout, stderr strings.Builder
	code := run([]string{"demo", "--duration", "1s", "--listen", ln.Addr().String()}, &stdout, &stderr)
	if got := stderr.String(); code != 1 || !strings.Contains(got, "address already in use; choose another address, such as --listen :4600\n") {
		t.Errorf("exit code %d, standard error %q; want 1, and how to choose another address", code, got)
	}
}

func TestVerdict(t *testing.T) {
	for _, test := range []struct {
		counts totals
		want   string // of the error; "" is none
	}{
		{totals{served: 9, moved: 2, kills: 1}, ""},
		{totals{served: 9, failed: 1}, "demo: 1 call failed"},
		{totals{}, "demo: no call was served; there was too little time"},
	} {
		b := newBoard()
		b.count(func(t *totals) { *t = test.counts })
		got := ""
		if err := verdict(new(strings.Builder), b); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("verdict of %+v: %q; want %q", test.counts, got, test.want)
		}
	}
}

func exampleScene() *scene {
	return &scene{
		elapsed: 23 * time.Second,
		listen:  ":4577", target: "192.0.2.7:4577", metrics: "127.0.0.1:9577", callers: 8,
		servers: []serverView{
			{name: "ivr1", address: "127.0.0.1:14581", alive: true, state: "up", sessions: 4, served: 27},
			{name: "ivr2", address: "127.0.0.1:14582", alive: false, state: "down", sessions: 0, served: 11},
			{name: "ivr3", address: "127.0.0.1:14583", alive: true, state: "busy", sessions: 5, served: 25},
		},
		sessions: 9,
		totals:   totals{underWay: 8, served: 62, moved: 6, kills: 1},
		events: []event{
			{8 * time.Second, "callers hold off until ivr2 has no call: a call that it has begun would die with it"},
			{10 * time.Second, "ivr2 is killed, and 8 callers call in this moment"},
			{11 * time.Second, "agiproxy sees that ivr2 is down; 6 calls had met it dead, and went on to another server"},
		},
		passed: 3,
	}
}

func TestFrame(t *testing.T) {
	for _, test := range []struct {
		width, height int
		colored       bool
	}{
		{100, 26, false},
		{100, 26, true},
		{60, 14, false},
		{40, 8, false},
	} {
		name := fmt.Sprintf("frame-%dx%d.txt", test.width, test.height)
		if test.colored {
			name = "color-" + name
		}
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			lines := exampleScene().frame(test.width, test.height)
			for _, l := range lines {
				rendered := l.render(test.width, test.colored)
				if n := utf8.RuneCountInString(l.render(test.width, false)); n > test.width {
					t.Errorf("%d characters in a line; want %d at most: %s", n, test.width, rendered)
				}
				b.WriteString(rendered + "\n")
			}
			if len(lines) > test.height {
				t.Errorf("%d lines; want %d at most", len(lines), test.height)
			}
			file := filepath.Join("testdata", name)
			if *update {
				if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if b.String() != string(want) {
				t.Errorf("the frame is\n%s\nwant (-update rewrites it)\n%s", b.String(), want)
			}
		})
	}
}

// Every size has a frame that fits, also a silly one.
func TestFrameFitsAnyTerminal(t *testing.T) {
	sc := exampleScene()
	for width := range 130 {
		for height := range 50 {
			lines := sc.frame(width, height)
			if len(lines) > height {
				t.Fatalf("%d×%d: %d lines", width, height, len(lines))
			}
			for _, l := range lines {
				if n := utf8.RuneCountInString(l.render(width, false)); n > width {
					t.Fatalf("%d×%d: a line of %d characters", width, height, n)
				}
			}
		}
	}
}

func TestBoardKeepsTheLastEvents(t *testing.T) {
	b := newBoard()
	for i := range maxEvents + 10 {
		b.event("%d", i)
	}
	last, passed := b.story()
	if passed != maxEvents+10 || len(last) != maxEvents || last[0].text != "10" {
		t.Errorf("story(): %d events from %q on, of %d; want %d from 10 on", len(last), last[0].text, passed, maxEvents)
	}
}
