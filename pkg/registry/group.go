package registry

import (
	"context"
	"slices"
	"sync"

	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	"github.com/sallyport-dev/sallyport/pkg/wire"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// group is the links of one run of one connector: among them, and no others, large bodies move.
type group struct {
	moves *exchange.Moves
	count int // members that are up, guarded by Registry.mu

	mu   sync.Mutex
	bulk []tunnel.Link
}

var _ exchange.Lanes = (*group)(nil)

type groupKey struct {
	connector  id.Connector
	generation uint64
}

// Moves says how large bodies of the connector's exchanges move; nil where they do not.
func (m *Member) Moves() *exchange.Moves {
	if m.group == nil {
		return nil
	}
	return m.group.moves
}

// Moves is Member.Moves for whoever has the run and not the member.
func (r *Registry) Moves(connector id.Connector, generation uint64) *exchange.Moves {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.group[groupKey{connector, generation}]; g != nil {
		return g.moves
	}
	return nil
}

// enter adds a link to its group; nil for one that cannot move anything. The caller holds mu.
func (r *Registry) enter(m *Member) *group {
	if !m.Moved {
		return nil
	}
	key := groupKey{m.Connector, m.Generation}
	g := r.group[key]
	if g == nil {
		g = &group{}
		g.moves = &exchange.Moves{
			Lanes: g, Continuations: exchange.NewContinuations(), Threshold: r.cfg.MoveThreshold, Metrics: r.moved,
		}
		r.group[key] = g
	}
	g.count++
	if m.Lane == tunnelv1.Lane_LANE_BULK {
		g.mu.Lock()
		g.bulk = append(g.bulk, m.Link)
		g.mu.Unlock()
	}
	return g
}

// exit takes a link out; the caller holds mu.
func (r *Registry) exit(m *Member) {
	g := m.group
	if g == nil {
		return
	}
	g.mu.Lock()
	g.bulk = slices.DeleteFunc(g.bulk, func(l tunnel.Link) bool { return l == m.Link })
	g.mu.Unlock()
	if g.count--; g.count == 0 {
		delete(r.group, groupKey{m.Connector, m.Generation})
	}
}

// Move implements exchange.Lanes: a stream on each bulk link that opens one.
func (g *group) Move(ctx context.Context) (*exchange.Move, error) {
	g.mu.Lock()
	links := slices.Clone(g.bulk)
	g.mu.Unlock()
	return exchange.MoveTo(ctx, links[:min(len(links), wire.MaxStripes)])
}
