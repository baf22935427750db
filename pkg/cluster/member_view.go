package cluster

import (
	"maps"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// Linked notes whether there is a link to a peer. While there is, the peer lives whatever the database says of it.
func (m *Members) Linked(edge id.Edge, up bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.others[edge]
	if o == nil {
		if !up || edge == m.self {
			return
		}
		o = m.meet(edge)
	}
	if o.linked != up {
		o.linked = up
		m.notify()
	}
}

// Announce takes what a peer said of itself. The caller has made sure that it is that peer. Who waits for Changed looks again even if
// the database has told all of it before: that there is a way to what the peer holds is new (Peers.Way).
func (m *Members) Announce(a Announcement) {
	m.mu.Lock()
	outdone := m.announced(a)
	m.notify()
	m.mu.Unlock()
	m.newly(outdone)
}

// announced returns what is newer than what this edge holds; it is called under mu.
func (m *Members) announced(a Announcement) []Holding {
	if a.Edge == m.self {
		return nil
	}
	o := m.others[a.Edge]
	if o == nil {
		o = m.meet(a.Edge)
	}
	switch {
	case a.Incarnation < o.Incarnation, a.Incarnation == o.Incarnation && a.Version <= o.version && !a.Full:
		return nil // old news
	case !a.Full && (a.Incarnation != o.Incarnation || a.Version != o.version+1):
		o.gap = true
		return nil
	case a.Full && a.Incarnation == o.Incarnation && a.Version < o.version:
		return nil
	}
	o.Incarnation, o.version, o.Draining, o.gap = a.Incarnation, a.Version, a.Draining, o.gap && !a.Full
	o.ahead = a.Ahead
	if a.Full {
		m.replace(o, a.Holdings)
	} else {
		m.amend(o, a.Holdings)
	}
	return m.outdone(a.Holdings)
}

// seen takes what the database says. Where a peer itself has said more lately, that stays.
func (m *Members) seen(v View) {
	m.mu.Lock()
	outdone := m.view(v)
	m.mu.Unlock()
	m.newly(outdone)
}

// view returns what is newer than what this edge holds; it is called under mu.
func (m *Members) view(v View) (outdone []Holding) {
	before := map[id.Edge]Peer{}
	for edge, o := range m.others {
		before[edge] = o.peer()
	}
	named, moved := map[id.Edge]bool{}, false
	for _, s := range v.Edges {
		if s.ID == m.self {
			continue
		}
		named[s.ID] = true
		o := m.others[s.ID]
		if o == nil {
			o = m.meet(s.ID)
		}
		if s.Incarnation < o.Incarnation {
			continue
		}
		ahead := s.Incarnation == o.Incarnation && o.version > s.Version && !o.gap // what the peer said itself
		draining := o.Draining
		o.Peer, o.beat = s.Peer, time.Now().Add(-s.Age)
		if ahead {
			o.Draining = draining
			continue
		}
		if o.version = s.Version; !s.Known {
			o.gap = false
			m.replace(o, s.Holdings)
			outdone, moved = append(outdone, m.outdone(s.Holdings)...), true
		}
	}
	for edge, o := range m.others {
		if !named[edge] && !o.linked {
			m.replace(o, nil)
			delete(m.others, edge)
		}
	}
	after := map[id.Edge]Peer{}
	for edge, o := range m.others {
		after[edge] = o.peer()
	}
	if moved || !maps.Equal(before, after) {
		m.notify()
	}
	return outdone
}

// marks says which leases are known, so that the database need not list them again.
func (m *Members) marks() map[id.Edge]Mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[id.Edge]Mark{m.self: {m.own.incarnation, m.own.version}}
	for edge, o := range m.others {
		if !o.gap {
			out[edge] = Mark{o.Incarnation, o.version}
		}
	}
	return out
}

// meet is called under mu.
func (m *Members) meet(edge id.Edge) *other {
	o := &other{Peer: Peer{ID: edge}, held: map[holdingKey]Holding{}}
	m.others[edge] = o
	return o
}

// replace sets all that another edge holds; called under mu.
func (m *Members) replace(o *other, holdings []Holding) {
	gone := maps.Clone(o.held)
	m.amend(o, holdings)
	for _, h := range holdings {
		h.Edge = o.ID
		delete(gone, h.key())
	}
	for _, h := range gone {
		h.Links = 0
		m.amend(o, []Holding{h})
	}
}

// amend changes some of what another edge holds; called under mu.
func (m *Members) amend(o *other, changes []Holding) {
	for _, h := range changes {
		h.Edge, h.Lapsed = o.ID, false
		key := h.key()
		if h.Links == 0 {
			delete(o.held, key)
			if delete(m.places[key.place], key); len(m.places[key.place]) == 0 {
				delete(m.places, key.place)
			}
			continue
		}
		o.held[key] = h
		if m.places[key.place] == nil {
			m.places[key.place] = map[holdingKey]Holding{}
		}
		m.places[key.place][key] = h
	}
}

// outdone returns those of which this edge holds an older generation; called under mu.
func (m *Members) outdone(holdings []Holding) (out []Holding) {
	for _, h := range holdings {
		mine, ok := m.own.held[holdingKey{place{h.Tenant, h.Site}, h.Connector, m.self}]
		if ok && h.Links > 0 && mine.Generation < h.Generation {
			out = append(out, h)
		}
	}
	return out
}

// newly tells of generations that are newer than this edge's; called outside mu.
func (m *Members) newly(outdone []Holding) {
	if m.newer == nil {
		return
	}
	for _, h := range outdone {
		m.newer(h)
	}
}
