package storetest

import (
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

func testTenants(t *testing.T, s Stores) {
	ctx := t.Context()
	first := tenant.Tenant{ID: maple, Name: "Érable", SignInHost: "signin.maple.example", Zone: "America/Toronto", Created: moment}
	must(t, s.Tenants.CreateTenant(ctx, first))
	again := first
	again.SignInHost = "other.maple.example"
	wantCode(t, "the same tenant twice", s.Tenants.CreateTenant(ctx, again), fault.Exists)
	got, err := s.Tenants.Tenants(ctx)
	must(t, err)
	same(t, "tenants", []tenant.Tenant{first}, got)

	site := tenant.Site{Tenant: maple, ID: "main", Created: moment}
	must(t, s.Tenants.CreateSite(ctx, site))
	wantCode(t, "the same site twice", s.Tenants.CreateSite(ctx, site), fault.Exists)
	wantCode(t, "a site of nobody", s.Tenants.CreateSite(ctx, tenant.Site{Tenant: birch, ID: "main", Created: moment}), fault.NotFound)
	sites, err := s.Tenants.Sites(ctx, maple)
	must(t, err)
	same(t, "sites", []tenant.Site{site}, sites)
}

// A host has one tenant and one purpose, whichever way round it is tried.
func testHosts(t *testing.T, s Stores) {
	ctx := t.Context()
	seedTenant(t, s, maple)
	seedTenant(t, s, birch)
	first := app(maple, "/oscar")
	must(t, s.Tenants.CreateApp(ctx, first))
	must(t, s.Tenants.CreateApp(ctx, app(maple, "/fhir"))) // the same host, another path

	stolen := app(birch, "/other")
	stolen.Host = first.Host
	wantCode(t, "another tenant's app host", s.Tenants.CreateApp(ctx, stolen), fault.Exists)
	onSignIn := app(maple, "/x")
	onSignIn.Host = "signin.maple.example"
	wantCode(t, "an app on the sign-in host", s.Tenants.CreateApp(ctx, onSignIn), fault.Exists)
	onSignIn.Host = "signin.birch.example"
	wantCode(t, "an app on another's sign-in host", s.Tenants.CreateApp(ctx, onSignIn), fault.Exists)
	for _, host := range []string{first.Host, "signin.maple.example"} {
		err := s.Tenants.CreateTenant(ctx, tenant.Tenant{ID: "cedar", SignInHost: host, Created: moment})
		wantCode(t, "a sign-in host that is taken: "+host, err, fault.Exists)
	}
	got, err := s.Tenants.Tenants(ctx)
	must(t, err)
	if len(got) != 2 {
		t.Errorf("%d tenants; a refused one left something behind", len(got))
	}

	// The host is free when its last app is gone, and not before.
	apps, err := s.Tenants.Apps(ctx, maple)
	must(t, err)
	for i, a := range apps {
		must(t, s.Tenants.DeleteApp(ctx, maple, a.ID))
		err := s.Tenants.CreateApp(ctx, stolen)
		if last := i == len(apps)-1; last {
			must(t, err)
		} else {
			wantCode(t, "a host that still has an app", err, fault.Exists)
		}
	}
}

func testApps(t *testing.T, s Stores) {
	ctx := t.Context()
	seedTenant(t, s, maple)
	a := app(maple, "/oscar")
	must(t, s.Tenants.CreateApp(ctx, a))
	got, err := s.Tenants.Apps(ctx, maple)
	must(t, err)
	same(t, "apps", []tenant.App{a}, got)
	wantCode(t, "host and path taken", s.Tenants.CreateApp(ctx, app(maple, "/oscar")), fault.Exists)
	noSite := app(maple, "/x")
	noSite.Site = "elsewhere"
	wantCode(t, "a site that is not there", s.Tenants.CreateApp(ctx, noSite), fault.NotFound)

	rules := []policy.Rule{
		{ID: "r1", Effect: policy.Deny, Include: []policy.Selector{{Kind: policy.UserPrincipal, ID: "usr_1"}}},
		{ID: "r2", Effect: policy.Allow},
	}
	must(t, s.Tenants.SetRules(ctx, maple, a.ID, rules))
	a.Rules = rules
	got, err = s.Tenants.Apps(ctx, "")
	must(t, err)
	same(t, "apps of all tenants", []tenant.App{a}, got)
	must(t, s.Tenants.SetRules(ctx, maple, a.ID, nil))
	must(t, s.Tenants.DeleteApp(ctx, maple, a.ID))
	wantCode(t, "rules of a deleted app", s.Tenants.SetRules(ctx, maple, a.ID, rules), fault.NotFound)
	wantCode(t, "deleting twice", s.Tenants.DeleteApp(ctx, maple, a.ID), fault.NotFound)
}

func testUsers(t *testing.T, s Stores) {
	ctx := t.Context()
	seedTenant(t, s, maple)
	lee := user(maple, "dr.lee@clinic.example")
	must(t, s.Identity.CreateUser(ctx, lee))
	wantCode(t, "an address twice", s.Identity.CreateUser(ctx, user(maple, lee.Email)), fault.Exists)
	wantCode(t, "a user of nobody", s.Identity.CreateUser(ctx, user(birch, lee.Email)), fault.NotFound)
	// Another issuer may say the same address: it names nobody.
	other := user(maple, lee.Email)
	other.Issuer, other.Created = "https://idp.example", moment.Add(time.Second)
	must(t, s.Identity.CreateUser(ctx, other))

	got, err := s.Identity.UserByEmail(ctx, maple, lee.Email)
	must(t, err)
	same(t, "by address", lee, got)
	_, err = s.Identity.UserByEmail(ctx, maple, "dr.leo@clinic.example")
	wantCode(t, "an address that nobody has", err, fault.NotFound)
	got, err = s.Identity.User(ctx, maple, lee.ID)
	must(t, err)
	same(t, "by id", lee, got)
	_, err = s.Identity.User(ctx, maple, id.NewUser())
	wantCode(t, "an unknown id", err, fault.NotFound)
	wantCode(t, "disabling an unknown id", s.Identity.SetDisabled(ctx, maple, id.NewUser(), true), fault.NotFound)
	all, err := s.Identity.Users(ctx, maple)
	must(t, err)
	if len(all) != 2 || all[0].ID != lee.ID {
		t.Errorf("users: %v", all)
	}
}

func testDisabling(t *testing.T, s Stores) {
	ctx := t.Context()
	seedTenant(t, s, maple)
	lee, kim := user(maple, "dr.lee@clinic.example"), user(maple, "dr.kim@clinic.example")
	must(t, s.Identity.CreateUser(ctx, lee))
	must(t, s.Identity.CreateUser(ctx, kim))
	one, _ := login(t, s, lee)
	two, _ := login(t, s, lee)
	kims, _ := login(t, s, kim)
	before, err := s.Changes.Version(ctx)
	must(t, err)
	must(t, s.Identity.SetDisabled(ctx, maple, lee.ID, true))
	for _, ended := range []id.Session{one.ID, two.ID} {
		got, err := s.Sessions.Session(ctx, maple, ended)
		must(t, err)
		if got.Revoked.IsZero() {
			t.Error("a disabled user's session lives on")
		}
	}
	got, err := s.Sessions.Session(ctx, maple, kims.ID)
	must(t, err)
	same(t, "another user's session", kims, got)
	// One row for each session and one for the user.
	log, err := s.Changes.Since(ctx, before, 10)
	must(t, err)
	if len(log) != 3 {
		t.Errorf("%d changes, want 3: %v", len(log), log)
	}
	must(t, s.Identity.SetDisabled(ctx, maple, lee.ID, false))
	if got, err := s.Identity.User(ctx, maple, lee.ID); err != nil || got.Disabled {
		t.Errorf("enabled again: %v, %v", got, err)
	}
	if got, err := s.Sessions.Session(ctx, maple, one.ID); err != nil || got.Revoked.IsZero() {
		t.Errorf("enabling a user revived a session: %v, %v", got, err)
	}
}
