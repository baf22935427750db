package fec

import (
	"encoding/binary"
	"net"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// batchConn is a UDP socket as quic-go wants it for batches, segmentation offload and ECN.
type batchConn interface {
	net.PacketConn
	SyscallConn() (syscall.RawConn, error)
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
	ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error)
	WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error)
}

type batchReader interface {
	ReadBatch(ms []ipv4.Message, flags int) (int, error)
}

// Wrap returns a connection that quic-go reads and writes through in place of conn, and what repairs on it; nil where it cannot. metrics may be nil.
func Wrap(conn net.PacketConn, metrics *Metrics) (net.PacketConn, *Socket) {
	c, ok := conn.(batchConn)
	if !ok {
		return wrapPlain(conn, metrics)
	}
	reader, ok := conn.(batchReader)
	if !ok {
		udp, ok := conn.(net.Conn)
		if !ok {
			return conn, nil
		}
		reader = ipv4.NewPacketConn(udp.(net.PacketConn))
	}
	s := newSocket(metrics, func(p, oob []byte, to net.Addr) {
		_, _, _ = c.WriteMsgUDP(p, oob, to.(*net.UDPAddr)) // lost where the path takes nothing so long
	})
	return &batched{c, reader, s}, s
}

type batched struct {
	batchConn
	reader batchReader
	socket *Socket
}

// ReadBatch is quic-go's way to read.
func (c *batched) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	n, err := c.reader.ReadBatch(ms, flags)
	for i := range ms[:max(n, 0)] {
		m := &ms[i]
		m.N = c.socket.received(m.Buffers[0][:m.N], m.Addr)
	}
	return n, err
}

// WriteMsgUDP is quic-go's way to write: one packet, or several of one length of which the control data tells the length.
func (c *batched) WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (n, oobn int, err error) {
	n, oobn, err = c.batchConn.WriteMsgUDP(b, oob, to)
	if err == nil && c.socket.sending.Load() > 0 {
		size, rest := segments(oob)
		if size == 0 {
			size = len(b)
		}
		c.socket.sent(b, size, rest, to)
	}
	return n, oobn, err
}

// segments returns the length of packets that control data tells (UDP_SEGMENT), 0 for none, and control data without that.
func segments(oob []byte) (size int, rest []byte) {
	for at := 0; at+unix.CmsgLen(0) <= len(oob); {
		header, data, after, err := unix.ParseOneSocketControlMessage(oob[at:])
		if err != nil {
			break
		}
		next := len(oob) - len(after)
		if header.Level == unix.IPPROTO_UDP && header.Type == unix.UDP_SEGMENT && len(data) == 2 {
			return int(binary.NativeEndian.Uint16(data)), append(append(make([]byte, 0, len(oob)), oob[:at]...), oob[next:]...)
		}
		at = next
	}
	return 0, oob
}
