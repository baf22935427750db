package wslink

import (
	"net"

	"golang.org/x/sys/unix"
)

// unsentLimit is how much the kernel may hold that it has not sent yet.
const unsentLimit = 128 << 10

// keepUnsentSmall keeps the queue of a slow line in yamux, where streams take turns, and out of the kernel, where a
// small exchange would wait behind megabytes of a bulk one (TCP_NOTSENT_LOWAT, tcp(7)). Best effort.
func keepUnsentSmall(c net.Conn) {
	control(c, func(fd int) { _ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentLimit) })
}
