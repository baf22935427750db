package main

import (
	"strings"
	"testing"

	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

// What an operator reads below the table of edges: nothing while all is well, else each fault once, under the right name.
func TestTroublesOfACluster(t *testing.T) {
	type edge = adminv1.ClusterEdge
	for name, one := range map[string]struct {
		change func(r *adminv1.ClusterStatusResponse, east, west *edge)
		want   []string // how each line begins, and what it must say, separated by |
	}{
		"well": {func(*adminv1.ClusterStatusResponse, *edge, *edge) {}, nil},
		"the database is away": {func(r *adminv1.ClusterStatusResponse, east, west *edge) {
			r.SchemaVersion, east.State, east.HeartbeatAgeMs, east.ChangeLagMs, west.HeartbeatAgeMs = 0, "cut off", 20_000, 20_000, 21_000
		}, []string{"the database does not answer|nobody signs in"}},
		"the database is away, and the other edge": {func(r *adminv1.ClusterStatusResponse, _, west *edge) {
			r.SchemaVersion, west.Linked, west.HeartbeatAgeMs = 0, false, 9_000
		}, []string{"the database does not answer", "west: no link from here"}},
		"another was killed just now": {func(_ *adminv1.ClusterStatusResponse, _, west *edge) {
			west.Linked, west.HeartbeatAgeMs = false, 9_000
		}, []string{"west: does not answer|9s ago"}},
		"another is down": {func(_ *adminv1.ClusterStatusResponse, _, west *edge) {
			west.State, west.Linked, west.HeartbeatAgeMs, west.Software = "lapsed", false, 90_000, "v0"
		}, []string{"west: is down|1m30s ago"}},
		"no way to another": {func(_ *adminv1.ClusterStatusResponse, _, west *edge) { west.Linked = false }, []string{"west: lives|UDP from here to 10.0.0.2:8444"}},
		"another is cut from the database": {func(_ *adminv1.ClusterStatusResponse, _, west *edge) {
			west.HeartbeatAgeMs = 12_000
		}, []string{"west: answers here, but does not reach the database|12s ago"}},
		"two processes of one name":             {func(_ *adminv1.ClusterStatusResponse, east, _ *edge) { east.State = "cut off" }, []string{"east: the database answers|cluster.edge"}},
		"another stops":                         {func(_ *adminv1.ClusterStatusResponse, _, west *edge) { west.State = "draining" }, []string{"west: is stopping"}},
		"another is behind":                     {func(_ *adminv1.ClusterStatusResponse, _, west *edge) { west.ChangeLagMs = 7_000 }, []string{"west: is 7s behind the change log"}},
		"another's clock is wrong":              {func(_ *adminv1.ClusterStatusResponse, _, west *edge) { west.ClockAheadMs = -600_000 }, []string{"west: its machine's clock is 10m0s behind"}},
		"one name for two":                      {func(_ *adminv1.ClusterStatusResponse, east, west *edge) { west.Url = east.Url }, []string{"east, west: all say|https://east.msp.example"}},
		"one name for two, and a list of edges": {func(r *adminv1.ClusterStatusResponse, east, west *edge) { r.Listed, west.Url = true, east.Url }, nil},
		"one name for two, of which one is down": {func(_ *adminv1.ClusterStatusResponse, east, west *edge) {
			west.Url, west.State, west.Linked = east.Url, "lapsed", false
		}, []string{"west: is down"}},
		"in the middle of an upgrade": {func(_ *adminv1.ClusterStatusResponse, _, west *edge) { west.Software = "v2" }, []string{"edges run different versions (v1, v2)"}},
	} {
		t.Run(name, func(t *testing.T) {
			east := &edge{Id: "east", State: "live", Software: "v1", HeartbeatAgeMs: 1900, ChangeLagMs: 400, Address: "10.0.0.1:8444", Url: "https://east.msp.example"}
			west := &edge{Id: "west", State: "live", Software: "v1", HeartbeatAgeMs: 3900, ChangeLagMs: 400, Address: "10.0.0.2:8444", Url: "https://west.msp.example", Linked: true}
			resp := &adminv1.ClusterStatusResponse{Edge: "east", SchemaVersion: 8, Edges: []*edge{east, west}}
			one.change(resp, east, west)
			got := troubles(resp)
			if len(got) != len(one.want) {
				t.Fatalf("it says %q", got)
			}
			for i, want := range one.want {
				begins, says, _ := strings.Cut(want, "|")
				if !strings.HasPrefix(got[i], begins) || !strings.Contains(got[i], says) {
					t.Errorf("it says %q, not %q", got[i], want)
				}
			}
		})
	}
}
