package wslink

import (
	"errors"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// ping makes the peer say something at least every Config.Ping, and measures the round trip.
func (l *Link) ping() {
	ticker := time.NewTicker(l.conf.Ping)
	defer ticker.Stop()
	for {
		select {
		case <-l.ending.Done():
			return
		case <-ticker.C:
		}
		rtt, err := l.session.Ping()
		if errors.Is(err, yamux.ErrSessionShutdown) {
			return
		}
		if err == nil {
			l.rtt.Store(int64(rtt))
		}
	}
}

// watch ends the link when the peer has been silent for too long. Whatever arrives counts as life: on a saturated line
// the answer to a ping waits behind a lot of data, and a link must not die of being used.
func (l *Link) watch() {
	timer := time.NewTimer(l.conf.Silence)
	defer timer.Stop()
	for {
		select {
		case <-l.ending.Done():
			return
		case <-timer.C:
		}
		left := l.conf.Silence - l.conn.silent()
		if left <= 0 {
			l.fail(&tunnel.ClosedError{Reason: tunnel.Reason{Code: tunnel.ReasonTimeout, Message: "the peer does not answer"}})
			return
		}
		timer.Reset(left)
	}
}
