package adminapi

import (
	"context"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/cluster"
	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

// ClusterStatus implements the API.
func (s *Server) ClusterStatus(ctx context.Context, _ *adminv1.ClusterStatusRequest) (*adminv1.ClusterStatusResponse, error) {
	self, edges, schema, err := s.admin.ClusterStatus(ctx)
	if err != nil {
		return nil, err
	}
	return &adminv1.ClusterStatusResponse{
		Edge: string(self), SchemaVersion: schema, Edges: each(edges, edgeMessage), Listed: s.admin.Listed != nil && s.admin.Listed(),
	}, nil
}

func edgeMessage(e cluster.EdgeStatus) *adminv1.ClusterEdge {
	return &adminv1.ClusterEdge{
		Id: string(e.ID), State: e.State, Software: e.Software, Protocol: e.Protocol, Address: e.Address, Url: e.URL, Share: e.Share,
		Weight: e.Weight, Connectors: int64(e.Connectors), Links: int64(e.Links), Leases: int64(e.Leases), ChangeLagMs: age(e.Lag),
		HeartbeatAgeMs: age(e.Heartbeat), StartedMs: millis(e.Started), Linked: e.Linked, ClockAheadMs: e.Ahead.Milliseconds(),
	}
}

// age is in milliseconds; -1 for what never was.
func age(d time.Duration) int64 {
	if d < 0 {
		return -1
	}
	return d.Milliseconds()
}
