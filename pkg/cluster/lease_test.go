package cluster

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/tunnel"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// node is one edge in a test: its registry, members and heart.
type node struct {
	*Members
	registry *registry.Registry
	heart    *Heart
	stop     func()
}

func start(t *testing.T, store Store, name id.Edge) *node {
	t.Helper()
	return startLogging(t, store, name, zap.NewNop())
}

func startLogging(t *testing.T, store Store, name id.Edge, logger *zap.Logger) *node {
	t.Helper()
	n := &node{Members: NewMembers(name), registry: registry.New(registry.Config{Presence: true})}
	n.heart = NewHeart(HeartConfig{
		Store: store, Members: n.Members, Registry: n.registry, Logger: logger, Metrics: metric.New(),
		Self: Peer{ID: name, URL: "https://" + string(name) + ".example", Weight: 1},
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := n.heart.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	n.stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(n.stop)
	return n
}

// deadLink is a Link that only lives and ends.
type deadLink struct {
	tunnel.Link
	tunnel.Ending
}

func (l *deadLink) Close(reason tunnel.Reason) error {
	l.End(&tunnel.ClosedError{Reason: reason})
	return nil
}
func (l *deadLink) Done() <-chan struct{} { return l.Ending.Done() }
func (l *deadLink) Cause() error          { return l.Ending.Cause() }
func (l *deadLink) Info() tunnel.Info     { return tunnel.Info{Transport: "quic"} }

// link brings a connector's link to an edge.
func (n *node) link(t *testing.T, c id.Connector, generation uint64) (l *deadLink, leave func()) {
	t.Helper()
	l = &deadLink{}
	leave, err := n.registry.Join(registry.Member{
		Tenant: "maple", Site: "main", Connector: c, Generation: generation, Lane: tunnelv1.Lane_LANE_FAST, Link: l,
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, leave
}

func expectHolders(t *testing.T, when string, of *Members, want ...Holding) {
	t.Helper()
	got := of.Holders("maple", "main")
	for i := range got {
		got[i].Tenant, got[i].Site = "", ""
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: %+v, want %+v", when, got, want)
	}
}

func TestLeasesAreKnownToOtherEdgesSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTable()
		one, two := start(t, store, "one"), start(t, store, "two")
		<-time.After(BeatEvery + time.Second)
		_, leave := one.link(t, "con_a", 3)
		_, leaveSecond := one.link(t, "con_a", 3)
		<-time.After(BeatEvery + gather)
		expectHolders(t, "two links", two.Members, Holding{Connector: "con_a", Edge: "one", Generation: 3, Links: 2})
		expectHolders(t, "of itself", one.Members)
		if p := two.Peers(); len(p) != 1 || p[0].ID != "one" || p[0].URL != "https://one.example" || p[0].Connectors != 1 || p[0].State() != "live" {
			t.Errorf("%+v", p)
		}
		leave()
		<-time.After(BeatEvery + gather)
		expectHolders(t, "one link", two.Members, Holding{Connector: "con_a", Edge: "one", Generation: 3, Links: 1})
		leaveSecond()
		<-time.After(BeatEvery + gather)
		expectHolders(t, "no link", two.Members)
		one.heart.Drain(false)
		<-time.After(BeatEvery + gather)
		if p := two.Peers(); len(p) != 1 || p[0].State() != "draining" {
			t.Errorf("%+v", p)
		}
		one.stop()
		<-time.After(BeatEvery + gather)
		if p := two.Peers(); len(p) != 0 {
			t.Errorf("after a clean stop: %+v", p)
		}
		two.stop()
	})
}

// A thousand connectors cost no more while nothing changes than one does, and come in a few transactions.
func TestAHeartbeatIsOneRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTable()
		one := start(t, store, "one")
		<-time.After(time.Second)
		for range 1000 {
			one.link(t, id.NewConnector(), 1)
		}
		<-time.After(time.Second)
		if beats, leases := store.counts(); beats > 3 || leases != 1000 {
			t.Errorf("%d transactions, %d leases written", beats, leases)
		}
		<-time.After(time.Minute)
		if _, leases := store.counts(); leases != 1000 {
			t.Errorf("%d leases written", leases)
		}
		one.stop()
	})
}

// With the database away nobody forgets anybody; when it is back, what came meanwhile is written.
func TestTheDatabaseAwayIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTable()
		one, two := start(t, store, "one"), start(t, store, "two")
		one.link(t, "con_a", 3)
		<-time.After(5 * time.Second)
		store.set(true)
		one.link(t, "con_b", 1)
		<-time.After(30 * time.Minute)
		known := Holding{Connector: "con_a", Edge: "one", Generation: 3, Links: 1}
		expectHolders(t, "away", two.Members, known)
		if p := two.Peers(); p[0].State() != "live" {
			t.Errorf("%+v", p)
		}
		if one.heart.Age() < 29*time.Minute {
			t.Error("nobody sees that the heart does not beat:", one.heart.Age())
		}
		two.stop() // so that one is the only one that is late
		store.set(false)
		late := start(t, store, "three")
		<-time.After(BeatEvery + gather)
		expectHolders(t, "back", late.Members, known, Holding{Connector: "con_b", Edge: "one", Generation: 1, Links: 1})
		one.stop()
		late.stop()
	})
}

// A killed edge lapses; its holdings are the last place to look, and no older generation takes their place.
func TestALapsedLeaseYieldsToANewerGenerationOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTable()
		dead, two, three := NewMembers("dead"), start(t, store, "two"), start(t, store, "three")
		incarnation, _ := store.Enter(t.Context(), Peer{ID: "dead"})
		dead.enter(incarnation)
		dead.hold([]Holding{{Tenant: "maple", Site: "main", Connector: "con_a", Generation: 5, Links: 1}})
		if err := store.Beat(t.Context(), dead.beat()); err != nil {
			t.Fatal(err)
		}
		<-time.After(LeaseLife + BeatEvery)
		lapsed := Holding{Connector: "con_a", Edge: "dead", Generation: 5, Links: 1, Lapsed: true}
		expectHolders(t, "lapsed", two.Members, lapsed)

		older, _ := three.link(t, "con_a", 4)
		<-time.After(BeatEvery + time.Second)
		expectHolders(t, "an older one that lives", two.Members, lapsed)
		select {
		case <-older.Done():
		case <-time.After(time.Minute):
			t.Error("the edge with the older one does not end it")
		}
		three.link(t, "con_a", 6)
		<-time.After(BeatEvery + time.Second)
		expectHolders(t, "a newer one", two.Members, Holding{Connector: "con_a", Edge: "three", Generation: 6, Links: 1})
		two.stop()
		three.stop()
	})
}

// Two machines under one name: the later one has it, the earlier one stays quiet until that has gone.
func TestTwoProcessesUnderOneName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTable()
		watcher := start(t, store, "watcher")
		first := start(t, store, "one")
		first.link(t, "con_a", 1)
		<-time.After(5 * time.Second)
		second := start(t, store, "one")
		second.link(t, "con_b", 1)
		<-time.After(time.Minute)
		expectHolders(t, "the later one", watcher.Members, Holding{Connector: "con_b", Edge: "one", Generation: 1, Links: 1})
		second.stop()
		<-time.After(3 * BeatEvery)
		expectHolders(t, "the earlier one again", watcher.Members, Holding{Connector: "con_a", Edge: "one", Generation: 1, Links: 1})
		first.stop()
		watcher.stop()
	})
}

// A successor on the same machine has the name from its first heartbeat; the one that yields takes nothing away.
func TestASuccessorKeepsTheName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTable()
		watcher, old := start(t, store, "watcher"), start(t, store, "one")
		<-time.After(5 * time.Second)
		successor := start(t, store, "one")
		old.heart.Drain(true)
		successor.link(t, "con_a", 1)
		<-time.After(5 * time.Second)
		old.stop()
		<-time.After(5 * time.Second)
		expectHolders(t, "after the old process has gone", watcher.Members, Holding{Connector: "con_a", Edge: "one", Generation: 1, Links: 1})
		if p := watcher.Peers(); len(p) != 1 || p[0].State() != "live" {
			t.Errorf("%+v", p)
		}
		successor.stop()
		watcher.stop()
	})
}

// What an edge finds out about a run is said to its peers.
func TestPeersAreToldOfARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := start(t, newTable(), "one")
		<-time.After(BeatEvery + time.Second)
		said := make(chan Announcement, 16)
		defer one.Subscribe(func(a Announcement) { said <- a })()
		<-said
		link := &deadLink{}
		leave, err := one.registry.Join(registry.Member{
			Tenant: "maple", Site: "main", Connector: "con_a", Generation: 3, Lane: tunnelv1.Lane_LANE_FAST, Link: link, Once: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer leave()
		for _, quiet := range []bool{false, true} {
			if quiet {
				<-time.After(time.Second)
				one.registry.Late("maple", "main", link, time.Second/2)
			}
			a := <-said
			if len(a.Holdings) != 1 || !a.Holdings[0].Once || a.Holdings[0].Quiet != quiet {
				t.Errorf("quiet %v: %+v", quiet, a)
			}
		}
	})
}
