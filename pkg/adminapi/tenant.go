package adminapi

import (
	"context"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/admin"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

// millis is a time on the wire; the zero time is 0.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// each turns a list of the domain's into one of the API's.
func each[A, B any](in []A, f func(A) B) []B {
	out := make([]B, len(in))
	for i, one := range in {
		out[i] = f(one)
	}
	return out
}

func tenantMessage(t tenant.Tenant) *adminv1.Tenant {
	return &adminv1.Tenant{Id: string(t.ID), Name: t.Name, SignInHost: t.SignInHost, Zone: t.Zone, CreatedMs: millis(t.Created)}
}

func siteMessage(s tenant.Site) *adminv1.Site {
	return &adminv1.Site{Tenant: string(s.Tenant), Id: string(s.ID), CreatedMs: millis(s.Created)}
}

// CreateTenant implements the API.
func (s *Server) CreateTenant(ctx context.Context, r *adminv1.CreateTenantRequest) (*adminv1.CreateTenantResponse, error) {
	m := r
	t, err := s.admin.CreateTenant(ctx, tenant.Tenant{ID: id.Tenant(m.Id), Name: m.Name, SignInHost: m.SignInHost, Zone: m.Zone})
	if err != nil {
		return nil, err
	}
	return &adminv1.CreateTenantResponse{Tenant: tenantMessage(t)}, nil
}

// ListTenants implements the API.
func (s *Server) ListTenants(ctx context.Context, _ *adminv1.ListTenantsRequest) (*adminv1.ListTenantsResponse, error) {
	all, err := s.admin.ListTenants(ctx)
	if err != nil {
		return nil, err
	}
	return &adminv1.ListTenantsResponse{Tenants: each(all, tenantMessage)}, nil
}

// CreateSite implements the API.
func (s *Server) CreateSite(ctx context.Context, r *adminv1.CreateSiteRequest) (*adminv1.CreateSiteResponse, error) {
	site, err := s.admin.CreateSite(ctx, id.Tenant(r.Tenant), r.Id)
	if err != nil {
		return nil, err
	}
	return &adminv1.CreateSiteResponse{Site: siteMessage(site)}, nil
}

// ListSites implements the API.
func (s *Server) ListSites(ctx context.Context, r *adminv1.ListSitesRequest) (*adminv1.ListSitesResponse, error) {
	all, err := s.admin.ListSites(ctx, id.Tenant(r.Tenant))
	if err != nil {
		return nil, err
	}
	return &adminv1.ListSitesResponse{Sites: each(all, siteMessage)}, nil
}

func appMessage(a tenant.App, who admin.Who) *adminv1.App {
	return &adminv1.App{
		Tenant: string(a.Tenant), Id: string(a.ID), Host: a.Host, Path: a.Path, Site: string(a.Site), Name: a.Name,
		Landing: a.Landing, Websocket: a.WebSocket, Users: who.Users, Services: who.Services, CreatedMs: millis(a.Created),
	}
}

// CreateApp implements the API.
func (s *Server) CreateApp(ctx context.Context, r *adminv1.CreateAppRequest) (*adminv1.CreateAppResponse, error) {
	m := r
	who := admin.Who{Users: m.AllowUsers, Services: m.AllowServices}
	a, err := s.admin.CreateApp(ctx, tenant.App{
		Tenant: id.Tenant(m.Tenant), Host: m.Host, Path: m.Path, Site: id.Site(m.Site), Name: m.Name,
		Landing: m.Landing, WebSocket: m.Websocket,
	}, who)
	if err != nil {
		return nil, err
	}
	return &adminv1.CreateAppResponse{App: appMessage(a, who)}, nil
}

// ListApps implements the API.
func (s *Server) ListApps(ctx context.Context, r *adminv1.ListAppsRequest) (*adminv1.ListAppsResponse, error) {
	apps, who, err := s.admin.ListApps(ctx, id.Tenant(r.Tenant))
	if err != nil {
		return nil, err
	}
	list := each(apps, func(a tenant.App) *adminv1.App { return appMessage(a, who[a.ID]) })
	return &adminv1.ListAppsResponse{Apps: list}, nil
}

// SetAppAccess implements the API.
func (s *Server) SetAppAccess(ctx context.Context, r *adminv1.SetAppAccessRequest) (*adminv1.SetAppAccessResponse, error) {
	who := admin.Who{Users: r.AllowUsers, Services: r.AllowServices}
	if err := s.admin.SetAppAccess(ctx, id.Tenant(r.Tenant), id.App(r.App), who); err != nil {
		return nil, err
	}
	return &adminv1.SetAppAccessResponse{}, nil
}

// DeleteApp implements the API.
func (s *Server) DeleteApp(ctx context.Context, r *adminv1.DeleteAppRequest) (*adminv1.DeleteAppResponse, error) {
	if err := s.admin.DeleteApp(ctx, id.Tenant(r.Tenant), id.App(r.App)); err != nil {
		return nil, err
	}
	return &adminv1.DeleteAppResponse{}, nil
}
