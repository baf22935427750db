package cluster

import (
	"maps"
	"slices"
)

// enter begins a new incarnation, of which the store knows nothing yet.
func (m *Members) enter(incarnation int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.own.incarnation, m.own.all = incarnation, true
	m.own.version++
	for _, f := range m.subscribers {
		f(m.announcement(true, slices.Collect(maps.Values(m.own.held))))
	}
}

func (m *Members) incarnation() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.own.incarnation
}

func (m *Members) draining() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.own.draining
}

// beat is what the store is to be told.
func (m *Members) beat() Beat {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := Beat{Edge: m.self, Incarnation: m.own.incarnation, Version: m.own.version, Draining: m.own.draining, All: m.own.all}
	for key := range m.own.unsaved {
		h, ok := m.own.held[key]
		if !ok {
			h = Holding{Tenant: key.tenant, Site: key.site, Connector: key.connector, Edge: m.self}
		}
		if ok || !b.All {
			b.Changed = append(b.Changed, h)
		}
	}
	if b.All {
		b.Changed = slices.Collect(maps.Values(m.own.held))
	}
	m.own.unsaved, m.own.all = map[holdingKey]struct{}{}, false
	return b
}

// unwritten takes back a beat that the store did not take.
func (m *Members) unwritten(b Beat) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.own.all = m.own.all || b.All
	for _, h := range b.Changed {
		m.own.unsaved[h.key()] = struct{}{}
	}
}
