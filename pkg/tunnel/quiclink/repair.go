package quiclink

import (
	"time"

	"github.com/quic-go/quic-go"
)

const (
	// protectFirst is how long the packets of a new link are protected: it carries much at once where it was opened for the load, and
	// what the line loses is not known yet.
	protectFirst = 10 * time.Second
	// protectFor is how long packets are protected after one was lost: those that are made good are not seen any more.
	protectFor = 2 * time.Minute
	// crowded is the part of the packets, one in so many, beyond which their loss means that the line is full: then what is added
	// makes it worse. It counts from enough packets on.
	crowded, enough = 20, 100
	// near is the round trip below which QUIC has sent a packet again before it could be made good.
	near = 5 * time.Millisecond
)

// losses decides by what a link loses whether its packets are protected.
type losses struct {
	sent, lost uint64
	until      time.Time
}

// look is told how many packets were sent and lost so far. A packet that comes late is not lost any more.
func (l *losses) look(now time.Time, sent, lost uint64) bool {
	newSent, newLost := sent-l.sent, int64(lost-l.lost)
	l.sent, l.lost = sent, lost
	if newLost > 0 {
		l.until = now.Add(protectFor)
	}
	if newSent >= enough && newLost*crowded > int64(newSent) {
		l.until = time.Time{}
	}
	return now.Before(l.until)
}

// repair begins to take repair packets, and to send some where that pays.
func (w *watcher) repair() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped || w.repaired != nil {
		return
	}
	now, stats := time.Now(), w.link.conn.ConnectionStats()
	w.repaired = w.link.repairs.Peer(w.link.conn.RemoteAddr())
	w.losses.until = now.Add(protectFirst)
	w.protect(now, &stats)
}

// protect judges anew whether packets are protected, and where the peer is; the caller holds mu.
func (w *watcher) protect(now time.Time, stats *quic.ConnectionStats) {
	w.repaired.Move(w.link.conn.RemoteAddr())
	w.repaired.Protect(w.losses.look(now, stats.PacketsSent, stats.PacketsLost) && stats.MinRTT >= near)
}

// CanRepair implements tunnel.Repaired.
func (l *Link) CanRepair() bool { return l.repairs != nil }

// Repair implements tunnel.Repaired.
func (l *Link) Repair() {
	if l.repairs != nil {
		l.watcher.repair()
	}
}
