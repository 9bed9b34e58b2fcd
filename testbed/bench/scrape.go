//go:build linux

package main

import (
	"io"
	"net/http"
	"net/netip"
	"time"
)

// scrapeInterval is how often a Prometheus reads metrics unless it is told
// otherwise.
const scrapeInterval = 15 * time.Second

// scrapedOf returns of how many windows one is to have a scrape in it, so that
// there are at least as many in the measured time as there would be with a
// Prometheus.
func scrapedOf(window time.Duration) int {
	return max(1, int(scrapeInterval/max(window, 1)))
}

// scrape reads agiproxy's metrics once, after d. The channel is closed when that
// is done.
func scrape(admin netip.AddrPort, d time.Duration) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(d)
		client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Get("http://" + admin.String() + "/metrics")
		if err != nil {
			return // the run tells by itself what is wrong
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
	}()
	return done
}
