package registry

import (
	"cmp"
	"slices"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// Status describes one link for operators.
type Status struct {
	Tenant     id.Tenant
	Site       id.Site
	Connector  id.Connector
	Generation uint64
	Instance   string
	Lane       tunnelv1.Lane
	Info       tunnel.Info
	Joined     time.Time
	// Up is true while the last round trip over the exchange path (an exchange that was answered, or a probe) is no older than
	// FreshTrip; for a connector that answers no probes, while the last heartbeat is.
	Up bool
	// RoundTrip is how long the last probe took; 0 while there was none.
	RoundTrip time.Duration
	// Heard is when the last heartbeat came.
	Heard time.Time
	// Superseded is true while a newer generation takes the new exchanges.
	Superseded bool
	// Origins is what the connector said of its origins last.
	Origins []*tunnelv1.OriginHealth
}

// Members lists the links of a tenant, or of all when tenant is empty, by site, connector and generation.
func (r *Registry) Members(tenant id.Tenant) []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cfg.Now()
	size := 0
	for where, s := range r.sites {
		if tenant == "" || where.tenant == tenant {
			size += len(s.members)
		}
	}
	out := make([]Status, 0, size)
	for where, s := range r.sites {
		if tenant != "" && where.tenant != tenant {
			continue
		}
		for _, m := range s.members {
			out = append(out, Status{
				Tenant: m.Tenant, Site: m.Site, Connector: m.Connector, Generation: m.Generation, Instance: m.Instance,
				Lane: m.Lane, Info: m.Link.Info(), Joined: m.joined, Heard: m.heard, Superseded: m.superseded != nil, Origins: m.health,
				Up: m.up(now), RoundTrip: time.Duration(m.use.trip.Load()),
			})
		}
	}
	slices.SortFunc(out, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Site, b.Site), cmp.Compare(a.Connector, b.Connector),
			cmp.Compare(b.Generation, a.Generation), a.Joined.Compare(b.Joined))
	})
	return out
}

// FreshTrip is how old the last round trip of a link may be that counts as up.
const FreshTrip = 10 * time.Second

// tripped is when the last round trip ended that counts.
func (m *member) tripped() time.Time {
	if !m.Probed {
		return m.heard
	}
	if at := m.use.answered.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

func (m *member) up(now time.Time) bool { return now.Sub(m.tripped()) <= FreshTrip }

// Proved notes that a probe of a link was answered after took. What is Doubted then was doubted after the probe had left.
func (r *Registry) Proved(tenant id.Tenant, siteID id.Site, link tunnel.Link, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.find(tenant, siteID, link); m != nil {
		m.use.trip.Store(int64(took))
		if m.use.answer() {
			r.stir(place{tenant, siteID}, m.Connector)
		}
		r.settle(place{tenant, siteID}, m, r.cfg.Now().Add(-took))
	}
}

// TripAge tells how long ago the last round trip over a link's exchange path ended; ok is false while there was none.
func (r *Registry) TripAge(tenant id.Tenant, siteID id.Site, link tunnel.Link) (age time.Duration, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.find(tenant, siteID, link)
	if m == nil || !m.Probed || m.tripped().IsZero() {
		return 0, false
	}
	return max(r.cfg.Now().Sub(m.tripped()), 0), true
}

// Origins is what a connector said of its origins last, over whichever of its links. Of several runs only the newest is
// believed: the one before may have had other rules.
func Origins(links []Status) []*tunnelv1.OriginHealth {
	var newest Status
	for _, l := range links {
		if l.Generation > newest.Generation || l.Generation == newest.Generation && l.Heard.After(newest.Heard) {
			newest = l
		}
	}
	return newest.Origins
}

// Heard notes a heartbeat of a link and what it said of the origins.
func (r *Registry) Heard(tenant id.Tenant, siteID id.Site, link tunnel.Link, origins []*tunnelv1.OriginHealth) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.find(tenant, siteID, link); m != nil {
		m.heard, m.health = r.cfg.Now(), origins
	}
}

// Leaving takes no more exchanges, and no more large bodies, on a link that its connector gives up; those that run go on.
func (r *Registry) Leaving(tenant id.Tenant, siteID id.Site, link tunnel.Link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.find(tenant, siteID, link); m != nil {
		m.leaving = true
		r.stir(place{tenant, siteID}, m.Connector)
		if m.group != nil {
			m.group.lanes.Remove(link)
		}
		r.goneFast(r.sites[place{tenant, siteID}], m)
	}
}

func (r *Registry) find(tenant id.Tenant, siteID id.Site, link tunnel.Link) *member {
	s := r.sites[place{tenant, siteID}]
	if s == nil {
		return nil
	}
	i := slices.IndexFunc(s.members, func(m *member) bool { return m.Link == link })
	if i < 0 {
		return nil
	}
	return s.members[i]
}

// Broadcast sends a control message on every link of a tenant's connectors, or of all tenants when tenant is empty. It returns
// how many processes took it. One link of each would not do: that a link's queue takes a message does not mean that the link
// still lives, and after a network change the dead one is found only seconds after its sibling has joined. So messages that
// are broadcast must bear being heard twice.
func (r *Registry) Broadcast(tenant id.Tenant, message *tunnelv1.Control) int {
	sent := 0
	for _, group := range r.controls(tenant) {
		took := false
		for _, control := range group {
			took = control(message) == nil || took
		}
		if took {
			sent++
		}
	}
	return sent
}

// controls groups the ways to send by process.
func (r *Registry) controls(tenant id.Tenant) map[string][]func(*tunnelv1.Control) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	groups := map[string][]func(*tunnelv1.Control) error{}
	for where, s := range r.sites {
		if tenant != "" && where.tenant != tenant {
			continue
		}
		for _, m := range s.members {
			if m.Control != nil && m.alive() {
				key := string(m.Connector) + "/" + m.Instance
				groups[key] = append(groups[key], m.Control)
			}
		}
	}
	return groups
}
