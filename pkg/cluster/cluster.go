// Package cluster owns what makes many edges one: which edges there are and which connectors each holds (Members), the links
// between edges and the requests that travel on them, and how connectors are spread. The database is the one thing that all
// edges share; there is no gossip and no second consensus. It decides nothing about who may do what, holds no SQL, and leaves
// a connector's links to control and registry.
//
// DESIGN.md says what was chosen and why.
package cluster

import (
	"context"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

const (
	// BeatEvery is how often an edge renews its row, and with it all its leases, and reads those of the others.
	BeatEvery = 2 * time.Second
	// LeaseLife is how long an edge's leases live after a heartbeat, by the database's clock.
	LeaseLife = 15 * time.Second
	// LapsedStay is how long lapsed leases stay to fence off older generations, and as the last place to look.
	LapsedStay = time.Hour
)

// Peer is an edge as the others know it.
type Peer struct {
	ID id.Edge
	// Incarnation counts the processes that were this edge; a newer one has taken the place of those before.
	Incarnation int64
	// Address is host:port for links from other edges (cluster.advertise); empty where it takes none.
	Address string
	// URL is https://host[:port] for connectors.
	URL string
	// Share is its share of the connectors as it is set, 1 to 100; Weight is what connectors are told, 1 to 1000: less than Share
	// would make it while the edge has too many.
	Share, Weight uint32
	// Software is the version of its program, for operators only.
	Software string
	// Protocol is the newest version of the wire protocol that it speaks.
	Protocol uint32
	// Started is when this incarnation entered, by the database's clock.
	Started time.Time
	// Connectors and Links are how many it holds.
	Connectors, Links int
	// Draining is set when it takes no new work.
	Draining bool
	// Lag is how far its copies were behind the change log when it last said so.
	Lag time.Duration
	// Ahead is how far its machine's clock is ahead of the database's, as it says itself over a peer link; 0 where they agree.
	Ahead time.Duration
	// Lapsed is set when it missed its heartbeats for LeaseLife. It may live all the same: cut off from the database only.
	Lapsed bool
}

// Holding says that an edge holds links of one run of a connector.
type Holding struct {
	Tenant     id.Tenant
	Site       id.Site
	Connector  id.Connector
	Edge       id.Edge
	Generation uint64
	// Links is how many take exchanges; in an Announcement 0 says that there are none any more.
	Links int
	// Once and Quiet are registry.Presence's. They are said on peer links alone: what the database tells has neither.
	Once, Quiet bool
	// Lapsed is set when the lease lapsed and nothing newer has taken its place: worth a try where nothing else is left.
	Lapsed bool
}

// Announcement is what an edge says of what it holds, on peer links: at the start of a link everything (Full), then each change.
// Versions count without gaps, so that a receiver that missed one waits for the next full one or the database.
type Announcement struct {
	Edge        id.Edge
	Incarnation int64
	Version     int64
	Full        bool
	Draining    bool
	// Ahead is how far the machine's clock is ahead of the database's.
	Ahead    time.Duration
	Holdings []Holding
}

// View is what the store knows of the edges.
type View struct {
	Edges []Seen
}

// Seen is an edge in a View.
type Seen struct {
	Peer
	// Age is how long ago the last heartbeat was, by the store's clock.
	Age time.Duration
	// Version numbers the edge's leases. Known says that the caller has them, or newer ones, so that Holdings is left out.
	Version  int64
	Known    bool
	Holdings []Holding
}

// Mark says which leases of an edge the caller has.
type Mark struct {
	Incarnation, Version int64
}

// Covers says that who has the leases of m learns nothing from what s was written with: a peer tells others of links a moment
// before it writes them.
func (m Mark) Covers(s Seen) bool { return m.Incarnation == s.Incarnation && m.Version >= s.Version }

// Beat is one heartbeat: how the edge is, and which leases to write and to drop.
type Beat struct {
	Edge        id.Edge
	Incarnation int64
	// Version numbers the leases as they are after this beat.
	Version           int64
	Weight            uint32
	Connectors, Links int
	Draining          bool
	Lag               time.Duration
	// Changed are the leases to write; those with no links are dropped. All that are not named stay and are renewed.
	Changed []Holding
	// All says that Changed is everything: other leases of this edge are dropped.
	All bool
}

// Store keeps the edges and their leases. All times are by its own clock, the database's where there is one: the clocks of edges
// may be far apart.
type Store interface {
	// Enter makes a process the newest incarnation of its edge, which the others may no longer write for, and returns its number.
	// The leases of the one before stay until the first Beat with All.
	Enter(ctx context.Context, p Peer) (incarnation int64, err error)
	// Beat renews an edge and all its leases for LeaseLife in one transaction. fault.Conflict: there is a newer incarnation, or
	// the row is gone, and nothing was written.
	Beat(ctx context.Context, b Beat) error
	// View returns all edges, lapsed ones for LapsedStay, with their leases unless the caller has them.
	View(ctx context.Context, have map[id.Edge]Mark) (View, error)
	// Time is what the clock says that all of this goes by.
	Time(ctx context.Context) (time.Time, error)
	// Leave drops an edge and its leases, unless there is a newer incarnation.
	Leave(ctx context.Context, edge id.Edge, incarnation int64) error
}
