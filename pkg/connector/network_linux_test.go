package connector

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// In a network namespace of its own, an interface that goes up and an address that comes are told.
func TestKernelTellsOfLinksAndAddresses(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	ip, err := exec.LookPath("ip")
	if err != nil {
		t.Skip("needs ip(8)")
	}
	changed := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	commands := make(chan []string)
	ready := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread, with its namespace, ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ready <- err
			return
		}
		socket, err := openNetlink()
		ready <- err
		if err != nil {
			return
		}
		go func() { ended <- readNetlink(ctx, socket, changed) }()
		for args := range commands {
			if out, err := exec.Command(ip, args...).CombinedOutput(); err != nil {
				t.Errorf("ip %v: %v %s", args, err, out)
			}
			ready <- nil
		}
	}()
	if err := <-ready; err != nil {
		t.Skipf("no network namespace: %v", err)
	}
	for _, args := range [][]string{{"link", "set", "lo", "up"}, {"address", "add", "192.0.2.1/32", "dev", "lo"}, {"link", "set", "lo", "down"}} {
		for len(changed) > 0 {
			<-changed
		}
		commands <- args
		<-ready
		select {
		case <-changed:
		case <-time.After(30 * time.Second):
			t.Errorf("nothing told of ip %v", args)
		}
	}
	close(commands)
	cancel()
	if err := <-ended; err == nil {
		t.Error("the watch outlived its context")
	}
}
