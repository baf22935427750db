package cluster

import (
	"context"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// EdgeStatus is an edge as operators see it.
type EdgeStatus struct {
	Peer
	// State is "live", "draining" or "lapsed"; of this edge itself "cut off" while its heartbeats are not written.
	State string
	// Leases is how many this edge knows of it, of any generation.
	Leases int
	// Heartbeat is how long ago its heartbeat was written, as far as this edge knows; -1: never.
	Heartbeat time.Duration
	// Linked is set while there is a peer link to it.
	Linked bool
}

// Status lists all edges as this one knows them, itself first. It asks nobody, so that it answers with the database away too.
func (h *Heart) Status(context.Context) (self id.Edge, edges []EdgeStatus, err error) {
	mine := EdgeStatus{Peer: h.Self(), Heartbeat: -1}
	mine.State, mine.Ahead = mine.Peer.State(), h.cfg.Clock.Ahead()
	if h.written.Load() != 0 {
		mine.Heartbeat = h.Age()
	}
	if mine.Heartbeat < 0 || mine.Heartbeat > LeaseLife {
		mine.State = "cut off"
	}
	if h.cfg.Lag != nil {
		mine.Lag = h.cfg.Lag()
	}
	return h.cfg.Members.Self(), append([]EdgeStatus{mine}, h.cfg.Members.status(&mine)...), nil
}

// Holders lists what other edges hold of a site, as Members does.
func (h *Heart) Holders(tenant id.Tenant, site id.Site) []Holding {
	return h.cfg.Members.Holders(tenant, site)
}

// status lists the other edges and counts this one's own leases.
func (m *Members) status(mine *EdgeStatus) (out []EdgeStatus) {
	for _, p := range m.Peers() {
		out = append(out, EdgeStatus{Peer: p, State: p.State()})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	mine.Leases = len(m.own.held)
	for i := range out {
		s := &out[i]
		if o := m.others[s.ID]; o != nil {
			s.Leases, s.Linked, s.Heartbeat = len(o.held), o.linked, -1
			if !o.beat.IsZero() {
				s.Heartbeat = time.Since(o.beat)
			}
		}
	}
	return out
}
