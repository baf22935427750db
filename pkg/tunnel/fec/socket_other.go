//go:build !linux

package fec

import "net"

// Wrap returns a connection that quic-go reads and writes through in place of conn, and what repairs on it; nil where it cannot. metrics may be nil.
func Wrap(conn net.PacketConn, metrics *Metrics) (net.PacketConn, *Socket) {
	if _, udp := conn.(*net.UDPConn); udp {
		return conn, nil // quic-go's own way to read and write is worth more
	}
	return wrapPlain(conn, metrics)
}
