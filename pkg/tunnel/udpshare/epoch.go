// Package udpshare owns one UDP socket of QUIC that a chain of processes shares while one takes over from another. Exactly
// one, the newest, reads it; what it reads for the connections of an older one it passes on over a Unix socket. All of them
// send on it. Which packet is whose is told by the connection ID, which names the process that made it (RFC 9000 §5.1; the
// parts of a packet that are the same in every version of QUIC are in RFC 8999). It knows no more of QUIC than that.
package udpshare

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

const (
	epochLen = 3
	// IDLen is the length of the connection IDs that Epoch makes.
	IDLen = 8
)

// Epoch names one process of the chain. It stands in front of every connection ID of its making, and is random, so that it
// tells strangers nothing but which connections one process serves. The connection ID that a client makes up for its first
// packets could hit one by chance, 6 in 10⁸; then that process refuses it, and the client tries again.
type Epoch [epochLen]byte

// NewEpoch makes one.
func NewEpoch() Epoch {
	var e Epoch
	_, _ = rand.Read(e[:]) // never fails: it ends the process instead
	return e
}

// ParseEpoch reads what String wrote.
func ParseEpoch(s string) (Epoch, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != epochLen {
		return Epoch{}, fmt.Errorf("%.16q names no process", s)
	}
	return Epoch(b), nil
}

func (e Epoch) String() string { return hex.EncodeToString(e[:]) }

// ConnectionID makes a connection ID of this process.
func (e Epoch) ConnectionID() []byte {
	id := make([]byte, IDLen)
	copy(id, e[:])
	_, _ = rand.Read(id[epochLen:]) // never fails
	return id
}

// epochOf returns the process that a packet's destination connection ID names. ok is false for a packet that can be no
// process's of ours: too short, or with a connection ID of another length than ours.
//
//	long header  (first bit 1): 1 byte, version 4, length of the ID 1, the ID …    RFC 8999 §5.1
//	short header (first bit 0): 1 byte, the ID, as long as who made it knows …      RFC 8999 §5.2
func epochOf(packet []byte) (e Epoch, ok bool) {
	at := 1
	if len(packet) > 0 && packet[0]&0x80 != 0 {
		if at = 6; len(packet) < at || packet[at-1] != IDLen {
			return Epoch{}, false
		}
	}
	if len(packet) < at+IDLen {
		return Epoch{}, false
	}
	return Epoch(packet[at : at+epochLen]), true
}
