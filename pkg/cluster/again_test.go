package cluster

import (
	"context"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/exchange/exchangetest"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/wire"
)

// knows says that a node's peers have heard that its connector serves nothing twice.
func knows(t *testing.T, from, to *edgeNode, once bool) {
	t.Helper()
	h := of("", "con_1", 7, 1)
	h.Once = once
	to.members.hold([]Holding{h})
	h.Edge = to.members.Self()
	until(t, from.members, "what "+string(h.Edge)+" says", func() bool { w := from.peers.Way(h); return w.Link != nil && w.Once == once })
}

// The edge that has a request goes with it: the same run of the connector is asked over another one, where both know what that means.
func TestTheSameRunIsAskedOverAnotherEdge(t *testing.T) {
	store := &memoryAuthority{}
	east, west, north := startEdgeNode(t, "east", store), startEdgeNode(t, "west", store), startEdgeNode(t, "north", store)
	introduce(east, west, north)
	linked(t, east, west)
	linked(t, east, north)
	connector(t, west, "con_1", 7, handler(hello))
	knows(t, east, west, true)
	m, err := east.forwarder.Pick(limited(t), "maple", "main", "ses_1")
	if err != nil || m.Again == nil {
		t.Fatalf("%+v, %v", m, err)
	}
	connector(t, north, "con_2", 7, handler(hello)) // another one's is no way
	west.stop()
	until(t, east.members, "the peer to be gone", func() bool { return !east.peers.linked("west") })
	if other := m.Again(soon(t)); other != nil {
		t.Errorf("another connector: %+v", other)
	}
	connector(t, north, "con_1", 7, handler(hello))
	knows(t, east, north, false)
	if other := m.Again(soon(t)); other != nil {
		t.Errorf("nobody knows whether it comes twice: %+v", other)
	}
	if m, err := east.forwarder.Pick(limited(t), "maple", "main", ""); err != nil || m.Again != nil {
		t.Errorf("%+v, %v", m, err)
	}
	knows(t, east, north, true)
	if other := m.Again(limited(t)); other == nil || other.Connector != "con_1" || other.Generation != 7 || other.Hop != 1 || other.Link == m.Link {
		t.Errorf("%+v", other)
	}
}

// An edge's process dies and its next one takes a connector that the first did not hold, and the database says so before there is a
// link to it: what is sent on goes there, and never to the dead one.
func TestTheNextProcessOfAnEdgeHoldsTheRun(t *testing.T) {
	store := &memoryAuthority{}
	east, dead, next := startEdgeNode(t, "east", store), startEdgeNode(t, "west", store), startEdgeNode(t, "west", store)
	introduce(east, dead)
	linked(t, east, dead)
	h := of("west", "con_1", 7, 1)
	east.members.seen(View{Edges: []Seen{{Peer: Peer{ID: "west", Address: next.peers.Addr().String(), Incarnation: 2}, Version: 1, Holdings: []Holding{h}}}})
	if w := east.peers.Way(h); w.Link != nil {
		t.Error("the link to the process before passes for a way to what the next one holds")
	}
	picked := make(chan *registry.Member, 1)
	go func() {
		m, err := east.forwarder.Pick(limited(t), "maple", "main", "ses_1")
		if err != nil {
			t.Error(err)
		}
		picked <- m
	}()
	connector(t, next, "con_1", 7, handler(hello))
	h.Once, h.Edge = true, ""
	next.members.hold([]Holding{h})
	dead.stop()
	if m := <-picked; m == nil || m.Generation != 7 || m.Again == nil {
		t.Errorf("%+v", m)
	}
}

// soon ends at once: what is there is found all the same.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// An edge sends nothing again to a connector that cannot tell whether it has had it.
func TestARelaySendsAgainOnlyToWhoKnows(t *testing.T) {
	for _, once := range []bool{false, true} {
		links := registry.New(registry.Config{})
		link := &shut{}
		link.Link, _ = exchangetest.Memory()
		leave, err := links.Join(registry.Member{Tenant: "maple", Site: "main", Connector: "con_1", Generation: 7, Link: link, Once: once})
		if err != nil {
			t.Fatal(err)
		}
		code := relayHead(t, links, wire.RequestHead{
			RequestID: "req_1", Again: true, Tenant: "maple", Site: "main", App: "oscar", Method: "GET", Scheme: "https", Host: "oscar.example", Path: "/",
			Hop: 1, Connector: "con_1", Generation: 7,
		})
		if code != wire.CodeNotHere || link.opened != one(once) {
			t.Errorf("once %v: %s, and the connector was tried %d times", once, code, link.opened)
		}
		leave()
	}
}

func one(yes bool) int {
	if yes {
		return 1
	}
	return 0
}
