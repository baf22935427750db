package admin_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/admin"
	"github.com/sallyport-dev/sallyport/pkg/cluster"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

type edges struct{}

func (edges) Status(context.Context) (id.Edge, []cluster.EdgeStatus, error) {
	return "east", []cluster.EdgeStatus{{State: "cut off"}, {State: "live"}}, nil
}

func (edges) Holders(t id.Tenant, site id.Site) []cluster.Holding {
	if t != "maple" || site != "main" {
		return nil
	}
	return []cluster.Holding{
		{Tenant: t, Site: site, Connector: "con_a", Edge: "north", Links: 2},
		{Tenant: t, Site: site, Connector: "con_a", Edge: "west", Links: 1},
		{Tenant: t, Site: site, Connector: "con_b", Edge: "west"},
		{Tenant: t, Site: site, Connector: "con_c", Edge: "south", Links: 1, Lapsed: true},
	}
}

// A connector without a link here may be up at another edge: one that holds links of it and has not lapsed.
func TestConnectorsAreFoundAtOtherEdges(t *testing.T) {
	all := []enroll.Connector{
		{Tenant: "maple", Site: "main", ID: "con_a"},
		{Tenant: "maple", Site: "main", ID: "con_b"},
		{Tenant: "maple", Site: "main", ID: "con_c"},
		{Tenant: "maple", Site: "annex", ID: "con_d"},
	}
	got := admin.New(admin.Config{Edges: edges{}}).Elsewhere(all)
	if len(got) != 1 || !slices.Equal(got["con_a"], []id.Edge{"north", "west"}) {
		t.Errorf("%v", got)
	}
	if got := admin.New(admin.Config{}).Elsewhere(all); len(got) != 0 {
		t.Errorf("alone: %v", got)
	}
}

// What edges there are is answered with the store away too, and by an edge that is alone.
func TestTheClusterIsShownWithoutTheStore(t *testing.T) {
	away := func(context.Context) (int64, error) { return 0, errors.New("connection refused") }
	self, list, schema, err := admin.New(admin.Config{Edges: edges{}, Schema: away}).ClusterStatus(t.Context())
	if err != nil || self != "east" || len(list) != 2 || schema != 0 {
		t.Errorf("%s, %+v, %d, %v", self, list, schema, err)
	}
	alone := admin.New(admin.Config{Schema: func(context.Context) (int64, error) { return 6, nil }})
	if self, list, schema, err = alone.ClusterStatus(t.Context()); err != nil || self != "" || len(list) != 0 || schema != 6 {
		t.Errorf("%s, %+v, %d, %v", self, list, schema, err)
	}
}
