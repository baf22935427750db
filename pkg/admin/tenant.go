package admin

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/route"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// maxName bounds what people call things, in characters.
const maxName = 80

// CreateTenant adds a clinic. Empty fields take their defaults: the id as name, signin.<id>.<parent of the edge's host> as
// sign-in host, UTC.
func (s *Service) CreateTenant(ctx context.Context, t tenant.Tenant) (tenant.Tenant, error) {
	label, err := parseLabel[id.Tenant]("tenant", string(t.ID))
	if err != nil {
		return tenant.Tenant{}, err
	}
	t.ID, t.Created = label, s.Now()
	if t.Name == "" {
		t.Name = string(label)
	}
	if t.SignInHost == "" {
		t.SignInHost = "signin." + string(label) + "." + parentDomain(s.EdgeHost)
	}
	if t.Zone == "" {
		t.Zone = "UTC"
	}
	if t.Name, err = name("name", t.Name); err != nil {
		return tenant.Tenant{}, err
	}
	if err := s.unused(ctx, t.ID); err != nil {
		return tenant.Tenant{}, err
	}
	if t.SignInHost, err = s.newHost(ctx, "", t.SignInHost); err != nil {
		return tenant.Tenant{}, err
	}
	if _, err := time.LoadLocation(t.Zone); err != nil {
		return tenant.Tenant{}, fault.New(fault.Invalid, "zone %q: not a time zone; write one like America/Toronto", t.Zone)
	}
	if err := s.Tenants.CreateTenant(ctx, t); err != nil {
		return tenant.Tenant{}, err
	}
	s.done("tenant create", t.ID)
	return t, nil
}

// ListTenants lists all clinics.
func (s *Service) ListTenants(ctx context.Context) ([]tenant.Tenant, error) {
	return s.Tenants.Tenants(ctx)
}

// CreateSite adds a place with an origin to a clinic.
func (s *Service) CreateSite(ctx context.Context, t id.Tenant, site string) (tenant.Site, error) {
	if _, err := s.tenant(ctx, t); err != nil {
		return tenant.Site{}, err
	}
	label, err := parseLabel[id.Site]("site", site)
	if err != nil {
		return tenant.Site{}, err
	}
	created := tenant.Site{Tenant: t, ID: label, Created: s.Now()}
	if err := s.Tenants.CreateSite(ctx, created); err != nil {
		return tenant.Site{}, err
	}
	s.done("site create", t, log.Site(label))
	return created, nil
}

// ListSites lists a clinic's sites.
func (s *Service) ListSites(ctx context.Context, t id.Tenant) ([]tenant.Site, error) {
	if _, err := s.tenant(ctx, t); err != nil {
		return nil, err
	}
	return s.Tenants.Sites(ctx, t)
}

// tenant finds a clinic, or says where to look for its name: an operator mistypes names.
func (s *Service) tenant(ctx context.Context, t id.Tenant) (tenant.Tenant, error) {
	all, err := s.Tenants.Tenants(ctx)
	if err != nil {
		return tenant.Tenant{}, err
	}
	for _, one := range all {
		if one.ID == t {
			return one, nil
		}
	}
	return tenant.Tenant{}, fault.New(fault.NotFound, "no tenant %q; `edge tenant list` shows them", t)
}

func (s *Service) site(ctx context.Context, t id.Tenant, site id.Site) error {
	sites, err := s.ListSites(ctx, t)
	if err != nil {
		return err
	}
	for _, one := range sites {
		if one.ID == site {
			return nil
		}
	}
	return fault.New(fault.NotFound, "no site %q in tenant %s; `edge site list --tenant %s` shows them", site, t, t)
}

// unused says plainly that a clinic is there already: its sign-in host, which is made of its name, is taken as well then.
func (s *Service) unused(ctx context.Context, t id.Tenant) error {
	_, err := s.tenant(ctx, t)
	switch {
	case err == nil:
		return fault.New(fault.Exists, "tenant %s exists already", t)
	case fault.Is(err, fault.NotFound):
		return nil
	}
	return err
}

// newHost checks a host that is to be published: canonical, not the edge's own, and nobody's yet. The store's constraints
// have the last word when two ask at once. In whose name it is asked, by, is empty for the operator, who alone is told which other
// clinic has it.
func (s *Service) newHost(ctx context.Context, by id.Tenant, raw string) (string, error) {
	host, err := route.CanonicalHost(raw)
	if err != nil {
		return "", fault.New(fault.Invalid, "host %q: %s", raw, err)
	}
	if strings.Contains(raw, ":") {
		return "", fault.New(fault.Invalid, "host %q: without the port; every host is served on the edge's one port", raw)
	}
	if host == s.EdgeHost {
		return "", fault.New(fault.Invalid, "host %s is the edge's own; choose another", host)
	}
	tenants, err := s.Tenants.Tenants(ctx)
	if err != nil {
		return "", err
	}
	for _, t := range tenants {
		switch {
		case t.SignInHost != host:
		case by != "" && by != t.ID:
			return "", fault.New(fault.Exists, "host %s is taken", host)
		default:
			return "", fault.New(fault.Exists, "host %s is the sign-in host of tenant %s", host, t.ID)
		}
	}
	return host, nil
}

func name(what, s string) (string, error) {
	s = strings.TrimSpace(s)
	if s == "" || utf8.RuneCountInString(s) > maxName || !utf8.ValidString(s) || strings.ContainsFunc(s, isControl) {
		return "", fault.New(fault.Invalid, "%s: 1 to %d printable characters", what, maxName)
	}
	return s, nil
}

func isControl(r rune) bool { return r < 0x20 || (r >= 0x7f && r < 0xa0) || r == 0x2028 || r == 0x2029 }

func parseLabel[T ~string](what, s string) (T, error) {
	label, err := id.ParseLabel[T](what, s)
	if err != nil {
		return "", fault.New(fault.Invalid, "%s", err)
	}
	return label, nil
}

// parentDomain is the domain that the edge's host stands in: edge.example.com → example.com, edge.localhost → localhost.
func parentDomain(host string) string {
	if _, parent, ok := strings.Cut(host, "."); ok {
		return parent
	}
	return host
}
