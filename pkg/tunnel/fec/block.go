package fec

import (
	"crypto/subtle"
	"encoding/binary"
	"net"
	"sync"
	"time"
)

const (
	// blockSize is how many packets share a repair packet: more cost less of the line, and are more often more than one that is lost.
	blockSize = 12
	// blockTime is how long after the first of them it leaves at the latest: the last packet of an answer has none behind it, and QUIC
	// takes a packet for lost an eighth of the round trip after it was due (RFC 9002 §6.1.2).
	blockTime = 8 * time.Millisecond
)

// block gathers the packets that one repair packet is for.
type block struct {
	send func(p, oob []byte, to net.Addr)

	mu    sync.Mutex // guards all below
	timer *time.Timer
	n     int
	size  int // of the longest
	to    net.Addr
	oob   []byte // of the newest: where the packets leave from
	// packet is the repair packet, of which the header will stand right in front of the XOR, as long as it is; nil: none is made.
	packet []byte
	length uint16
	names  [blockSize]uint32
	route  [routeLen]byte
}

// turn reports whether on was not so before.
func (b *block) turn(on bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.on() == on {
		return false
	}
	if on {
		b.packet = make([]byte, maxHeader+mostSource)
		b.timer = time.AfterFunc(time.Hour, b.expire) // add resets it
		b.timer.Stop()
		return true
	}
	b.timer.Stop()
	b.clear()
	b.packet = nil
	return true
}

func (b *block) on() bool { return b.packet != nil }

func (b *block) clear() {
	clear(b.packet[maxHeader : maxHeader+b.size])
	b.n, b.size, b.length = 0, 0, 0
}

func (b *block) add(p, oob []byte, to net.Addr) {
	if !isSource(p) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.on() {
		return
	}
	if b.n == 0 {
		b.timer.Reset(blockTime)
	}
	parity := b.packet[maxHeader : maxHeader+len(p)]
	subtle.XORBytes(parity, parity, p)
	b.names[b.n] = name(p)
	b.n++
	b.length ^= uint16(len(p))
	b.size = max(b.size, len(p))
	copy(b.route[:], p[1:])
	b.to, b.oob = to, append(b.oob[:0], oob...)
	if b.n == blockSize {
		b.timer.Stop()
		b.flush()
	}
}

func (b *block) expire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.on() && b.n > 0 {
		b.flush()
	}
}

func (b *block) flush() {
	begin := maxHeader - namesAt - b.n*nameLen
	p := append(b.packet[begin:begin], kind)
	p = append(p, b.route[:]...)
	p = append(p, byte(b.n))
	p = binary.BigEndian.AppendUint16(p, b.length)
	for _, n := range b.names[:b.n] {
		p = binary.BigEndian.AppendUint32(p, n)
	}
	b.send(p[:len(p)+b.size], b.oob, b.to)
	b.clear()
}
