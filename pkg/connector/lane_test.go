package connector_test

import (
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// members waits until the edge has want links of the connector.
func (e *testEdge) members(t testing.TB, want int) []registry.Status {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		all := e.registry.Members("maple")
		if len(all) == want {
			return all
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d links, want %d", len(all), want)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// Exchanges and large bodies never share a TCP connection, and both lanes are of one generation.
func TestOneLinkALane(t *testing.T) {
	for transport, fast := range map[string]string{connector.TransportAuto: connector.TransportQUIC, connector.TransportWebSocket: connector.TransportWebSocket} {
		t.Run(transport, func(t *testing.T) {
			e := newEdge(t)
			c := newClinic(t, e, transport)
			all := e.members(t, 2)
			lanes := map[tunnelv1.Lane]registry.Status{all[0].Lane: all[0], all[1].Lane: all[1]}
			f, b := lanes[tunnelv1.Lane_LANE_FAST], lanes[tunnelv1.Lane_LANE_BULK]
			if f.Info.Transport != fast || b.Info.Transport != connector.TransportWebSocket {
				t.Errorf("fast over %q, bulk over %q", f.Info.Transport, b.Info.Transport)
			}
			if f.Generation != b.Generation || f.Info.Remote.String() == b.Info.Remote.String() {
				t.Errorf("generations %d and %d, from %v and %v", f.Generation, b.Generation, f.Info.Remote, b.Info.Remote)
			}
			for range 10 {
				if m := e.member(t); m.Lane != tunnelv1.Lane_LANE_FAST {
					t.Errorf("an exchange was given to the lane %v", m.Lane)
				}
			}
			s := c.ready(t)
			for deadline := time.Now().Add(time.Minute); len(s.Links) != 2 && time.Now().Before(deadline); s = c.ready(t) {
				<-time.After(10 * time.Millisecond) // the edge knew first
			}
			if len(s.Links) != 2 || s.Protocol != fast {
				t.Errorf("%+v", s)
			}
		})
	}
}

// Without TCP everything stays on QUIC, and status says why.
func TestQUICAloneHasNoBulkLane(t *testing.T) {
	e := newEdge(t)
	c := newClinic(t, e, connector.TransportQUIC)
	e.members(t, 1)
	if s := c.ready(t); s.Lanes["bulk"] == "" || len(s.Links) != 1 {
		t.Errorf("%+v", s)
	}
}

// An edge that drains has new links before it closes the old ones, which answer until then.
func TestNewLinksBeforeTheOldOnesClose(t *testing.T) {
	e := newEdge(t)
	newClinic(t, e, connector.TransportAuto)
	e.members(t, 2)
	old := e.member(t)
	e.registry.Broadcast("", &tunnelv1.Control{Message: &tunnelv1.Control_Drain{Drain: &tunnelv1.Drain{WithinMs: 30_000}}})
	e.members(t, 4)
	if err := old.Link.Cause(); err != nil {
		t.Fatalf("the old link closed first: %v", err)
	}
	if got, err := fetch(t, old, head(old, e.mint(t, claims(old)), "/oscar/chart")); err != nil || got != "chart of /oscar/chart" {
		t.Errorf("on the old link: %q %v", got, err)
	}
}
