package wslink

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// control runs f on the socket's descriptor, if c has one.
func control(c net.Conn, f func(fd int)) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { f(int(fd)) })
}

// askFor sets the congestion control of one socket (TCP_CONGESTION, tcp(7)) where the kernel has it and lets us, and returns
// what is in effect; "" if even that is not known.
func askFor(c net.Conn, algorithm string) (inEffect string) {
	control(c, func(fd int) {
		if algorithm != "" {
			_ = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, algorithm)
		}
		inEffect, _ = unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	})
	return inEffect
}

// measure returns what the kernel knows of the connection's round trips and of what the peer has acknowledged.
func measure(c net.Conn) (smoothed, least time.Duration, acked uint64) {
	control(c, func(fd int) {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		smoothed = time.Duration(info.Rtt) * time.Microsecond
		least = time.Duration(info.Min_rtt) * time.Microsecond
		acked = info.Bytes_acked
	})
	return smoothed, least, acked
}
