package cluster

import (
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// A peer that was killed is found dead after seconds, or when its next process says so, and whatever is sent to it meanwhile fails.
// But a peer that lives acknowledges what it gets, whatever it has to do, within a round trip and 25 ms (RFC 9000 §13.2.1). So links
// that exchanges are about to use are probed, and one that does not acknowledge is passed over as long as there is another.
const (
	// quietEvery bounds how often a link is probed for that.
	quietEvery = 100 * time.Millisecond
	// quietAfter and quietTrips, in round trips of the link, are how long nothing must have come since a probe.
	quietAfter = 250 * time.Millisecond
	quietTrips = 4
)

// silence is what is known of a link's silence.
type silence struct {
	received uint64    // Path.Received when looked at last
	probed   time.Time // when a probe was sent last
	waits    bool      // nothing has come since then
}

// isQuiet reports whether nothing has come over the link since a probe that was sent some time ago, and probes it.
func (l *peerLink) isQuiet(now time.Time) bool {
	measured, ok := l.Link.(tunnel.Measured)
	if !ok {
		return false
	}
	received := measured.Path().Received
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.silence
	if received != s.received {
		s.received, s.waits = received, false
	}
	switch {
	case s.waits:
		return now.Sub(s.probed) > quietAfter+quietTrips*l.Info().RTT
	case now.Sub(s.probed) >= quietEvery:
		s.probed, s.waits = now, true
		measured.Probe()
	}
	return false
}
