package connector

import (
	"context"
	"slices"
	"sync"

	"github.com/sallyport-dev/sallyport/pkg/control/controlclient"
	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/wire"
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
	moves *exchange.Moves
	count int // guarded by peers.mu

	mu   sync.Mutex
	bulk []*controlclient.Link
}

var _ exchange.Lanes = (*peer)(nil)

func newPeers(metrics *metric.Registry) *peers {
	return &peers{metrics: exchange.NewMetrics(metrics), all: map[peerKey]*peer{}}
}

// join counts a link in until leave. moves is nil where the edge did not name the feature.
func (p *peers) join(link *controlclient.Link) (moves *exchange.Moves, leave func()) {
	if !link.Moved {
		return nil, func() {}
	}
	key := peerKey{link.Edge, link.Generation}
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.all[key]
	if one == nil {
		one = &peer{}
		one.moves = &exchange.Moves{Lanes: one, Continuations: exchange.NewContinuations(), Metrics: p.metrics}
		p.all[key] = one
	}
	one.count++
	if link.Lane == tunnelv1.Lane_LANE_BULK {
		one.mu.Lock()
		one.bulk = append(one.bulk, link)
		one.mu.Unlock()
	}
	return one.moves, func() { p.leave(key, one, link) }
}

func (p *peers) leave(key peerKey, one *peer, link *controlclient.Link) {
	one.mu.Lock()
	one.bulk = slices.DeleteFunc(one.bulk, func(l *controlclient.Link) bool { return l == link })
	one.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if one.count--; one.count == 0 {
		delete(p.all, key)
	}
}

// Move implements exchange.Lanes: a stream on each bulk link that opens one.
func (p *peer) Move(ctx context.Context) (*exchange.Move, error) {
	p.mu.Lock()
	links := slices.Clone(p.bulk)
	p.mu.Unlock()
	return exchange.MoveTo(ctx, links[:min(len(links), wire.MaxStripes)])
}
