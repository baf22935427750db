package admin

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/control/controlserver"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/ingress"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// Running tells what connectors make of the ingress rules that are kept for them.
type Running interface {
	Ingress() map[id.Connector]controlserver.Ingress
}

// SetIngress keeps ingress rules for a site; its connectors get them at once. They are read as a connector would, so that
// every fault is told now; only the connectors can say whether they allow the origins. by says who did it.
func (s *Service) SetIngress(ctx context.Context, t id.Tenant, site id.Site, text []byte, by string) (tenant.Ingress, error) {
	if err := s.site(ctx, t, site); err != nil {
		return tenant.Ingress{}, err
	}
	if _, faults := ingress.LoadPushed(text, nil); len(faults) > 0 {
		return tenant.Ingress{}, fault.New(fault.Invalid, "these rules are not kept:\n%s", errors.Join(faults...))
	}
	return s.keepIngress(ctx, tenant.Ingress{Tenant: t, Site: site, YAML: text, Created: s.Now(), By: by}, "ingress set")
}

// ClearIngress keeps no rules for a site any more: connectors without a file of their own then run none.
func (s *Service) ClearIngress(ctx context.Context, t id.Tenant, site id.Site, by string) (tenant.Ingress, error) {
	now, err := s.Ingress(ctx, t, site, 0)
	if err == nil && len(now.YAML) == 0 {
		err = noIngress(t, site)
	}
	if err != nil {
		return tenant.Ingress{}, err
	}
	return s.keepIngress(ctx, tenant.Ingress{Tenant: t, Site: site, Created: s.Now(), By: by}, "ingress clear")
}

func (s *Service) keepIngress(ctx context.Context, i tenant.Ingress, action string) (tenant.Ingress, error) {
	made, err := s.Rules.SetIngress(ctx, i)
	if err != nil {
		return tenant.Ingress{}, err
	}
	s.done(action, i.Tenant, log.Site(i.Site), zap.Uint64("version", made.Version), zap.String("by", i.By))
	return made, nil
}

// Ingress returns one version of a site's rules, the newest for 0.
func (s *Service) Ingress(ctx context.Context, t id.Tenant, site id.Site, version uint64) (tenant.Ingress, error) {
	if err := s.site(ctx, t, site); err != nil {
		return tenant.Ingress{}, err
	}
	i, err := s.Rules.Ingress(ctx, t, site, version)
	if fault.Is(err, fault.NotFound) && version != 0 {
		return i, fault.New(fault.NotFound, "version %d is not kept (any more); `edge ingress list --site %s` shows those that are", version, site)
	}
	if fault.Is(err, fault.NotFound) {
		return i, noIngress(t, site)
	}
	return i, err
}

func noIngress(t id.Tenant, site id.Site) error {
	return fault.New(fault.NotFound, "no ingress rules are kept for site %s of tenant %s: edge ingress set FILE --site %s", site, t, site)
}

// ListIngress lists the versions of a site's rules that are still kept, newest first.
func (s *Service) ListIngress(ctx context.Context, t id.Tenant, site id.Site) ([]tenant.Ingress, error) {
	if err := s.site(ctx, t, site); err != nil {
		return nil, err
	}
	return s.Rules.IngressVersions(ctx, t, site)
}

// ConnectorIngress is one connector and what it makes of its site's rules.
type ConnectorIngress struct {
	Connector enroll.Connector
	Linked    bool
	controlserver.Ingress
}

// IngressStatus returns the newest version of a site's rules, 0 for none, and how each of the site's connectors that is not
// revoked stands to it.
func (s *Service) IngressStatus(ctx context.Context, t id.Tenant, site id.Site) (version uint64, all []ConnectorIngress, err error) {
	if err := s.site(ctx, t, site); err != nil {
		return 0, nil, err
	}
	now, err := s.Rules.Ingress(ctx, t, site, 0)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return 0, nil, err
	}
	connectors, links, err := s.ListConnectors(ctx, t)
	if err != nil {
		return 0, nil, err
	}
	known := s.Running.Ingress()
	for _, c := range connectors {
		if c.Site == site && c.Revoked.IsZero() {
			all = append(all, ConnectorIngress{Connector: c, Linked: len(links[c.ID]) > 0, Ingress: known[c.ID]})
		}
	}
	return now.Version, all, nil
}
