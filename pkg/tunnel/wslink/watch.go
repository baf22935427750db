package wslink

import (
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// watcher probes the peer, and ends the link when that has been silent for too long. Whatever arrives counts as life: on a
// saturated line the answer to a ping waits behind a lot of data, and a link must not die of being used. It is two timers and no
// goroutine, because most links are idle and an edge has thousands.
type watcher struct {
	link *Link

	mu              sync.Mutex // guards all below
	pings, silences *time.Timer
	measured        time.Time // when the round trip last was
	stopped         bool
}

// staleTrip is how old the measured round trip of a link may become that says enough by itself.
const staleTrip = 30 * time.Second

func watch(l *Link) *watcher {
	w := &watcher{link: l}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pings = time.AfterFunc(l.conf.Ping, w.ping)
	w.silences = time.AfterFunc(l.conf.Silence, w.listen)
	return w
}

// stop begins no further ping. One that is under way ends with the session.
func (w *watcher) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.pings.Stop()
	w.silences.Stop()
}

func (w *watcher) again(timer *time.Timer, in time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		timer.Reset(in)
	}
}

// ping makes a peer that says nothing by itself say something, and measures the round trip.
func (w *watcher) ping() {
	w.mu.Lock()
	stale := time.Since(w.measured) >= staleTrip
	w.mu.Unlock()
	if left := w.link.conf.Ping - w.link.conn.silent(); left > 0 && !stale {
		w.again(w.pings, left)
		return
	}
	w.link.during(func() {
		began := time.Now()
		if rtt, err := w.link.session.Ping(); err == nil {
			w.link.rtt.Store(int64(rtt))
			w.mu.Lock()
			w.measured = time.Now()
			w.mu.Unlock()
		}
		w.again(w.pings, max(w.link.conf.Ping-time.Since(began), 0))
	})
}

// listen looks how long the peer has been silent.
func (w *watcher) listen() {
	left := w.link.conf.Silence - w.link.conn.silent()
	if left <= 0 {
		w.link.fail(&tunnel.ClosedError{Reason: tunnel.Reason{Code: tunnel.ReasonTimeout, Message: "the peer does not answer"}})
		return
	}
	w.again(w.silences, left)
}
