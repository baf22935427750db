package storetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sallyport-dev/sallyport/pkg/cluster"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

func enter(t *testing.T, s Stores, edge id.Edge) int64 {
	t.Helper()
	n, err := s.Cluster.Enter(t.Context(), cluster.Peer{
		ID: edge, Address: string(edge) + ".example:7443", URL: "https://" + string(edge) + ".example", Weight: 3, Share: 2, Software: "v1", Protocol: 1,
	})
	must(t, err)
	return n
}

func view(t *testing.T, s Stores, have map[id.Edge]cluster.Mark) map[id.Edge]cluster.Seen {
	t.Helper()
	v, err := s.Cluster.View(t.Context(), have)
	must(t, err)
	out := map[id.Edge]cluster.Seen{}
	for _, e := range v.Edges {
		out[e.ID] = e
	}
	return out
}

func held(edge id.Edge, of id.Tenant, c id.Connector, generation uint64, links int) cluster.Holding {
	return cluster.Holding{Tenant: of, Site: "main", Connector: c, Edge: edge, Generation: generation, Links: links}
}

func testEdges(t *testing.T, s Stores) {
	ctx := t.Context()
	one, two := enter(t, s, "one"), enter(t, s, "two")
	if e := view(t, s, nil)["one"]; e.Lapsed || e.Address != "one.example:7443" || e.URL != "https://one.example" || e.Weight != 3 || e.Share != 2 ||
		e.Software != "v1" || e.Protocol != 1 || e.Started.IsZero() || e.Incarnation != one || len(e.Holdings) != 0 {
		t.Errorf("%+v", e)
	}
	if now, err := s.Cluster.Time(ctx); err != nil || now.Sub(view(t, s, nil)["one"].Started).Abs() > time.Minute {
		t.Errorf("edges entered at %s, and now it is %s, %v", view(t, s, nil)["one"].Started, now, err)
	}
	a, b, c := held("one", maple, "con_a", 7, 2), held("one", birch, "con_a", 1, 1), held("one", maple, "con_b", 3, 1)
	must(t, s.Cluster.Beat(ctx, cluster.Beat{
		Edge: "one", Incarnation: one, Version: 4, Weight: 5, Connectors: 2, Links: 3, Draining: true, Lag: time.Second,
		Changed: []cluster.Holding{a, b, c}, All: true,
	}))
	must(t, s.Cluster.Beat(ctx, cluster.Beat{Edge: "two", Incarnation: two, Version: 9, Changed: []cluster.Holding{held("two", maple, "con_a", 7, 1)}}))
	seen := view(t, s, nil)
	same(t, "leases", []cluster.Holding{b, a, c}, seen["one"].Holdings)
	if e := seen["one"]; e.Weight != 5 || e.Connectors != 2 || e.Links != 3 || !e.Draining || e.Lag != time.Second || e.Version != 4 {
		t.Errorf("%+v", e)
	}
	have := map[id.Edge]cluster.Mark{"one": {Incarnation: one, Version: 4}, "two": {Incarnation: two, Version: 8}}
	seen = view(t, s, have)
	if !seen["one"].Known || seen["one"].Holdings != nil || seen["two"].Known || len(seen["two"].Holdings) != 1 {
		t.Errorf("leases that the reader has: %+v", seen)
	}
	have["two"] = cluster.Mark{Incarnation: two, Version: 10} // what the edge itself has said and not written yet
	if e := view(t, s, have)["two"]; !e.Known || e.Holdings != nil || e.Version != 9 {
		t.Errorf("leases of which the reader has newer ones: %+v", e)
	}
	have["two"] = cluster.Mark{Incarnation: two - 1, Version: 10}
	if e := view(t, s, have)["two"]; e.Known || len(e.Holdings) != 1 {
		t.Errorf("leases of a newer incarnation than the reader's: %+v", e)
	}

	// A heartbeat changes what it names and nothing else.
	a.Generation = 8
	must(t, s.Cluster.Beat(ctx, cluster.Beat{Edge: "one", Incarnation: one, Version: 5, Changed: []cluster.Holding{a, held("one", birch, "con_a", 0, 0)}}))
	same(t, "after a change", []cluster.Holding{a, c}, view(t, s, nil)["one"].Holdings)

	// A newer incarnation: the older one writes nothing, takes nothing away, and its leases stay for a while.
	newer := enter(t, s, "one")
	if newer <= one {
		t.Errorf("incarnation %d after %d", newer, one)
	}
	wantCode(t, "an older incarnation's heartbeat", s.Cluster.Beat(ctx, cluster.Beat{Edge: "one", Incarnation: one, All: true}), fault.Conflict)
	must(t, s.Cluster.Leave(ctx, "one", one))
	seen = view(t, s, have)
	same(t, "after a newer incarnation", []cluster.Holding{a, c}, seen["one"].Holdings)
	must(t, s.Cluster.Beat(ctx, cluster.Beat{Edge: "one", Incarnation: newer, Version: 1, Changed: []cluster.Holding{c}, All: true}))
	same(t, "all that there is", []cluster.Holding{c}, view(t, s, nil)["one"].Holdings)

	// An edge that leaves takes its leases with it, and comes back as a newer one.
	must(t, s.Cluster.Leave(ctx, "one", newer))
	if seen = view(t, s, nil); len(seen) != 1 || len(seen["two"].Holdings) != 1 {
		t.Errorf("after one has left: %+v", seen)
	}
	wantCode(t, "a heartbeat without a row", s.Cluster.Beat(ctx, cluster.Beat{Edge: "one", Incarnation: newer}), fault.Conflict)
	if again := enter(t, s, "one"); again <= newer {
		t.Errorf("incarnation %d after %d", again, newer)
	}
}

// Many leases at once, written and taken back.
func testLeases(t *testing.T, s Stores) {
	one := enter(t, s, "one")
	var all, none []cluster.Holding
	for i := range 250 {
		h := held("one", maple, id.Connector(name("con", i)), 1, 2)
		all = append(all, h)
		h.Links = 0
		none = append(none, h)
	}
	must(t, s.Cluster.Beat(t.Context(), cluster.Beat{Edge: "one", Incarnation: one, Version: 1, Changed: all}))
	sorted := cmpopts.SortSlices(func(a, b cluster.Holding) bool { return a.Connector < b.Connector })
	if diff := cmp.Diff(all, view(t, s, nil)["one"].Holdings, sorted); diff != "" {
		t.Error(diff)
	}
	must(t, s.Cluster.Beat(t.Context(), cluster.Beat{Edge: "one", Incarnation: one, Version: 2, Changed: none[1:]}))
	same(t, "one left", all[:1], view(t, s, nil)["one"].Holdings)
}

// An edge that stops its heartbeats lapses by the store's clock, stays for a while with its leases, and then goes.
func testLapse(t *testing.T, s Stores) {
	if s.Later == nil {
		t.Skip("this store's clock cannot be moved")
	}
	one, two := enter(t, s, "one"), enter(t, s, "two")
	lease := held("one", maple, "con_a", 7, 2)
	must(t, s.Cluster.Beat(t.Context(), cluster.Beat{Edge: "one", Incarnation: one, Version: 1, Changed: []cluster.Holding{lease}}))
	s.Later(t, cluster.LeaseLife/2) // the time that the test itself takes counts too
	must(t, s.Cluster.Beat(t.Context(), cluster.Beat{Edge: "two", Incarnation: two, Version: 1}))
	if seen := view(t, s, nil); seen["one"].Lapsed || seen["two"].Lapsed {
		t.Error("lapsed before its time")
	}
	s.Later(t, cluster.LeaseLife/2+time.Second)
	if seen := view(t, s, nil); !seen["one"].Lapsed || seen["two"].Lapsed || len(seen["one"].Holdings) != 1 {
		t.Errorf("after %s: %+v", cluster.LeaseLife, seen)
	}
	must(t, s.Cluster.Beat(t.Context(), cluster.Beat{Edge: "one", Incarnation: one, Version: 1}))
	if seen := view(t, s, nil); seen["one"].Lapsed {
		t.Error("lapsed although its heart beats again")
	}
	s.Later(t, cluster.LapsedStay+2*cluster.LeaseLife)
	must(t, s.Cluster.Beat(t.Context(), cluster.Beat{Edge: "two", Incarnation: two, Version: 1}))
	if seen := view(t, s, nil); len(seen) != 1 {
		t.Errorf("not forgotten: %+v", seen)
	}
	wantCode(t, "a heartbeat after that", s.Cluster.Beat(t.Context(), cluster.Beat{Edge: "one", Incarnation: one}), fault.Conflict)
}
