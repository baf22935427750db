package cluster

import (
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/tunnel"
)

// deaf is a link to a peer that can stop to acknowledge.
type deaf struct {
	tunnel.Link
	rtt      time.Duration
	probes   int
	received uint64
	gone     bool
}

func (d *deaf) Info() tunnel.Info { return tunnel.Info{RTT: d.rtt} }
func (d *deaf) Path() tunnel.Path { return tunnel.Path{Received: d.received} }

func (d *deaf) Probe() {
	d.probes++
	if !d.gone {
		d.received += 40
	}
}

// A peer that acknowledges nothing is passed over soon, however much it is asked; one that nobody asked anything is not.
func TestAPeerThatAcknowledgesNothingIsQuiet(t *testing.T) {
	for _, rtt := range []time.Duration{0, 80 * time.Millisecond} {
		d := &deaf{rtt: rtt}
		l := &peerLink{Link: d}
		now := time.Now()
		quiet := func(after time.Duration) bool {
			now = now.Add(after)
			return l.isQuiet(now)
		}
		for range 100 {
			if quiet(10 * time.Millisecond) {
				t.Fatal("a peer that acknowledges is quiet")
			}
		}
		if d.probes > 11 {
			t.Errorf("%d probes in a second", d.probes)
		}
		if quiet(time.Hour) {
			t.Error("a peer that nothing was sent to is quiet")
		}
		d.gone = true
		took := time.Duration(0)
		for !quiet(10 * time.Millisecond) {
			if took += 10 * time.Millisecond; took > time.Second {
				t.Fatal("a peer that is gone is not quiet")
			}
		}
		if limit := quietEvery + quietAfter + quietTrips*rtt + 20*time.Millisecond; took > limit || took < quietAfter {
			t.Errorf("quiet after %s, want %s at most", took, limit)
		}
		d.received++
		if quiet(0) {
			t.Error("it is back, and quiet")
		}
	}
}
