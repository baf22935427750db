package adminapi

import (
	"context"
	"fmt"

	"github.com/sallyport-dev/sallyport/pkg/admin"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

// caller names whose process called.
func caller(ctx context.Context) string {
	if uid, _ := ctx.Value(peerKey{}).(int); uid != 0 {
		return fmt.Sprintf("uid %d", uid)
	}
	return "root"
}

func ingressMessage(i tenant.Ingress) *adminv1.Ingress {
	return &adminv1.Ingress{
		Tenant: string(i.Tenant), Site: string(i.Site), Version: i.Version, Yaml: i.YAML, CreatedMs: millis(i.Created), By: i.By,
		Size: uint32(len(i.YAML)),
	}
}

// SetIngress implements the API.
func (s *Server) SetIngress(ctx context.Context, r *adminv1.SetIngressRequest) (*adminv1.SetIngressResponse, error) {
	i, err := s.admin.SetIngress(ctx, id.Tenant(r.Tenant), id.Site(r.Site), r.Yaml, caller(ctx))
	if err != nil {
		return nil, err
	}
	return &adminv1.SetIngressResponse{Ingress: ingressMessage(i)}, nil
}

// GetIngress implements the API.
func (s *Server) GetIngress(ctx context.Context, r *adminv1.GetIngressRequest) (*adminv1.GetIngressResponse, error) {
	i, err := s.admin.Ingress(ctx, id.Tenant(r.Tenant), id.Site(r.Site), r.Version)
	if err != nil {
		return nil, err
	}
	return &adminv1.GetIngressResponse{Ingress: ingressMessage(i)}, nil
}

// ListIngress implements the API.
func (s *Server) ListIngress(ctx context.Context, r *adminv1.ListIngressRequest) (*adminv1.ListIngressResponse, error) {
	all, err := s.admin.ListIngress(ctx, id.Tenant(r.Tenant), id.Site(r.Site))
	if err != nil {
		return nil, err
	}
	return &adminv1.ListIngressResponse{Versions: each(all, func(i tenant.Ingress) *adminv1.Ingress {
		m := ingressMessage(i)
		m.Yaml = nil
		return m
	})}, nil
}

// ClearIngress implements the API.
func (s *Server) ClearIngress(ctx context.Context, r *adminv1.ClearIngressRequest) (*adminv1.ClearIngressResponse, error) {
	i, err := s.admin.ClearIngress(ctx, id.Tenant(r.Tenant), id.Site(r.Site), caller(ctx))
	if err != nil {
		return nil, err
	}
	return &adminv1.ClearIngressResponse{Ingress: ingressMessage(i)}, nil
}

// IngressStatus implements the API.
func (s *Server) IngressStatus(ctx context.Context, r *adminv1.IngressStatusRequest) (*adminv1.IngressStatusResponse, error) {
	version, all, err := s.admin.IngressStatus(ctx, id.Tenant(r.Tenant), id.Site(r.Site))
	if err != nil {
		return nil, err
	}
	return &adminv1.IngressStatusResponse{Version: version, Connectors: each(all, func(c admin.ConnectorIngress) *adminv1.ConnectorIngress {
		return &adminv1.ConnectorIngress{
			Connector: string(c.Connector.ID), Linked: c.Linked, Running: c.Running, OwnFile: c.OwnFile, Answered: c.Answered,
			AnsweredMs: millis(c.AnsweredAt), Refused: c.Refused, Sent: c.Sent, SentMs: millis(c.SentAt),
		}
	})}, nil
}
