package udpshare

import (
	"encoding/binary"
	"errors"
	"net"
)

// A packet that is passed on, with where it came from and what the kernel said of it (ECN, local address):
//
//	length of the IP (4 or 16) · IP · port, 2 bytes · length of the zone · zone · length of the control data · control data · packet
const (
	maxZone    = 32
	maxControl = 128
	maxPacket  = 1500
	maxFrame   = 1 + 16 + 2 + 1 + maxZone + 1 + maxControl + maxPacket
)

var errFrame = errors.New("udpshare: not a packet that was passed on")

// appendFrame writes a frame; false if it would be none that parseFrame takes.
func appendFrame(b []byte, from *net.UDPAddr, control, packet []byte) ([]byte, bool) {
	if n := len(from.IP); n != net.IPv4len && n != net.IPv6len || len(from.Zone) > maxZone || len(control) > maxControl || len(packet) > maxPacket {
		return b, false
	}
	b = append(append(b, byte(len(from.IP))), from.IP...)
	b = binary.BigEndian.AppendUint16(b, uint16(from.Port))
	b = append(append(b, byte(len(from.Zone))), from.Zone...)
	b = append(append(b, byte(len(control))), control...)
	return append(b, packet...), true
}

// parseFrame reads a frame; control and packet are parts of b.
func parseFrame(b []byte) (from *net.UDPAddr, control, packet []byte, err error) {
	ip, b, ok := chunk(b)
	if !ok || len(ip) != net.IPv4len && len(ip) != net.IPv6len || len(b) < 2 {
		return nil, nil, nil, errFrame
	}
	port := binary.BigEndian.Uint16(b)
	zone, b, ok := chunk(b[2:])
	if !ok || len(zone) > maxZone {
		return nil, nil, nil, errFrame
	}
	control, packet, ok = chunk(b)
	if !ok || len(control) > maxControl || len(packet) > maxPacket {
		return nil, nil, nil, errFrame
	}
	return &net.UDPAddr{IP: append(net.IP(nil), ip...), Port: int(port), Zone: string(zone)}, control, packet, nil
}

// chunk splits off what a length byte announces.
func chunk(b []byte) (head, rest []byte, ok bool) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return nil, nil, false
	}
	n := 1 + int(b[0])
	return b[1:n], b[n:], true
}
