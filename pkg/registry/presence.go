package registry

import (
	"github.com/sallyport-dev/sallyport/pkg/id"
)

// Presence is what this edge has of one connector at one site.
type Presence struct {
	Tenant    id.Tenant
	Site      id.Site
	Connector id.Connector
	// Generation is the newest that has links here; 0 with no links.
	Generation uint64
	// Links is how many of that generation take exchanges: those in doubt do not.
	Links int
	// Once says that the connector named wire.FeatureOnce.
	Once bool
	// Quiet says that none of its fast links has answered a probe in good time.
	Quiet bool
}

type presenceKey struct {
	place
	connector id.Connector
}

// presence keeps what has changed since somebody asked.
type presence struct {
	changed map[presenceKey]struct{} // guarded by Registry.mu
	stirred chan struct{}
}

func newPresence() presence {
	return presence{changed: map[presenceKey]struct{}{}, stirred: make(chan struct{}, 1)}
}

// Stirred gets a value when TakePresence has something to tell.
func (r *Registry) Stirred() <-chan struct{} { return r.presence.stirred }

// TakePresence returns every connector whose links have changed since the last call, as they are now.
func (r *Registry) TakePresence() []Presence {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Presence, 0, len(r.presence.changed))
	for key := range r.presence.changed {
		out = append(out, r.present(key))
	}
	clear(r.presence.changed)
	return out
}

// present is called under mu.
func (r *Registry) present(key presenceKey) Presence {
	p := Presence{Tenant: key.tenant, Site: key.site, Connector: key.connector}
	s := r.sites[key.place]
	if s == nil {
		return p
	}
	fast, quiet := 0, 0
	for _, m := range s.members {
		if m.Connector != key.connector || !m.takes() || m.Generation < p.Generation {
			continue
		}
		if m.Generation > p.Generation {
			p.Generation, p.Links, p.Once, fast, quiet = m.Generation, 0, true, 0, 0
		}
		p.Links += one(m.sure())
		p.Once = p.Once && m.Once
		fast += one(m.fast())
		quiet += one(m.fast() && m.Quiet())
	}
	p.Quiet = fast > 0 && quiet == fast
	return p
}

func one(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// stir notes that a connector's links have changed; it is called under mu.
func (r *Registry) stir(where place, c id.Connector) {
	if !r.cfg.Presence {
		return
	}
	r.presence.changed[presenceKey{where, c}] = struct{}{}
	select {
	case r.presence.stirred <- struct{}{}:
	default:
	}
}

// Outdone ends older generations of a connector because another edge has a newer one: they take no exchange from now on and are
// closed after Drain. A process of an older one that asks for a generation again is asked about in the store.
func (r *Registry) Outdone(newer Presence) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.runs[newer.Connector]; known != nil {
		known.forget(newer.Generation)
	}
	where := place{newer.Tenant, newer.Site}
	s := r.sites[where]
	if s == nil {
		return
	}
	for _, m := range s.members {
		if m.Connector == newer.Connector && m.Generation < newer.Generation {
			m.outdone = true
		}
	}
	r.supersede(s, Member{Tenant: newer.Tenant, Site: newer.Site, Connector: newer.Connector, Generation: newer.Generation})
	r.stir(where, newer.Connector)
}

// Links is how many links there are, and of how many connectors.
func (r *Registry) Links() (links, connectors int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count.links, len(r.count.of)
}

// count is how many members there are, so that nobody has to go through all sites for it: with ten thousand connectors that takes
// milliseconds, and requests wait for the same lock.
type count struct {
	links int
	of    map[id.Connector]int // none is 0
}

func (c *count) add(connector id.Connector, links int) {
	c.links += links
	if c.of[connector] += links; c.of[connector] == 0 {
		delete(c.of, connector)
	}
}
