package wslink

import (
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// watch runs what has its time, until the link has ended. It ends the link when the peer has been silent for too long.
// Whatever arrives counts as life: on a saturated line the answer to a ping waits behind a lot of data, and a link must not
// die of being used.
func (l *Link) watch() {
	pings := time.NewTicker(l.conf.Ping)
	defer pings.Stop()
	silence := time.NewTimer(l.conf.Silence)
	defer silence.Stop()
	idle := make(chan struct{}, 1) // holds a token while no ping is under way
	idle <- struct{}{}
	for {
		select {
		case <-l.ending.Done():
			return
		case <-pings.C:
			select {
			case <-idle:
				l.goroutines.Go(func() {
					l.ping()
					idle <- struct{}{}
				})
			default:
			}
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
