package cluster

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// Members is what this edge knows of the others, and what it holds itself. What the database says (seen) and what peers say
// (Announce) meet here; either alone is enough. It is safe for concurrent use, and nothing that it is asked waits for anything.
type Members struct {
	self id.Edge

	mu          sync.Mutex // guards all below
	others      map[id.Edge]*other
	places      map[place]map[holdingKey]Holding // what others hold
	changed     chan struct{}
	own         own
	subscribers map[int]func(Announcement)
	subscribed  int
	newer       func(Holding)
}

// place is a site; the tenant comes first, as in every key.
type place struct {
	tenant id.Tenant
	site   id.Site
}

type holdingKey struct {
	place
	connector id.Connector
	edge      id.Edge
}

func (h Holding) key() holdingKey {
	return holdingKey{place{h.Tenant, h.Site}, h.Connector, h.Edge}
}

// other is one other edge.
type other struct {
	Peer
	version int64
	// gap is set when an announcement was missed: the next full one, or the database, puts it right.
	gap bool
	// ahead is how far its machine's clock is ahead of the database's, as it said itself.
	ahead time.Duration
	// linked is set while there is a peer link: then it lives, whatever the database says.
	linked bool
	held   map[holdingKey]Holding
	// beat is when its last heartbeat was that the database told of, by this edge's clock.
	beat time.Time
}

// own is this edge's side.
type own struct {
	incarnation int64
	version     int64
	draining    bool
	ahead       time.Duration
	held        map[holdingKey]Holding
	// unsaved are those that the database has not been told of; all, that it is to forget what it was told before.
	unsaved map[holdingKey]struct{}
	all     bool
}

// NewMembers returns the members of a cluster of which only self is known.
func NewMembers(self id.Edge) *Members {
	return &Members{
		self: self, others: map[id.Edge]*other{}, places: map[place]map[holdingKey]Holding{}, changed: make(chan struct{}),
		own:         own{held: map[holdingKey]Holding{}, unsaved: map[holdingKey]struct{}{}},
		subscribers: map[int]func(Announcement){},
	}
}

// Self is this edge.
func (m *Members) Self() id.Edge { return m.self }

// Peers lists the other edges by name, those that have lapsed too.
func (m *Members) Peers() []Peer {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Peer, 0, len(m.others))
	for _, o := range m.others {
		out = append(out, o.peer())
	}
	slices.SortFunc(out, func(a, b Peer) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Peer returns one other edge.
func (m *Members) Peer(edge id.Edge) (Peer, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.others[edge]
	if !ok {
		return Peer{}, false
	}
	return o.peer(), true
}

func (o *other) peer() Peer {
	p := o.Peer
	p.Ahead = o.ahead
	p.Lapsed = p.Lapsed && !o.linked
	return p
}

// Holders lists what other edges hold of a site, of each connector only the newest generation that is known anywhere, this edge
// included. Edges that drain come last. Lapsed holdings are there only where nothing else is.
func (m *Members) Holders(tenant id.Tenant, site id.Site) []Holding {
	m.mu.Lock()
	defer m.mu.Unlock()
	where := place{tenant, site}
	newest := map[id.Connector]uint64{}
	for _, h := range m.places[where] {
		newest[h.Connector] = max(newest[h.Connector], h.Generation)
	}
	for c := range newest {
		newest[c] = max(newest[c], m.own.held[holdingKey{where, c, m.self}].Generation)
	}
	var living, lapsed []Holding
	for _, h := range m.places[where] {
		o := m.others[h.Edge]
		switch {
		case h.Generation < newest[h.Connector]:
		case o.peer().Lapsed:
			h.Lapsed = true
			lapsed = append(lapsed, h)
		default:
			living = append(living, h)
		}
	}
	if len(living) == 0 {
		living = lapsed
	}
	slices.SortFunc(living, func(a, b Holding) int {
		return cmp.Or(later(m.others[a.Edge].Draining, m.others[b.Edge].Draining), cmp.Compare(a.Edge, b.Edge), cmp.Compare(a.Connector, b.Connector))
	})
	return living
}

// later sorts those for which something is true behind the others.
func later(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// Changed returns a channel that is closed at the next change of Peers or Holders.
func (m *Members) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// notify is called under mu.
func (m *Members) notify() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// WhenNewer has f called when another edge is found to hold a newer generation of a connector than this one does. Call it before
// the members are used; f is called outside any lock.
func (m *Members) WhenNewer(f func(Holding)) { m.newer = f }

// Subscribe has f called at once with all that this edge holds, and then with each change, in order. f must not block and must not
// call Members.
func (m *Members) Subscribe(f func(Announcement)) (stop func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m.announcement(true, slices.Collect(maps.Values(m.own.held))))
	m.subscribed++
	n := m.subscribed
	m.subscribers[n] = f
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.subscribers, n)
	}
}

// announcement is called under mu.
func (m *Members) announcement(full bool, holdings []Holding) Announcement {
	return Announcement{
		Edge: m.self, Incarnation: m.own.incarnation, Version: m.own.version, Full: full, Draining: m.own.draining, Ahead: m.own.ahead,
		Holdings: holdings,
	}
}

// hold notes what this edge holds now; those without links are not held any more.
func (m *Members) hold(changes []Holding) {
	m.mu.Lock()
	outdone := m.held(changes)
	m.mu.Unlock()
	m.newly(outdone)
}

// held returns what other edges hold that is newer; it is called under mu.
func (m *Members) held(changes []Holding) (outdone []Holding) {
	var told []Holding
	for _, h := range changes {
		h.Edge = m.self
		key := h.key()
		if before, ok := m.own.held[key]; before == h || !ok && h.Links == 0 {
			continue
		}
		if h.Links == 0 {
			delete(m.own.held, key)
		} else {
			m.own.held[key] = h
			for _, theirs := range m.places[key.place] {
				if theirs.Connector == h.Connector {
					outdone = append(outdone, m.outdone([]Holding{theirs})...)
				}
			}
		}
		m.own.unsaved[key] = struct{}{}
		told = append(told, h)
	}
	if len(told) > 0 {
		m.own.version++
		m.tell(told)
	}
	return outdone
}

// drain says to the others whether this edge takes new work.
func (m *Members) drain(draining bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.own.draining != draining {
		m.own.draining = draining
		m.own.version++
		m.tell(nil)
	}
}

// clock says to the others how far this machine's clock is ahead; a second more or less is not worth a word.
func (m *Members) clock(ahead time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if (m.own.ahead - ahead).Abs() >= agrees {
		m.own.ahead = ahead
		m.own.version++
		m.tell(nil)
	}
}

// tell is called under mu.
func (m *Members) tell(holdings []Holding) {
	for _, f := range m.subscribers {
		f(m.announcement(false, holdings))
	}
}
