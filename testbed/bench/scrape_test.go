//go:build linux

package main

import (
	"testing"
	"time"
)

func TestScrapesAreAsFrequentAsAPrometheus(t *testing.T) {
	for window, want := range map[time.Duration]int{
		400 * time.Millisecond: 37,
		2 * time.Second:        7,
		3 * time.Second:        5,
		15 * time.Second:       1,
		time.Minute:            1,
		0:                      int(scrapeInterval),
	} {
		if got := scrapedOf(window); got != want {
			t.Errorf("scrapedOf(%v) = %d; want %d", window, got, want)
		}
	}
}
