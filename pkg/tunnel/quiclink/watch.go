package quiclink

import (
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/fec"
)

// watcher ends a link when nothing has arrived for Config.silence; see there for why QUIC's own timer is not enough. A held
// link it ends when too much has. It is a timer and no goroutine, because most links are idle and an edge has thousands.
type watcher struct {
	link *Link

	mu      sync.Mutex // guards all below
	timer   *time.Timer
	heard   time.Time
	looked  time.Time
	packets uint64
	held    bool
	stopped bool
	// repaired is the peer to whom packets are repaired; nil before Repair.
	repaired *fec.Peer
	losses   losses
}

func watch(l *Link) *watcher {
	w := &watcher{link: l, heard: l.began, looked: l.began, held: true}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(heldEvery, w.look)
	return w
}

// stop returns when no look is under way and none will be.
func (w *watcher) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
	if w.repaired != nil {
		w.repaired.Close()
	}
}

func (w *watcher) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	now, stats := time.Now(), w.link.conn.ConnectionStats()
	next := w.listen(now, stats.PacketsReceived)
	if w.repaired != nil {
		w.protect(now, &stats)
	}
	if w.link.hold.Admitted() {
		w.held = false
	}
	switch {
	case w.held && stats.BytesReceived > heldTraffic:
		w.link.fail(&tunnel.ClosedError{Reason: w.link.hold.Exceeded()})
	case w.link.strays():
		w.link.fail(&tunnel.ClosedError{Reason: tunnel.Reason{Code: tunnel.ReasonProtocol, Message: "a link has no one-way streams"}})
	case now.Sub(w.heard) >= w.link.conf.silence():
		w.link.fail(&tunnel.ClosedError{Reason: tunnel.Reason{Code: tunnel.ReasonTimeout, Message: "the peer does not answer"}})
	case w.held:
		w.timer.Reset(heldEvery)
	default:
		w.timer.Reset(next)
	}
}

// listen notes when the peer was heard last and tells when to look again. quic-go counts packets and does not say when they came.
// When a stream was read is known, so that a link that rests is looked at seldom, and none is believed to live for longer than
// watchEvery too much: not one that sends nothing but acknowledgements, not one whose last ones came early in a rest, and not one
// that was to be heard by now. So a peer may have been heard up to restEvery later than is noted. QUIC's keep-alive, which
// goes by the packet itself, may then come too late, and the peer is asked here: once more at each of the last looks, of which a bad
// line may lose some. Where its window is full quic-go sends none of them, but its own probes.
func (w *watcher) listen(now time.Time, packets uint64) (next time.Duration) {
	since, came := w.looked, packets != w.packets
	w.looked, w.packets = now, packets
	// What was read may have waited here for long: it tells when packets came only if some did.
	if read := w.link.lastRead(); came && read.After(since) {
		w.heard = read
	} else if came {
		w.heard = since.Add(min(now.Sub(since), watchEvery))
		return watchEvery
	}
	calm := w.heard.Add(w.link.conf.silence() - 4*watchEvery).Sub(now)
	if calm <= 0 {
		w.link.Probe()
	}
	return max(min(restEvery, calm), watchEvery)
}
