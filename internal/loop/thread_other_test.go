//go:build !linux

package loop

import "testing"

// An account can't be had where the kernel doesn't keep it by thread.
type account struct{}

func newAccount(*testing.B, *Loop) *account { return &account{} }
func (*account) report(*testing.B)          {}
