package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// host is where programs run: this machine, or a network namespace of its own that stands for a machine at one end of a
// link. A namespace has no name: it lives as long as this process holds it, so that nothing is left behind, however the
// benchmark ends.
type host struct {
	ip string
	ns *os.File // nil for this machine
	// hosts is a file that takes the place of /etc/hosts for programs in the namespace.
	hosts string
}

// within runs f on a thread that is in the host's network namespace; what f starts stays there.
func (h *host) within(f func() error) error {
	if h.ns == nil {
		return f()
	}
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	if err := unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("entering a network namespace: %w", err)
	}
	failed := f()
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		// The thread stays locked, and ends with its goroutine instead of serving others in the wrong namespace.
		return fmt.Errorf("leaving a network namespace: %w", err)
	}
	runtime.UnlockOSThread()
	return failed
}

// newNamespace makes a network namespace with an address, which only loopback has so far.
func newNamespace(ip string) (*host, error) {
	h := &host{ip: ip}
	made := make(chan error)
	go func() { // on a thread that ends with it
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- fmt.Errorf("network namespace: %w", err)
			return
		}
		var err error
		h.ns, err = os.Open("/proc/thread-self/ns/net")
		made <- err
	}()
	if err := <-made; err != nil {
		return nil, err
	}
	return h, h.run("ip link set lo up")
}

// run runs one command on the host.
func (h *host) run(line string) error {
	words := strings.Fields(line)
	return h.within(func() error {
		if text, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", line, err, text)
		}
		return nil
	})
}

// sysctl sets a value of the host's network, such as net/ipv4/tcp_congestion_control.
func (h *host) sysctl(key, value string) error {
	return h.within(func() error { return os.WriteFile("/proc/sys/"+key, []byte(value), 0o644) })
}

// address finds one on the host that is free for TCP and UDP.
func (b *bench) address(on *host) (string, error) {
	for range 100 {
		b.port++
		address := fmt.Sprintf("%s:%d", on.ip, firstPort+b.port)
		err := on.within(func() error {
			tcp, err := net.Listen("tcp", address)
			if err != nil {
				return err
			}
			udp, err := net.ListenPacket("udp", address)
			if err == nil {
				err = udp.Close()
			}
			return errors.Join(err, tcp.Close())
		})
		if err == nil {
			return address, nil
		}
	}
	return "", fmt.Errorf("no free port from %d on", firstPort)
}

const firstPort = 18000

func (h *host) close() {
	if h.ns != nil {
		_ = h.ns.Close()
	}
}
