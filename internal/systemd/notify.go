// Package systemd speaks the protocols of the service manager that started this
// process: what it wants to be told, the sockets that it has opened, and the marks
// that its journal reads. Without systemd there is nothing to say, and nothing
// here says anything.
//
// Sources: sd_notify(3), sd_listen_fds(3), sd-daemon(3), systemd.service(5).
package systemd

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// A Notifier tells the manager how the service is doing. A nil Notifier tells
// nobody. Its methods are safe for concurrent use.
//
// A message that can't be sent is lost: there is nobody to tell it to, and a
// manager that misses one acts on that by itself.
type Notifier struct {
	watchdog time.Duration
	send     func(string)

	mu       sync.Mutex
	ready    bool
	stopping bool
	status   string // the last that was sent
}

// NewNotifier returns a notifier for the manager that the environment names, nil
// if it names none.
func NewNotifier() *Notifier {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil
	}
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		watchdog = 0 // nonsense asks for nothing
	}
	// The manager watches whoever is the main process. One that takes this one's
	// place inherits the environment, and must not find that it is not meant.
	os.Unsetenv("WATCHDOG_PID")
	return &Notifier{
		watchdog: watchdog,
		send:     func(state string) { _, _ = daemon.SdNotify(false, state) },
	}
}

// Watchdog returns how long the manager waits for [Notifier.Alive] before it
// kills the process, 0 if it doesn't.
func (n *Notifier) Watchdog() time.Duration {
	if n == nil {
		return 0
	}
	return n.watchdog
}

// Ready says that the service serves.
func (n *Notifier) Ready() {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopping { // a stop isn't taken back
		return
	}
	n.ready = true
	n.send(daemon.SdNotifyReady)
}

// Reloading says that the configuration is being read again; Ready ends that.
// Before the first Ready it is part of the start, and not told.
func (n *Notifier) Reloading() {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.ready || n.stopping {
		return
	}
	// The manager tells by the time whether this is the reload that it asked for.
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return
	}
	n.send(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
}

// Stopping says that the service ends, and that this may take so long: the
// manager's own limit for a stop moves as far away, whatever its unit says.
func (n *Notifier) Stopping(most time.Duration) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopping = true
	n.send(fmt.Sprintf("%s\nEXTEND_TIMEOUT_USEC=%d", daemon.SdNotifyStopping, most.Microseconds()))
}

// Status gives the line that "systemctl status" shows. Saying the same again
// sends nothing.
func (n *Notifier) Status(line string) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if line == n.status {
		return
	}
	n.status = line
	n.send("STATUS=" + line)
}

// Alive says that the service works. It must come more often than once in each
// [Notifier.Watchdog].
func (n *Notifier) Alive() {
	if n == nil || n.watchdog == 0 {
		return
	}
	n.send(daemon.SdNotifyWatchdog)
}
