//go:build !linux

package loop

import "errors"

func newURing(*Loop) (engine, error) { return nil, errors.ErrUnsupported }
