package limits

import "syscall"

// Descriptors returns how many descriptors the process may have. Go has raised that
// to all that it may ask for, when it started.
func Descriptors() (uint64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	return limit.Cur, nil
}
