package proxy

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// rescued are calls that were saved, or were to be, with what they count besides
// outcomes and attempts.
var rescued = []struct {
	name, pool, dialogue string
	want                 map[string]float64
	sums                 map[string]time.Duration // give or take 100 ms
}{
	{"served at once", "", "asterisk header\nivr1 expects header\nwait 300ms" + servedBy("ivr1"), map[string]float64{
		"first_command_duration_seconds ivr1 ivr": 1,
	}, map[string]time.Duration{"first_command_duration_seconds ivr1 ivr": 300 * time.Millisecond}},
	{"no command", "", "asterisk header\nivr1 expects header\nivr1 closes\nasterisk expects close\nasterisk closes", map[string]float64{}, nil},
	{"replayed after a reset", "", "asterisk header\nivr1 expects header\nivr1 resets\nivr2 expects header\nwait 200ms" + servedBy("ivr2"), map[string]float64{
		"replays_total ivr": 1, "first_command_duration_seconds ivr2 ivr": 1,
	}, map[string]time.Duration{"first_command_duration_seconds ivr2 ivr": 200 * time.Millisecond}},
	{"another backend before the header was sent", "", "ivr1 refuses\nasterisk header" + servedBy("ivr2"), map[string]float64{
		"first_command_duration_seconds ivr2 ivr": 1,
	}, nil},
	{"replayed after a silence, and after a close", "replay unanswered first_command_timeout 1s",
		"asterisk header\nivr1 expects header\nivr2 expects header\nivr2 closes" + servedBy("ivr3"), map[string]float64{
			"replays_total ivr": 2, "first_command_duration_seconds ivr3 ivr": 1,
		}, nil},
	{"resumed", "on_backend_loss resume", "asterisk header" + lostCall + "\nivr2 expects header\nwait 200ms" + servedBy("ivr2"), map[string]float64{
		"backend_losses_total ivr1 ivr": 1,
		"resumed_sessions_total ivr":    1, "first_command_duration_seconds ivr1 ivr": 1, "first_command_duration_seconds ivr2 ivr": 1,
	}, map[string]time.Duration{
		"dispatch_duration_seconds ivr":           0, // to the first command of all
		"first_command_duration_seconds ivr2 ivr": 200 * time.Millisecond,
	}},
	{"resumed twice", "on_backend_loss resume", "asterisk header" + lostCall + strings.ReplaceAll(lostCall, "ivr1", "ivr2") + servedBy("ivr3"), map[string]float64{
		"backend_losses_total ivr1 ivr": 1, "backend_losses_total ivr2 ivr": 1,
		"resumed_sessions_total ivr": 2, "first_command_duration_seconds ivr1 ivr": 1,
		"first_command_duration_seconds ivr2 ivr": 1, "first_command_duration_seconds ivr3 ivr": 1,
	}, nil},
	{"resumed after a silence", "on_backend_loss resume first_command_timeout 1s", "asterisk header\nivr1 expects header" + servedBy("ivr2"), map[string]float64{
		"backend_losses_total ivr1 ivr": 1,
		"resumed_sessions_total ivr":    1, "first_command_duration_seconds ivr2 ivr": 1,
	}, nil},
	{"nobody left to resume", "on_backend_loss resume", "ivr2 refuses\nivr3 refuses\nasterisk header" + lostCall + told("BACKENDLOST"), map[string]float64{
		"backend_losses_total ivr1 ivr":           1,
		"first_command_duration_seconds ivr1 ivr": 1,
	}, nil},
	{"hangup while a command ran", "", "asterisk header\nivr1 expects header\nivr1 EXEC Wait 1\nasterisk expects EXEC Wait 1\nasterisk HANGUP\n" +
		"asterisk 200 result=-1\nivr1 expects HANGUP\nivr1 closes\nasterisk closes", map[string]float64{
		"hangups_in_command_total ivr": 1, "first_command_duration_seconds ivr1 ivr": 1,
	}, nil},
	{"hangup behind a reply of -1", "", "asterisk header\nivr1 expects header\nivr1 WAIT FOR DIGIT 5000\nasterisk expects WAIT FOR DIGIT 5000\nasterisk 200 result=-1\n" +
		"wait 40ms\nasterisk HANGUP\nivr1 expects 200 result=-1\nivr1 expects HANGUP\nasterisk HANGUP\nivr1 expects HANGUP\nivr1 closes\nasterisk closes", map[string]float64{
		"hangups_in_command_total ivr": 1, "first_command_duration_seconds ivr1 ivr": 1,
	}, nil},
	{"hangup between commands", "", "asterisk header\nivr1 expects header\nivr1 NOOP\nasterisk expects NOOP\nasterisk 200 result=0\nasterisk HANGUP\n" +
		"ivr1 expects 200 result=0\nivr1 expects HANGUP\nivr1 closes\nasterisk closes", map[string]float64{
		"first_command_duration_seconds ivr1 ivr": 1,
	}, nil},
	{"goodbye of a call that was served", "", "asterisk header" + strings.Replace(servedBy("ivr1"), "asterisk closes", "asterisk HANGUP\nasterisk closes", 1), map[string]float64{
		"first_command_duration_seconds ivr1 ivr": 1,
	}, nil},
	{"waited for a backend", "queue_timeout 10s queue_limit 1", "ivr1 goes down\nivr2 goes down\nivr3 goes down\nasterisk header\nwait 3s\nivr1 comes up" + servedBy("ivr1"), map[string]float64{
		"queue_duration_seconds ivr": 1, "first_command_duration_seconds ivr1 ivr": 1,
	}, map[string]time.Duration{"queue_duration_seconds ivr": 3 * time.Second, "first_command_duration_seconds ivr1 ivr": 0}},
	{"waited in vain", "queue_timeout 2s queue_limit 1", "ivr1 goes down\nivr2 goes down\nivr3 goes down\nasterisk header" + told("QUEUETIMEOUT"), map[string]float64{
		"queue_duration_seconds ivr": 1,
	}, map[string]time.Duration{"queue_duration_seconds ivr": 2 * time.Second}},
	{"left the queue", "queue_timeout 10s queue_limit 1", "ivr1 goes down\nivr2 goes down\nivr3 goes down\nasterisk header\nwait 4s\nasterisk closes", map[string]float64{
		"queue_duration_seconds ivr": 1,
	}, map[string]time.Duration{"queue_duration_seconds ivr": 4 * time.Second}},
	{"queue was full", "queue_timeout 10s", "ivr1 goes down\nivr2 goes down\nivr3 goes down\nasterisk header" + told("QUEUEFULL"), map[string]float64{}, nil},
	{"waited twice", "queue_timeout 10s queue_limit 1", "ivr1 goes down\nivr2 goes down\nivr3 goes down\nasterisk header\nwait 2s\nivr1 refuses\nivr1 comes up\nwait 1s\n" +
		"ivr2 comes up" + servedBy("ivr2"), map[string]float64{
		"queue_duration_seconds ivr": 2, "first_command_duration_seconds ivr2 ivr": 1,
	}, map[string]time.Duration{"queue_duration_seconds ivr": 3 * time.Second}},
	{"ejected", "ejection 1", "ivr1 refuses\nasterisk header" + servedBy("ivr2"), map[string]float64{
		"backend_ejections_total ivr1 ivr": 1, "first_command_duration_seconds ivr2 ivr": 1,
	}, nil},
	{"ejected in mid-call", "ejection 1", "asterisk header" + lostCall + told("BACKENDLOST"), map[string]float64{
		"backend_losses_total ivr1 ivr":    1,
		"backend_ejections_total ivr1 ivr": 1, "first_command_duration_seconds ivr1 ivr": 1,
	}, nil},
	{"closed in mid-call, which is the script's fault", "ejection 1", "asterisk header\nivr1 expects header\nivr1 NOOP\nasterisk expects NOOP\nivr1 closes\n" +
		"asterisk expects GET FULL VARIABLE agiproxy-*\nasterisk 200 result=0\nasterisk 200 result=1 (agiproxy-*)" + told("BACKENDLOST"), map[string]float64{
		"backend_losses_total ivr1 ivr":           1,
		"first_command_duration_seconds ivr1 ivr": 1,
	}, nil},
	{"served again after a failure", "ejection 2", "asterisk header\nivr1 expects header\nivr1 resets" + servedBy("ivr2"), map[string]float64{
		"replays_total ivr": 1, "first_command_duration_seconds ivr2 ivr": 1,
	}, nil},
}

func TestRescueIsCounted(t *testing.T) {
	for _, c := range rescued {
		t.Run(c.name, func(t *testing.T) {
			p := newPlayer(t)
			if c.pool != "" {
				p.step("pool", c.pool)
			}
			p.step("backends", "ivr1 ivr2 ivr3")
			reg := p.count()
			p.run(c.dialogue)
			p.until("the record", func() bool { return p.record != nil })
			got := values(t, reg)
			maps.DeleteFunc(got, func(name string, _ float64) bool {
				name, _, _ = strings.Cut(name, " ")
				switch name {
				case "replays_total", "resumed_sessions_total", "hangups_in_command_total", "first_command_duration_seconds",
					"queue_duration_seconds", "backend_ejections_total", "backend_losses_total":
					return false
				}
				return true
			})
			if !maps.Equal(got, c.want) {
				t.Errorf("counted %v; want %v", got, c.want)
			}
			for name, want := range c.sums {
				if sum := sumOf(t, reg, "agiproxy_"+name); (sum - want).Abs() > 100*time.Millisecond {
					t.Errorf("%s: %v; want %v, give or take a few round trips", name, sum, want)
				}
			}
			p.finish()
		})
	}
}

func TestQueueLengthIsCollected(t *testing.T) {
	p := newPlayer(t)
	p.step("pool", "max_sessions 1 queue_timeout 10s queue_limit 5")
	p.step("backends", "ivr1")
	reg := p.count()
	p.run("asterisk header\nivr1 expects header\nasterisk2 header\nasterisk3 header\nwait 10ms")
	if n := gauge(t, reg, "agiproxy_queue_length"); n != 2 {
		t.Errorf("agiproxy_queue_length = %v with two who wait; want 2", n)
	}
	p.run("asterisk2 closes\nasterisk3 HANGUP\nasterisk3 closes\nwait 10ms")
	if n := gauge(t, reg, "agiproxy_queue_length"); n != 0 {
		t.Errorf("agiproxy_queue_length = %v when they have left; want 0", n)
	}
	p.finish()
}

// gauge returns the value of the only series of that name.
func gauge(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.Metric[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no series %s", name)
	return 0
}

// What several workers count is added up, this too.
func TestCountsOfWorkersAreAddedUp(t *testing.T) {
	s := newStage(Options{}, limits())
	for range 2 {
		w := s.server.NewWorker(&s.host)
		p := w.counts.pool("ivr")
		p.replays, p.resumed, p.cutShort = 1, 2, 3
		p.queued.observe(time.Second)
		p.backend("ivr1").first.observe(time.Second)
	}
	p := s.server.counts().pool("ivr")
	queued, _, _ := p.queued.cumulative()
	first, _, _ := p.backend("ivr1").first.cumulative()
	if p.replays != 2 || p.resumed != 4 || p.cutShort != 6 || queued != 2 || first != 2 {
		t.Errorf("replays %d, resumed %d, cut short %d, queued %d, first commands %d; want 2, 4, 6, 2, 2", p.replays, p.resumed, p.cutShort, queued, first)
	}
}
