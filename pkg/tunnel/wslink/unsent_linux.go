package wslink

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// unsentLimit is how much the kernel may hold that it has not sent yet.
const unsentLimit = 128 << 10

// keepUnsentSmall keeps the queue of a slow line in yamux, where streams take turns, and out of the kernel, where a
// small exchange would wait behind megabytes of a bulk one (TCP_NOTSENT_LOWAT, tcp(7)). Best effort.
func keepUnsentSmall(c net.Conn) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentLimit)
	})
}
