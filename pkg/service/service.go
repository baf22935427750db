// Package service owns how the two programs run under systemd: their units, and telling the service manager how it goes
// (sd_notify(3)), and acting on its signals. It does not decide when a program is ready, and runs nothing but systemctl when it is asked to install.
package service

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Notifier tells the service manager how this process fares. Without one (no NOTIFY_SOCKET) every method does nothing.
type Notifier struct {
	send func(state string)
	// every is how often the watchdog wants to hear, 0 for never.
	every time.Duration
	// quiet is set when another process speaks for the unit.
	quiet atomic.Bool
	// heard says that there is a service manager.
	heard bool
}

// NewNotifier reads what the service manager set in the environment.
func NewNotifier() *Notifier {
	n := &Notifier{heard: os.Getenv("NOTIFY_SOCKET") != ""}
	n.send = func(state string) {
		if !n.quiet.Load() {
			_, _ = daemon.SdNotify(false, state) // a manager that is gone is no fault of ours
		}
	}
	if limit, err := daemon.SdWatchdogEnabled(false); err == nil && limit > 0 {
		n.every = limit / 2
	}
	return n
}

// Ready says that the process does its work; systemd takes the unit as started.
func (n *Notifier) Ready() { n.send(daemon.SdNotifyReady) }

// Stopping says that the process finishes what it has.
func (n *Notifier) Stopping() { n.send(daemon.SdNotifyStopping) }

// MainPID says that another process of the unit is the one to watch from now on. This one is not heard any more, and says nothing.
func (n *Notifier) MainPID(pid int) {
	n.send(fmt.Sprintf("MAINPID=%d", pid))
	n.quiet.Store(true)
}

// statusEvery is how often the status line is looked at where no watchdog wants more.
const statusEvery = 2 * time.Second

// Watch feeds the watchdog and keeps the status line current until ctx ends; it returns nil then. status is called each time
// before the watchdog is fed: a process in which it hangs is restarted.
func (n *Notifier) Watch(ctx context.Context, status func() string) error {
	if !n.heard {
		<-ctx.Done()
		return nil
	}
	every := statusEvery
	if n.every > 0 {
		every = min(every, n.every)
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	shown := ""
	for {
		if line := status(); line != shown {
			n.send(fmt.Sprintf("STATUS=%s", line))
			shown = line
		}
		if n.every > 0 {
			n.send(daemon.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
