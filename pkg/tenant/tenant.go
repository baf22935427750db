// Package tenant owns clinics and what they publish: tenants, sites, apps, and who may use an app. It knows neither HTTP
// nor SQL; matching a request to an app is route's work, and judging it is policy's.
package tenant

import (
	"context"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/policy"
)

// Tenant is one clinic.
type Tenant struct {
	ID id.Tenant
	// Name is what people call the clinic; it heads every page that they see.
	Name string
	// SignInHost is the tenant's own host for sign-in; it never proxies, and no app may have it.
	SignInHost string
	// Zone is the IANA time zone that times are shown in.
	Zone    string
	Created time.Time
}

// Site is one place with an origin, served by one or more connectors.
type Site struct {
	Tenant  id.Tenant
	ID      id.Site
	Created time.Time
}

// App is a published hostname with the rules of who may use it.
type App struct {
	Tenant id.Tenant
	ID     id.App
	// Host is canonical: lower case, no port, no trailing dot. It belongs to exactly one tenant.
	Host string
	// Path is the canonical prefix that the app owns, "/" for the whole host; matched per segment.
	Path string
	Site id.Site
	// Name is what people call it ("OSCAR").
	Name string
	// Landing lists the paths that a link on a foreign site may open directly (canonical, exact or with a final "/*"),
	// apart from "/"; any other cross-site navigation is asked about first.
	Landing []string
	// WebSocket lists the path prefixes on which an upgrade is allowed; empty allows none.
	WebSocket []string
	// Rules say who may; no rule that matches means no.
	Rules   []policy.Rule
	Created time.Time
}

// Store keeps tenants, sites and apps. Every write appends to the change log in the same transaction and is durable when
// it returns. A name or host that is taken gives fault.Exists; what does not exist gives fault.NotFound.
type Store interface {
	CreateTenant(ctx context.Context, t Tenant) error
	Tenants(ctx context.Context) ([]Tenant, error)
	CreateSite(ctx context.Context, s Site) error
	Sites(ctx context.Context, tenant id.Tenant) ([]Site, error)
	CreateApp(ctx context.Context, a App) error
	// SetRules replaces the rules of an app.
	SetRules(ctx context.Context, tenant id.Tenant, app id.App, rules []policy.Rule) error
	DeleteApp(ctx context.Context, tenant id.Tenant, app id.App) error
	// Apps returns every app of a tenant, or of all tenants when tenant is empty.
	Apps(ctx context.Context, tenant id.Tenant) ([]App, error)
}
