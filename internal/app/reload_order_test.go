package app

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"agiproxy/config"
)

func TestReloadsDoNotDisturbProbes(t *testing.T) {
	s := startServer(t, "ivr1")
	settings := "health: {interval: 100ms, fast_interval: 100ms, timeout: 90ms, fall: 6}\n"
	p := serve(t, file(settings, s.entry("")))
	eventually(t, "a probe", func() bool { return s.read(&s.probes) > 0 })
	s.setSick(true)
	began, probes := time.Now(), s.read(&s.probes)
	for i := 0; p.backend("ivr1").Healthy(); i++ {
		if time.Since(began) > patience {
			t.Fatal("a backend whose probes fail has stayed up through the reloads")
		}
		p.reload(file(settings, s.entry(fmt.Sprintf(", weight: %d", 1+i%2))))
		time.Sleep(10 * time.Millisecond)
	}
	if n, most := s.read(&s.probes)-probes, int(time.Since(began)/(90*time.Millisecond))+2; n > most {
		t.Errorf("%d probes in %v; want one in 100ms", n, time.Since(began))
	}
}

func TestReloadBeforeRun(t *testing.T) {
	one, two := startServer(t, "ivr1"), startServer(t, "ivr2")
	goes, comes := freeAddress(t), freeAddress(t)
	p := prepare(t, fileOn(goes, quick, one.entry("")))
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.reload(fileOn(comes, quick, two.entry("")))
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("Reload before Run hangs")
	}
	p.run()
	place(t, comes, "menu").wantServed("ivr2")
	if c, err := net.Dial("tcp", goes); err == nil {
		c.Close()
		t.Errorf("connected to %s, which was removed before Run", goes)
	}
	eventually(t, "a probe of ivr2", func() bool { return two.read(&two.probes) > 0 })
	if n := one.read(&one.probes); n > 0 {
		t.Errorf("%d probes of a backend that was removed before Run", n)
	}
}

func TestReloadAfterStop(t *testing.T) {
	comes := freeAddress(t)
	p := serve(t, file(unprobed, "127.0.0.1:1"))
	p.stop()
	p.ended()
	p.write(fileOn(comes, unprobed, "127.0.0.1:1"))
	if err := p.Reload(); !errors.Is(err, errStopping) {
		t.Errorf("Reload() after the end = %v; want %v", err, errStopping)
	}
	if c, err := net.Dial("tcp", comes); err == nil {
		c.Close()
		t.Error("listening after the end")
	}
}

func TestStopDuringAReload(t *testing.T) {
	reading, read := make(chan struct{}), make(chan struct{})
	p := serve(t, file(unprobed, "127.0.0.1:1"), func(o *Options) {
		inner := o.Reload
		o.Reload = func() (*config.Config, error) {
			close(reading)
			<-read
			return inner()
		}
	})
	comes := freeAddress(t)
	p.write(fileOn(comes, unprobed, "127.0.0.1:1"))
	done := make(chan error, 1)
	go func() { done <- p.Reload() }()
	<-reading
	p.stop()
	p.ended()
	close(read)
	if err := <-done; !errors.Is(err, errStopping) {
		t.Errorf("Reload() through the end = %v; want %v", err, errStopping)
	}
}

func TestReloadsTakeTurns(t *testing.T) {
	var calls atomic.Int32
	first := make(chan struct{})
	p := serve(t, file(unprobed, "{name: ivr0, address: 127.0.0.1:1}"), func(o *Options) {
		inner := o.Reload
		o.Reload = func() (*config.Config, error) {
			cfg, err := inner()
			if calls.Add(1) == 1 {
				close(first)
				time.Sleep(100 * time.Millisecond)
			}
			return cfg, err
		}
	})
	var wg sync.WaitGroup
	p.write(file(unprobed, "{name: ivr1, address: 127.0.0.1:1}"))
	wg.Go(func() { p.Reload() })
	<-first
	p.write(file(unprobed, "{name: ivr2, address: 127.0.0.1:1}"))
	wg.Go(func() { p.Reload() })
	wg.Wait()
	if p.backend("ivr2") == nil {
		t.Error("the file that was read last isn't in force")
	}
}

func TestReloadsUnderCalls(t *testing.T) {
	one, two, three := startServer(t, "ivr1"), startServer(t, "ivr2"), startServer(t, "ivr3")
	stays, sometimes := freeAddress(t), freeAddress(t)
	files := []string{
		fileOn(stays, quick, one.entry(""), two.entry("")),
		fileOn(stays+" "+sometimes, quick+"balance: round-robin", two.entry(", weight: 3"), three.entry("")),
		fileOn(sometimes+" "+stays, unprobed, three.entry(""), one.entry(", max_sessions: 100")),
		"pools: {}", // a bad one
	}
	p := serve(t, files[0])
	var held []*caller
	for range 10 {
		held = append(held, hold(t, stays, "hold", one, two, three))
	}
	var callers, reloads sync.WaitGroup
	over := make(chan struct{})
	for i := range 3 {
		reloads.Go(func() {
			for n := i; ; n++ {
				select {
				case <-over:
					return
				default:
				}
				p.write(files[n%len(files)])
				p.Reload() // may fail: a bad file, or one that another goroutine wrote
				p.get("/metrics")
				p.Status()
			}
		})
	}
	for range 4 {
		callers.Go(func() {
			for range 50 {
				place(t, stays, "menu").wantServed("")
			}
		})
	}
	callers.Wait()
	close(over)
	reloads.Wait()
	for _, s := range []*server{one, two, three} {
		s.release()
	}
	for _, c := range held {
		c.wantServed("")
	}
	p.wantOutcomes(map[string]uint64{"completed": 210})
	if n := p.log.count("configuration reloaded"); n < 10 {
		t.Errorf("%d reloads went well; want at least 10, or this test is none", n)
	}
}
