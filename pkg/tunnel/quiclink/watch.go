package quiclink

import (
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// watcher ends a link when nothing has arrived for Config.silence; see there for why QUIC's own timer is not enough. A held
// link it ends when too much has. It is a timer and no goroutine, because most links are idle and an edge has thousands.
type watcher struct {
	link *Link

	mu      sync.Mutex // guards all below
	timer   *time.Timer
	heard   time.Time
	packets uint64
	held    bool
	stopped bool
}

func watch(l *Link) *watcher {
	w := &watcher{link: l, heard: time.Now(), held: true}
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
}

func (w *watcher) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	now, stats := time.Now(), w.link.conn.ConnectionStats()
	if stats.PacketsReceived != w.packets {
		w.heard, w.packets = now, stats.PacketsReceived
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
		w.timer.Reset(watchEvery)
	}
}
