package systemd

import "fmt"

// MainPID says which process is the service's main one from now on: this one, which
// has taken over, or another that has taken over from this one. 0 says nothing. A
// manager whose NotifyAccess= is main believes no other than the main process.
func (n *Notifier) MainPID(pid int) {
	if n == nil || pid == 0 {
		return
	}
	n.send(fmt.Sprintf("MAINPID=%d", pid))
}
