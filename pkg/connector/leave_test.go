package connector

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// noStreams is a link on which no stream is opened.
type noStreams struct{ tunnel.Link }

var errOpened = errors.New("a body moved to it")

func (noStreams) Open(context.Context) (tunnel.Stream, error) { return nil, errOpened }
func (noStreams) Info() tunnel.Info                           { return tunnel.Info{Congestion: tunnel.CongestionBBR} }

// A connector leaves an edge for another one and soon comes back: what runs on the old links ends in its own time, however long that
// is, and bodies of new exchanges do not move to links that are about to close.
func TestWhatRunsOnAnEdgeThatIsLeftIsNotCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{peers: newPeers(metric.New())}
		l := &links{gate: g}
		h := &held{Link: &controlclient.Link{Link: noStreams{}}, lane: tunnelv1.Lane_LANE_BULK}
		h.Lane, h.Moved, h.Edge, h.Generation = h.lane, true, "edge", 1
		moves, leave := g.peers.join(h.Link, &h.work)
		defer leave()
		l.held = append(l.held, h)
		if _, err := moves.Lanes.Move(t.Context()); !errors.Is(err, errOpened) {
			t.Fatalf("a body does not move to the link at all: %v", err)
		}
		const takes = 10 * time.Minute
		h.work.begin(&h.work.in)
		time.AfterFunc(takes, func() { h.work.in.Add(-1) })
		began, done := time.Now(), make(chan struct{})
		go func() {
			defer close(done)
			l.finish(t.Context(), linger)
		}()
		synctest.Wait()
		if _, err := moves.Lanes.Move(t.Context()); !errors.Is(err, exchange.ErrNoBulk) {
			t.Errorf("a body may move to a link that is left: %v", err)
		}
		<-done
		if d := time.Since(began); d < takes+linger*9/10 || d > takes+2*linger {
			t.Errorf("the links were given up after %s, what ran took %s", d, takes)
		}
	})
}
