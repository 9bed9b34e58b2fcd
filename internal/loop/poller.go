package loop

// An event is what the kernel tells of one descriptor.
type event struct {
	id       uint64
	readable bool
	writable bool
	ended    bool // the peer's side, or both, have come to an end
	failed   bool // the socket has an error
}
