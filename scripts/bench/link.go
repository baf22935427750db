package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// line is what lies between two hosts: the same in both directions.
type line struct {
	// Delay is one way, so half of the round trip.
	Delay time.Duration `json:"delay_ns"`
	// Rate is in Mbit/s, 0 for none.
	Rate float64 `json:"mbit_s"`
	// Loss is the probability that a packet is lost.
	Loss float64 `json:"loss"`
	// Queue is how long a packet may wait for the rate; one that would wait longer is dropped at the tail.
	Queue time.Duration `json:"queue_ns"`
}

func (l line) String() string {
	rate := "no rate limit"
	if l.Rate > 0 {
		rate = fmt.Sprintf("%g Mbit/s", l.Rate)
	}
	return fmt.Sprintf("%s, %d ms round trip, %g %% loss, %d ms queue", rate, 2*l.Delay.Milliseconds(), l.Loss*100, l.Queue.Milliseconds())
}

// link joins two namespaces by a TUN device in each and carries the packets between them in user space: it works where
// the kernel has no netem.
type link struct {
	near, far *host
	devices   [2]*os.File
	pumps     sync.WaitGroup
}

const (
	nearIP  = "10.99.0.1"
	farIP   = "10.99.0.2"
	maxMTU  = 1500
	device  = "bench0"
	backlog = 1 << 16 // packets on their way, more than any line here holds
)

// errNoLink says why no link can be made here.
var errNoLink = errors.New("needs root, iproute2 and /dev/net/tun")

// newLink makes two namespaces and joins them by l. Kernel is the default congestion control of both.
func newLink(l line, kernel string) (_ *link, err error) {
	if _, missing := exec.LookPath("ip"); missing != nil || os.Geteuid() != 0 {
		return nil, errNoLink
	}
	k := &link{}
	defer func() {
		if err != nil {
			k.close()
		}
	}()
	if k.near, err = newNamespace(nearIP); err != nil {
		return nil, err
	}
	if k.far, err = newNamespace(farIP); err != nil {
		return nil, err
	}
	for i, h := range []*host{k.near, k.far} {
		peer := []string{farIP, nearIP}[i]
		if k.devices[i], err = h.openTUN(device); err != nil {
			return nil, err
		}
		if err = errors.Join(
			h.run(fmt.Sprintf("ip addr add %s peer %s dev %s", h.ip, peer, device)),
			h.run(fmt.Sprintf("ip link set %s mtu %d up", device, maxMTU)),
			h.sysctl("net/ipv4/tcp_congestion_control", kernel),
		); err != nil {
			return nil, err
		}
	}
	k.pumps.Go(func() { pump(k.devices[0], k.devices[1], l, 1) })
	k.pumps.Go(func() { pump(k.devices[1], k.devices[0], l, 2) })
	return k, nil
}

// openTUN makes a TUN device in the host's namespace; it is gone when the file is closed.
func (h *host) openTUN(name string) (*os.File, error) {
	var file *os.File
	err := h.within(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("/dev/net/tun: %w", err)
		}
		request, err := unix.NewIfreq(name)
		if err == nil {
			request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
		}
		if err != nil {
			_ = unix.Close(fd)
			return fmt.Errorf("TUN device: %w", err)
		}
		file = os.NewFile(uintptr(fd), name)
		return nil
	})
	return file, err
}

// packet is due at the other end at a time.
type packet struct {
	bytes []byte
	due   time.Time
}

// pump carries packets one way until a device is closed. The seed makes losses the same in each run.
func pump(in, out *os.File, l line, seed uint64) {
	chance := rand.New(rand.NewPCG(seed, 0))
	onTheWay := make(chan packet, backlog)
	free := sync.Pool{New: func() any { return make([]byte, maxMTU) }}
	var delivery sync.WaitGroup
	delivery.Go(func() {
		runtime.LockOSThread() // it sleeps in the kernel: the runtime's timers are a millisecond coarse
		for p := range onTheWay {
			if wait := time.Until(p.due); wait > 0 {
				span := unix.NsecToTimespec(wait.Nanoseconds())
				_ = unix.Nanosleep(&span, nil)
			}
			_, _ = out.Write(p.bytes)
			free.Put(p.bytes[:maxMTU]) //nolint:staticcheck // a slice header a packet is no matter here
		}
	})
	var clear time.Time // when the line has sent what waits
	for {
		buf := free.Get().([]byte)
		n, err := in.Read(buf)
		if err != nil {
			break
		}
		now := time.Now()
		if clear.Before(now) {
			clear = now
		}
		if chance.Float64() < l.Loss || (l.Rate > 0 && clear.Sub(now) > l.Queue) {
			free.Put(buf) //nolint:staticcheck // as above
			continue
		}
		if l.Rate > 0 {
			clear = clear.Add(time.Duration(float64(n*8) / l.Rate * float64(time.Microsecond)))
		}
		onTheWay <- packet{buf[:n], clear.Add(l.Delay)}
	}
	close(onTheWay)
	delivery.Wait()
}

// close takes the link and its namespaces away.
func (k *link) close() {
	for _, d := range k.devices {
		if d != nil {
			_ = d.Close()
		}
	}
	k.pumps.Wait()
	for _, h := range []*host{k.near, k.far} {
		if h != nil {
			h.close()
		}
	}
}
