package fec

import (
	"crypto/subtle"
	"encoding/binary"
	"sync"
)

const (
	// kept is how many packets are remembered for a repair packet, which comes behind its own, unless some overtake others.
	kept = 4 * blockSize
	// forgetAfter is how many packets without a repair packet mean that the peer sends none any more.
	forgetAfter = 1 << 12
)

// window remembers the newest packets of a peer that protects what it sends.
type window struct {
	mu      sync.Mutex // guards all below
	packets [][]byte   // kept of them, or nil: nothing is remembered
	next    int        // where the oldest is
	since   int        // packets since the last repair packet
	closed  bool
}

// begin has packets remembered; false if they are already.
func (w *window) begin() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.packets != nil || w.closed {
		return false
	}
	w.packets, w.since = make([][]byte, kept), 0
	return true
}

// end forgets them for good; false if there are none.
func (w *window) end() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.packets != nil
	w.packets, w.closed = nil, true
	return was
}

// keep remembers p; forgot reports that it was one too many without a repair packet.
func (w *window) keep(p []byte) (forgot bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.packets == nil {
		return false
	}
	if w.since++; w.since > forgetAfter {
		w.packets = nil
		return true
	}
	w.packets[w.next] = append(w.packets[w.next][:0], p...)
	w.next = (w.next + 1) % kept
	return false
}

// repair puts the packet that was lost in place of the repair packet p and returns its length; p stays as long as it is, and QUIC
// drops it, if nothing was lost, or too much.
func (w *window) repair(p []byte) int {
	r, err := parseRepair(p)
	if err != nil {
		return len(p)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = 0
	lost, missing := uint32(0), 0
	length := r.length
	for names := r.names; len(names) > 0; names = names[nameLen:] {
		wanted := binary.BigEndian.Uint32(names)
		one := w.find(wanted)
		switch {
		case one == nil:
			lost = wanted
			missing++
		case len(one) > len(r.parity):
			return len(p)
		}
		length ^= uint16(len(one))
		subtle.XORBytes(r.parity, r.parity[:len(one)], one)
	}
	if missing != 1 || int(length) > len(r.parity) {
		return len(p)
	}
	found := r.parity[:length]
	if !isSource(found) || name(found) != lost {
		return len(p)
	}
	return copy(p, found)
}

func (w *window) find(wanted uint32) []byte {
	for _, p := range w.packets {
		if len(p) > 0 && name(p) == wanted {
			return p
		}
	}
	return nil
}
