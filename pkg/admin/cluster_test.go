package admin_test

import (
	"context"
	"errors"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/admin"
	"github.com/sallyport-dev/sallyport/pkg/cluster"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

type edges struct{}

func (edges) Status(context.Context) (id.Edge, []cluster.EdgeStatus, error) {
	return "east", []cluster.EdgeStatus{{State: "cut off"}, {State: "live"}}, nil
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
