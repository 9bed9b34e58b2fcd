package systemd

import "fmt"

// MainPID says which process is the service's main one from now on: another that
// this one has started and hands over to, or this one again. 0 says nothing.
func (n *Notifier) MainPID(pid int) {
	if n == nil || pid == 0 {
		return
	}
	n.send(fmt.Sprintf("MAINPID=%d", pid))
}
