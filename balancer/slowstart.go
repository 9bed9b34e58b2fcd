package balancer

// cameBack is called when b can be used again.
func (b *Backend) cameBack() {}
