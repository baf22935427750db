package fec

import (
	"net"
)

// plain is a socket of which nothing is known but that it carries packets.
type plain struct {
	net.PacketConn
	socket *Socket
}

func wrapPlain(conn net.PacketConn, metrics *Metrics) (net.PacketConn, *Socket) {
	s := newSocket(metrics, func(p, _ []byte, to net.Addr) { _, _ = conn.WriteTo(p, to) })
	return &plain{conn, s}, s
}

func (c *plain) ReadFrom(p []byte) (int, net.Addr, error) {
	n, from, err := c.PacketConn.ReadFrom(p)
	if err != nil {
		return n, from, err
	}
	return c.socket.received(p[:n], from), from, nil
}

func (c *plain) WriteTo(p []byte, to net.Addr) (int, error) {
	n, err := c.PacketConn.WriteTo(p, to)
	if err == nil && c.socket.sending.Load() > 0 {
		c.socket.sent(p, len(p), nil, to)
	}
	return n, err
}

// SetReadBuffer is for quic-go, which logs that a socket has none; so is SetWriteBuffer.
func (c *plain) SetReadBuffer(bytes int) error {
	if b, ok := c.PacketConn.(interface{ SetReadBuffer(bytes int) error }); ok {
		return b.SetReadBuffer(bytes)
	}
	return nil
}

// SetWriteBuffer is as SetReadBuffer.
func (c *plain) SetWriteBuffer(bytes int) error {
	if b, ok := c.PacketConn.(interface{ SetWriteBuffer(bytes int) error }); ok {
		return b.SetWriteBuffer(bytes)
	}
	return nil
}
