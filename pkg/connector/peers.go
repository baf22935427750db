package connector

import (
	"sync"

	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// peers knows which links lead to the same edge process: among those large bodies move, and no others.
type peers struct {
	metrics *exchange.Metrics

	mu  sync.Mutex // guards all below
	all map[peerKey]*peer
}

type peerKey struct {
	edge       string
	generation uint64
}

// peer is one edge process as long as there is a link to it.
type peer struct {
	lanes *exchange.LaneSet
	count int // guarded by peers.mu
}

func newPeers(metrics *metric.Registry) *peers {
	return &peers{metrics: exchange.NewMetrics(metrics), all: map[peerKey]*peer{}}
}

// join counts a link in until leave. moves is nil where the edge did not name the feature.
func (p *peers) join(link *controlclient.Link, w *work) (moves *exchange.Moves, leave func()) {
	if !link.Moved {
		return nil, func() {}
	}
	key := peerKey{link.Edge, link.Generation}
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.all[key]
	if one == nil {
		one = &peer{lanes: exchange.NewLaneSet(0, p.metrics)}
		p.all[key] = one
	}
	one.count++
	one.lanes.Add(link.Link, link.Lane == tunnelv1.Lane_LANE_BULK, w.moving)
	return one.lanes.Moves(), func() { p.leave(key, one, link) }
}

// retire gives no new body to a link.
func (p *peers) retire(link *controlclient.Link) {
	p.mu.Lock()
	one := p.all[peerKey{link.Edge, link.Generation}]
	p.mu.Unlock()
	if one != nil {
		one.lanes.Remove(link.Link)
	}
}

func (p *peers) leave(key peerKey, one *peer, link *controlclient.Link) {
	one.lanes.Remove(link.Link)
	p.mu.Lock()
	defer p.mu.Unlock()
	if one.count--; one.count == 0 {
		delete(p.all, key)
	}
}
