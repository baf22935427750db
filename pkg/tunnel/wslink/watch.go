package wslink

import (
	"time"

	"github.com/hashicorp/yamux"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// watch does what is due, until the link has ended: it has the outbox written, probes the peer, and ends the link when that has
// been silent for too long. Whatever arrives counts as life: on a saturated line the answer to a ping waits behind a lot of
// data, and a link must not die of being used. What may block has a goroutine while it does, and an idle link none.
func (l *Link) watch() {
	pings := time.NewTicker(l.conf.Ping)
	defer pings.Stop()
	silence := time.NewTimer(l.conf.Silence)
	defer silence.Stop()
	var control *yamux.Stream
	sent, pinged := make(chan error, 1), make(chan struct{}, 1)
	sending, pinging := false, false
	for {
		var ready <-chan struct{}
		if control != nil && !sending {
			ready = l.outbox.ready
		}
		select {
		case <-l.ending.Done():
			return
		case control = <-l.started:
		case <-ready:
			sending = true
			l.goroutines.Go(func() { sent <- l.sendControl(control) })
		case err := <-sent:
			sending = false
			if err != nil {
				l.fail(closedError(err))
			}
		case <-pings.C:
			if !pinging {
				pinging = true
				l.goroutines.Go(func() {
					l.ping()
					pinged <- struct{}{}
				})
			}
		case <-pinged:
			pinging = false
		case <-silence.C:
			left := l.conf.Silence - l.conn.silent()
			if left <= 0 {
				l.fail(&tunnel.ClosedError{Reason: tunnel.Reason{Code: tunnel.ReasonTimeout, Message: "the peer does not answer"}})
				return
			}
			silence.Reset(left)
		}
	}
}

// ping makes the peer say something, and measures the round trip.
func (l *Link) ping() {
	if rtt, err := l.session.Ping(); err == nil {
		l.rtt.Store(int64(rtt))
	}
}
