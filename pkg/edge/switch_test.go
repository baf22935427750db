package edge

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// addSite is a change like any other.
func (n *node) addSite(name id.Site) error {
	return n.store.Tenants().CreateSite(n.t.Context(), tenant.Site{Tenant: "maple", ID: name, Created: time.Now()})
}

// The primary crashes and its synchronous standby is promoted: requests go on while there is none, everything does within 10 s of the
// promotion, and what was acknowledged is on record. The former primary comes back as one that takes writes and stands first in the
// URL: no edge writes there, neither one that is started again, which has it from its disk, nor one that only hears of it from another.
func TestThePrimaryIsSwitchedOver(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t)
	database := primary.Database(t)
	standby := primary.Standby(t, true)
	east, west := nodes(t, pgtest.Several(database, primary, standby), same)
	_, cookie := east.signIn()
	for _, n := range []*node{east, west} {
		n.ready(cookie)
	}
	primary.Stop(t, "immediate")
	for _, n := range []*node{east, west} {
		n.works("there is none", cookie, 9*time.Second)
	}
	standby.Promote(t)
	began := time.Now()
	for _, n := range []*node{east, west} {
		eventually(t, "that it is found", func() bool {
			return !n.away() && !n.standby.Away() && n.addSite(id.Site("of-"+n.config.Cluster.Edge)) == nil
		})
	}
	t.Logf("all works again after %s", time.Since(began)) // a loaded machine has 15 s for each edge
	for _, n := range []*node{east, west} {
		n.works("at the new one", cookie, 5*time.Second)
	}
	primary.Restart(t)
	primary.Alone(t)
	west.stop()
	west.start(west.config)
	west.ready(cookie)
	for _, n := range []*node{east, west} {
		if err := n.addSite(id.Site("beside-" + n.config.Cluster.Edge)); err != nil {
			t.Errorf("beside the former primary: %v", err)
		}
		if h := n.store.History(); h.Timeline != 2 {
			t.Errorf("works on %v", h)
		}
	}
	if got := primary.Query(t, pgtest.Several(database, primary), `SELECT id FROM sites`); len(got) != 1 {
		t.Errorf("written to the former primary: %v", got)
	}
	settled(t, east)
	standby.Stop(t, "fast")
	c := west.config
	west.stop()
	if _, err := New(t.Context(), c, zap.NewNop()); err == nil || !strings.Contains(err.Error(), "make it a standby of the new one") || !strings.Contains(err.Error(), c.historyFile()) {
		t.Errorf("an edge starts on the former primary: %v", err)
	}
	standby.Restart(t)
}

// A copy that lags is promoted: the change log ends before what the edges have read, and goes on with other changes at the same numbers. They read
// everything again: what is lost opens nothing, and what changes from then on arrives as quickly as ever.
func TestACopyThatLagsIsPromoted(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t)
	database := primary.Database(t)
	standby := primary.Standby(t, false)
	east, west := nodes(t, pgtest.Several(database, primary, standby), same)
	ended, cookie := east.signIn()
	_, stays := east.signIn()
	for _, n := range []*node{east, west} {
		n.ready(cookie)
		n.ready(stays)
	}
	eventually(t, "the standby to have it", func() bool {
		return len(standby.Query(t, pgtest.Several(database, standby), `SELECT id FROM sessions`)) == 2
	})
	standby.Stop(t, "fast")
	_, lost := east.signIn()
	east.ready(lost)
	for range 10 {
		if err := east.addSite(id.Site("lost-" + strings.ToLower(rand.Text()[:8]))); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the change log to be read", func() bool {
		caughtUp, err := east.follower.CaughtUp(t.Context())
		return err == nil && caughtUp
	})
	primary.Stop(t, "immediate")
	standby.Restart(t)
	standby.Promote(t)
	for _, n := range []*node{east, west} {
		eventually(t, "that it is found", func() bool { return !n.away() && !n.standby.Away() && n.store.History().Timeline == 2 })
		eventually(t, "that what is lost opens nothing", func() bool { return n.shut(lost) })
	}
	began := time.Now()
	if err := west.store.Sessions().Revoke(t.Context(), "maple", ended, time.Now()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a revocation to arrive", func() bool { return east.shut(cookie) })
	t.Logf("revoked after %s", time.Since(began))
	for _, n := range []*node{east, west} {
		n.works("somebody else", stays, 5*time.Second)
	}
}

// Two servers take writes. The edge whose URL lists both notices by itself, and works on the later one; the other edge knows the former primary
// alone, hears of it, and writes nothing there any more: for it the database is away.
func TestEdgesOnTwoPrimaries(t *testing.T) {
	t.Parallel()
	former := pgtest.Start(t)
	database := former.Database(t)
	standby := former.Standby(t, true)
	east, west := nodes(t, pgtest.Several(database, former, standby), func(i int, c *Config) {
		if i == 1 {
			c.Store = database
		}
	})
	_, cookie := east.signIn()
	for _, n := range []*node{east, west} {
		n.ready(cookie)
	}
	eventually(t, "the edges to be linked", func() bool { return east.peers.Tell(nil) == 1 && west.peers.Tell(nil) == 1 })
	former.Alone(t)
	standby.Promote(t)
	eventually(t, "that one edge finds the later one", func() bool { return east.store.History().Timeline == 2 })
	eventually(t, "that the other edge hears of it", func() bool { return west.store.History().Timeline == 2 })
	if err := west.addSite("by-west"); err == nil || !strings.Contains(err.Error(), "make it a standby of the new one") {
		t.Errorf("at the edge that knows the former primary alone: %v", err)
	}
	if err := east.addSite("by-east"); err != nil {
		t.Errorf("at the other: %v", err)
	}
	eventually(t, "that it is known", west.away)
	west.works("without a database", cookie, 5*time.Second)
	east.works("on the later one", cookie, 5*time.Second)
	if got := former.Query(t, pgtest.Several(database, former), `SELECT id FROM sites WHERE id LIKE 'by-%'`); len(got) != 0 {
		t.Errorf("written to the former primary: %v", got)
	}
	if err := east.store.LeaveBehind(store.History{System: "1", Timeline: 9}); err == nil {
		t.Error("another cluster's history is taken for this one's")
	}
}
