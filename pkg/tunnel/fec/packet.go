package fec

import (
	"encoding/binary"
	"errors"
)

// A repair packet, in a UDP datagram of its own:
//
//	1  kind: no packet of QUIC's, whose second bit is set (RFC 9000 §17), nor of what RFC 9443 tells from it
//	8  what stands behind the first byte of the newest source packet: its connection ID, by which a socket that processes share finds the
//	   one that is meant (package udpshare)
//	1  n, how many source packets it is for, 16 at most
//	2  the XOR of their lengths
//	4  n times: the last bytes of a source packet, which are as good as random (the end of AEAD's tag)
//	…  the XOR of the source packets, the shorter ones filled up with zeros
const (
	kind      = 0x05
	routeLen  = 8
	countAt   = 1 + routeLen
	lengthAt  = countAt + 1
	namesAt   = lengthAt + 2
	nameLen   = 4
	maxNames  = 16
	maxHeader = namesAt + maxNames*nameLen

	// A source packet is one of QUIC's short header with something in it: an acknowledgement alone is not worth its repair, and a
	// repair packet must fit where QUIC's largest (1,452 bytes) does.
	leastSource, mostSource = 64, 1452 - maxHeader
)

var errRepair = errors.New("fec: not a repair packet")

// repair is a repair packet; names and parity are parts of its bytes.
type repair struct {
	length uint16
	names  []byte
	parity []byte
}

// parseRepair reads one.
func parseRepair(p []byte) (repair, error) {
	if !isRepair(p) || len(p) < namesAt {
		return repair{}, errRepair
	}
	n := int(p[countAt])
	parityAt := namesAt + n*nameLen
	if n == 0 || n > maxNames || len(p) < parityAt+leastSource || len(p) > parityAt+mostSource {
		return repair{}, errRepair
	}
	return repair{binary.BigEndian.Uint16(p[lengthAt:]), p[namesAt:parityAt], p[parityAt:]}, nil
}

func isRepair(p []byte) bool { return len(p) > 0 && p[0] == kind }

// isSource reports whether a packet is protected.
func isSource(p []byte) bool {
	return len(p) >= leastSource && len(p) <= mostSource && p[0]&0xc0 == 0x40
}

// name tells packets apart: a wrong guess, one in 10⁸ repairs, gives a packet that QUIC cannot decrypt.
func name(p []byte) uint32 { return binary.BigEndian.Uint32(p[len(p)-nameLen:]) }
