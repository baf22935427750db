package registry

import (
	"github.com/sallyport-dev/sallyport/pkg/exchange"
	"github.com/sallyport-dev/sallyport/pkg/id"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// group is the links of one run of one connector: among them, and no others, large bodies move.
type group struct {
	lanes *exchange.LaneSet
	count int // members that are up, guarded by Registry.mu
}

type groupKey struct {
	connector  id.Connector
	generation uint64
}

// Moves says how large bodies of the connector's exchanges move; nil where they do not.
func (m *Member) Moves() *exchange.Moves {
	if m.group == nil {
		return nil
	}
	return m.group.lanes.Moves()
}

// Moves is Member.Moves for whoever has the run and not the member.
func (r *Registry) Moves(connector id.Connector, generation uint64) *exchange.Moves {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.group[groupKey{connector, generation}]; g != nil {
		return g.lanes.Moves()
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
		g = &group{lanes: exchange.NewLaneSet(r.cfg.MoveThreshold, r.moved)}
		r.group[key] = g
	}
	g.count++
	g.lanes.Add(m.Link, m.Lane == tunnelv1.Lane_LANE_BULK, nil)
	return g
}

// exit takes a link out; the caller holds mu.
func (r *Registry) exit(m *Member) {
	g := m.group
	if g == nil {
		return
	}
	g.lanes.Remove(m.Link)
	if g.count--; g.count == 0 {
		delete(r.group, groupKey{m.Connector, m.Generation})
	}
}
