package admin

import (
	"context"

	"github.com/sallyport-dev/sallyport/pkg/cluster"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

// Edges tells which edges there are, as this one knows them; *cluster.Heart is one.
type Edges interface {
	// Holders lists what the other edges hold of a site.
	Holders(tenant id.Tenant, site id.Site) []cluster.Holding
	Status(ctx context.Context) (self id.Edge, edges []cluster.EdgeStatus, err error)
}

// ClusterStatus is all edges, and the version of the store's schema. A store that does not answer has version 0 and is no error:
// this is what an operator asks when it does not.
func (s *Service) ClusterStatus(ctx context.Context) (self id.Edge, edges []cluster.EdgeStatus, schema int64, err error) {
	if s.Schema != nil {
		schema, _ = s.Schema(ctx)
	}
	if s.Edges != nil {
		self, edges, err = s.Edges.Status(ctx)
	}
	return self, edges, schema, err
}
