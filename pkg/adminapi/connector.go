package adminapi

import (
	"context"
	"strings"

	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
	tunnelv1 "github.com/sallyport-dev/sallyport/proto/tunnel/v1"
)

// InviteConnector implements the API.
func (s *Server) InviteConnector(ctx context.Context, r *adminv1.InviteConnectorRequest) (*adminv1.InviteConnectorResponse, error) {
	command, expires, err := s.admin.InviteConnector(ctx, id.Tenant(r.Tenant), id.Site(r.Site))
	if err != nil {
		return nil, err
	}
	return &adminv1.InviteConnectorResponse{Command: command, ExpiresMs: millis(expires)}, nil
}

// ListConnectors implements the API.
func (s *Server) ListConnectors(ctx context.Context, r *adminv1.ListConnectorsRequest) (*adminv1.ListConnectorsResponse, error) {
	all, links, err := s.admin.ListConnectors(ctx, id.Tenant(r.Tenant))
	if err != nil {
		return nil, err
	}
	elsewhere := s.admin.Elsewhere(all)
	list := each(all, func(c enroll.Connector) *adminv1.Connector {
		return &adminv1.Connector{
			Tenant: string(c.Tenant), Id: string(c.ID), Site: string(c.Site), CreatedMs: millis(c.Created),
			RevokedMs: millis(c.Revoked), Frozen: c.Frozen, Links: each(links[c.ID], linkMessage), Origins: each(registry.Origins(links[c.ID]), originMessage),
			Elsewhere: each(elsewhere[c.ID], func(e id.Edge) string { return string(e) }),
		}
	})
	return &adminv1.ListConnectorsResponse{Connectors: list}, nil
}

func linkMessage(l registry.Status) *adminv1.Link {
	return &adminv1.Link{
		Transport: l.Info.Transport, Generation: l.Generation, Remote: l.Info.Remote.String(), SinceMs: millis(l.Joined),
		Up: l.Up, LastRoundTripMs: float64(l.RoundTrip.Microseconds()) / 1000, Lane: strings.ToLower(strings.TrimPrefix(l.Lane.String(), "LANE_")),
	}
}

func originMessage(o *tunnelv1.OriginHealth) *adminv1.OriginState {
	return &adminv1.OriginState{Name: o.GetName(), Healthy: o.GetHealthy(), State: o.GetState(), CheckedMs: o.GetCheckedMs()}
}

// ThawConnector implements the API.
func (s *Server) ThawConnector(ctx context.Context, r *adminv1.ThawConnectorRequest) (*adminv1.ThawConnectorResponse, error) {
	if err := s.admin.ThawConnector(ctx, id.Tenant(r.Tenant), id.Connector(r.Connector)); err != nil {
		return nil, err
	}
	return &adminv1.ThawConnectorResponse{}, nil
}

// RevokeConnector implements the API.
func (s *Server) RevokeConnector(ctx context.Context, r *adminv1.RevokeConnectorRequest) (*adminv1.RevokeConnectorResponse, error) {
	how, err := s.admin.RevokeConnector(ctx, id.Tenant(r.Tenant), id.Connector(r.Connector))
	if err != nil {
		return nil, err
	}
	return &adminv1.RevokeConnectorResponse{How: revocation(how)}, nil
}
