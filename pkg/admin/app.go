package admin

import (
	"context"
	"slices"
	"strings"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/log"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/route"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/urlpath"
)

// Who names those who may use an app: users by e-mail address, services by name. "Nobody" is a legitimate answer.
type Who struct{ Users, Services []string }

// allowRule is the id of the one rule that `--allow` makes.
const allowRule = "allow"

// CreateApp publishes a host. Path defaults to "/", Name to "OSCAR".
func (s *Service) CreateApp(ctx context.Context, a tenant.App, allow Who) (tenant.App, error) {
	if err := s.site(ctx, a.Tenant, a.Site); err != nil {
		return tenant.App{}, err
	}
	var err error
	if a.Host, err = s.newHost(ctx, a.Tenant, a.Host); err != nil {
		return tenant.App{}, err
	}
	if a.Path == "" {
		a.Path = "/"
	}
	if a.Name == "" {
		a.Name = "OSCAR"
	}
	if a.Name, err = name("name", a.Name); err != nil {
		return tenant.App{}, err
	}
	// Stricter than what can be matched: one app that cannot be routed would hold up every clinic's.
	if !route.CanOwn(a.Path) {
		return tenant.App{}, fault.New(fault.Invalid, "path %q: write it in its canonical form, / or like /oscar; everything below belongs to the app", a.Path)
	}
	if err := canonicalPaths(append(slices.Clone(a.WebSocket), a.Landing...)); err != nil {
		return tenant.App{}, err
	}
	if a.Rules, err = s.rules(ctx, a.Tenant, allow); err != nil {
		return tenant.App{}, err
	}
	a.ID, a.Created = id.NewApp(), s.Now()
	if err := s.Tenants.CreateApp(ctx, a); err != nil {
		return tenant.App{}, err
	}
	s.done("app create", a.Tenant, log.App(a.ID))
	return a, nil
}

// ListApps lists a clinic's apps with the people and services that may use them.
func (s *Service) ListApps(ctx context.Context, t id.Tenant) ([]tenant.App, map[id.App]Who, error) {
	if _, err := s.tenant(ctx, t); err != nil {
		return nil, nil, err
	}
	apps, err := s.Tenants.Apps(ctx, t)
	if err != nil {
		return nil, nil, err
	}
	emails, err := s.emails(ctx, t)
	if err != nil {
		return nil, nil, err
	}
	who := make(map[id.App]Who, len(apps))
	for _, a := range apps {
		who[a.ID] = whoOf(a.Rules, emails)
	}
	return apps, who, nil
}

// SetAppAccess replaces who may use an app; those who no longer may are cut off within seconds.
func (s *Service) SetAppAccess(ctx context.Context, t id.Tenant, a id.App, allow Who) error {
	rules, err := s.rules(ctx, t, allow)
	if err != nil {
		return err
	}
	if err := s.Tenants.SetRules(ctx, t, a, rules); err != nil {
		return err
	}
	s.done("app access", t, log.App(a))
	return nil
}

// DeleteApp takes a host off the air.
func (s *Service) DeleteApp(ctx context.Context, t id.Tenant, a id.App) error {
	if err := s.Tenants.DeleteApp(ctx, t, a); err != nil {
		return err
	}
	s.done("app delete", t, log.App(a))
	return nil
}

// rules makes the one rule that names those who may; no names make no rule, and no rule denies.
func (s *Service) rules(ctx context.Context, t id.Tenant, allow Who) ([]policy.Rule, error) {
	var include []policy.Selector
	for _, raw := range allow.Users {
		email, err := identity.CanonicalEmail(raw)
		if err != nil {
			return nil, fault.New(fault.Invalid, "user %q: %s", raw, err)
		}
		u, err := s.Identity.UserByEmail(ctx, t, email)
		if fault.Is(err, fault.NotFound) {
			return nil, fault.New(fault.NotFound, "no user %s in tenant %s; add them first: edge user add %s --tenant %s", email, t, email, t)
		}
		if err != nil {
			return nil, err
		}
		include = append(include, policy.Selector{Kind: policy.UserPrincipal, ID: string(u.ID)})
	}
	for _, raw := range allow.Services {
		service, err := parseLabel[id.Service]("service", raw)
		if err != nil {
			return nil, err
		}
		include = append(include, policy.Selector{Kind: policy.ServicePrincipal, ID: string(service)})
	}
	if len(include) == 0 {
		return nil, nil
	}
	return []policy.Rule{{ID: allowRule, Effect: policy.Allow, Include: include}}, nil
}

func (s *Service) emails(ctx context.Context, t id.Tenant) (map[id.User]string, error) {
	users, err := s.Identity.Users(ctx, t)
	if err != nil {
		return nil, err
	}
	emails := make(map[id.User]string, len(users))
	for _, u := range users {
		emails[u.ID] = u.Email
	}
	return emails, nil
}

func whoOf(rules []policy.Rule, emails map[id.User]string) Who {
	var who Who
	for _, r := range rules {
		for _, sel := range r.Include {
			if r.Effect != policy.Allow {
				continue
			}
			if sel.Kind == policy.ServicePrincipal {
				who.Services = append(who.Services, sel.ID)
			} else {
				who.Users = append(who.Users, emails[id.User(sel.ID)])
			}
		}
	}
	return who
}

// canonicalPaths checks paths and prefixes ("/oscar/*") that are compared with canonical targets: in another form they would
// never match.
func canonicalPaths(paths []string) error {
	for _, p := range paths {
		if p == "/*" {
			continue
		}
		prefix := strings.TrimSuffix(p, "/*")
		if target, err := urlpath.Parse(prefix, urlpath.Options{}); err != nil || target.HasQuery || target.Path != prefix {
			return fault.New(fault.Invalid, "path %q: write it in its canonical form, like /oscar", p)
		}
	}
	return nil
}
