package cluster

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

func of(edge id.Edge, c id.Connector, generation uint64, links int) Holding {
	return Holding{Tenant: "maple", Site: "main", Connector: c, Edge: edge, Generation: generation, Links: links}
}

func shown(edge id.Edge, c id.Connector, generation uint64, links int) Holding {
	return Holding{Connector: c, Edge: edge, Generation: generation, Links: links}
}

func seenAs(edge id.Edge, incarnation, version int64, held ...Holding) View {
	return View{Edges: []Seen{{Peer: Peer{ID: edge, Incarnation: incarnation}, Version: version, Holdings: held}}}
}

// Peers tell sooner than the database does; whichever is newer counts.
func TestTheNewerWordCounts(t *testing.T) {
	m := NewMembers("me")
	m.seen(seenAs("one", 1, 5, of("one", "con_a", 1, 1)))
	m.Linked("one", true)
	m.Announce(Announcement{Edge: "one", Incarnation: 1, Version: 5, Full: true, Holdings: []Holding{of("one", "con_a", 1, 1)}})
	m.Announce(Announcement{Edge: "one", Incarnation: 1, Version: 6, Holdings: []Holding{of("one", "con_b", 1, 2), of("one", "con_a", 1, 0)}})
	expectHolders(t, "announced", m, shown("one", "con_b", 1, 2))
	m.seen(seenAs("one", 1, 5, of("one", "con_a", 1, 1)))
	expectHolders(t, "the database is behind", m, shown("one", "con_b", 1, 2))
	m.Announce(Announcement{Edge: "one", Incarnation: 1, Version: 5, Holdings: []Holding{of("one", "con_c", 1, 1)}})
	m.Announce(Announcement{Edge: "one", Incarnation: 0, Version: 9, Full: true})
	expectHolders(t, "old news", m, shown("one", "con_b", 1, 2))
	m.seen(seenAs("one", 1, 7, of("one", "con_c", 1, 1)))
	expectHolders(t, "the database is ahead", m, shown("one", "con_c", 1, 1))

	m.Announce(Announcement{Edge: "one", Incarnation: 1, Version: 9, Holdings: []Holding{of("one", "con_d", 1, 1)}})
	expectHolders(t, "after one that was missed", m, shown("one", "con_c", 1, 1))
	if _, ok := m.marks()["one"]; ok {
		t.Error("the database is not asked for what was missed")
	}
	m.seen(seenAs("one", 1, 9, of("one", "con_c", 1, 1), of("one", "con_d", 1, 1)))
	expectHolders(t, "made good", m, shown("one", "con_c", 1, 1), shown("one", "con_d", 1, 1))

	m.Announce(Announcement{Edge: "one", Incarnation: 2, Version: 1, Full: true})
	expectHolders(t, "a new incarnation", m)
	m.seen(seenAs("one", 1, 9, of("one", "con_c", 1, 1)))
	expectHolders(t, "the database knows the older one", m)
}

// A peer that this edge has a link to lives, whatever the database says; without both it is gone.
func TestALinkedPeerLives(t *testing.T) {
	m := NewMembers("me")
	lapsed := seenAs("one", 1, 5, of("one", "con_a", 1, 1))
	lapsed.Edges[0].Lapsed = true
	m.seen(lapsed)
	m.Linked("one", true)
	expectHolders(t, "linked", m, shown("one", "con_a", 1, 1))
	m.seen(View{})
	expectHolders(t, "gone from the database", m, shown("one", "con_a", 1, 1))
	m.Linked("one", false)
	m.seen(View{})
	expectHolders(t, "gone", m)
	if len(m.places) != 0 || len(m.others) != 0 {
		t.Error("something is left:", m.places, m.others)
	}
}

func TestOnlyTheNewestGenerationCounts(t *testing.T) {
	m := NewMembers("me")
	var newer []Holding
	m.WhenNewer(func(h Holding) { newer = append(newer, h) })
	m.hold([]Holding{of("", "con_a", 4, 1), of("", "con_b", 9, 1)})
	changed := m.Changed()
	m.seen(View{Edges: []Seen{
		{Peer: Peer{ID: "one", Incarnation: 1}, Version: 1, Holdings: []Holding{of("one", "con_a", 5, 1), of("one", "con_b", 8, 1)}},
		{Peer: Peer{ID: "two", Incarnation: 1, Draining: true}, Version: 1, Holdings: []Holding{of("two", "con_a", 5, 1), of("two", "con_c", 1, 1)}},
		{Peer: Peer{ID: "zoo", Incarnation: 1}, Version: 1, Holdings: []Holding{of("zoo", "con_a", 3, 1), of("zoo", "con_c", 1, 1)}},
	}})
	expectHolders(t, "draining edges last", m,
		shown("one", "con_a", 5, 1), shown("zoo", "con_c", 1, 1), shown("two", "con_a", 5, 1), shown("two", "con_c", 1, 1))
	if len(newer) != 2 || newer[0].Connector != "con_a" || newer[0].Generation != 5 {
		t.Errorf("newer than what is here: %+v", newer)
	}
	select {
	case <-changed:
	default:
		t.Error("nobody was told of a change")
	}
	if len(m.Holders("birch", "main")) != 0 || len(m.Holders("maple", "other")) != 0 {
		t.Error("holders of another tenant's site, or another site")
	}
}

// Two edges that hear each other's announcements, and the database late or never, end up with the same.
func TestAnnouncementsConverge(t *testing.T) {
	from, to := NewMembers("one"), NewMembers("two")
	from.enter(1)
	stop := from.Subscribe(func(a Announcement) { to.Announce(a) })
	for range 500 {
		from.hold([]Holding{of("", id.Connector([]string{"con_a", "con_b", "con_c"}[rand.IntN(3)]), rand.Uint64N(3)+1, rand.IntN(3))})
		if rand.IntN(50) == 0 { // the link broke and came back
			stop()
			from.hold([]Holding{of("", "con_d", 1, rand.IntN(3))})
			stop = from.Subscribe(func(a Announcement) { to.Announce(a) })
		}
	}
	stop()
	want := []Holding{}
	for _, h := range from.own.held {
		h.Tenant, h.Site = "", ""
		want = append(want, h)
	}
	slices.SortFunc(want, func(a, b Holding) int { return int(a.Connector[4]) - int(b.Connector[4]) })
	expectHolders(t, "announced", to, want...)
}
