//go:build !linux

package loop

func wantShortSlices() {}
