//go:build linux

package main

import (
	"context"
	"time"
)

// disturb reloads and upgrades until ctx ends.
func (s *soak) disturb(ctx context.Context, upgrades bool) error {
	pause := min(15*time.Second, s.length/60)
	for n := 0; wait(ctx, pause/2+time.Duration(s.random.Int64N(int64(pause)))); n++ {
		if upgrades && n%3 == 2 {
			s.upgrades++
			if err := s.proxy.upgrade(s.upgrades%2 == 0); err != nil {
				return err
			}
			s.watch.mark()
			continue
		}
		if err := s.proxy.configure(s.random); err != nil {
			return err
		}
		s.reloads++
		if err := s.proxy.reload(); err != nil {
			return err
		}
	}
	return nil
}
