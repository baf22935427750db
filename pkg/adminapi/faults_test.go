package adminapi_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/adminapi"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

// refusals is a call each that must fail in a world with the clinic maple, with the code and the words that say what to do.
func refusals(w *world, app string) map[string]refusal {
	ctx := context.Background()
	return map[string]refusal{
		"tenant taken": {fault.Exists, "tenant maple exists already", func() error {
			_, err := w.CreateTenant(ctx, &adminv1.CreateTenantRequest{Id: "maple"})
			return err
		}},
		"tenant's form": {fault.Invalid, "1 to 32 of a-z", func() error {
			_, err := w.CreateTenant(ctx, &adminv1.CreateTenantRequest{Id: "Maple Clinic"})
			return err
		}},
		"zone": {fault.Invalid, "America/Toronto", func() error {
			_, err := w.CreateTenant(ctx, &adminv1.CreateTenantRequest{Id: "oak", Zone: "Toronto/America"})
			return err
		}},
		"clinic's name": {fault.Invalid, "printable", func() error {
			_, err := w.CreateTenant(ctx, &adminv1.CreateTenantRequest{Id: "oak", Name: "Oak\x1b[2J"})
			return err
		}},
		"sign-in host with a port": {fault.Invalid, "without the port", func() error {
			_, err := w.CreateTenant(ctx, &adminv1.CreateTenantRequest{Id: "oak", SignInHost: "signin.oak.example:8443"})
			return err
		}},
		"sign-in host is the edge's": {fault.Invalid, "the edge's own", func() error {
			_, err := w.CreateTenant(ctx, &adminv1.CreateTenantRequest{Id: "oak", SignInHost: "edge.example"})
			return err
		}},
		"sign-in host is an app's": {fault.Exists, "oscar.maple.example", func() error {
			_, err := w.CreateTenant(ctx, &adminv1.CreateTenantRequest{Id: "oak", SignInHost: "oscar.maple.example"})
			return err
		}},
		"sites of nobody": {fault.NotFound, "edge tenant list", func() error {
			_, err := w.ListSites(ctx, &adminv1.ListSitesRequest{Tenant: "oak"})
			return err
		}},
		"site taken": {fault.Exists, "main", func() error {
			_, err := w.CreateSite(ctx, &adminv1.CreateSiteRequest{Tenant: "maple", Id: "main"})
			return err
		}},
		"site's form": {fault.Invalid, "1 to 32 of a-z", func() error {
			_, err := w.CreateSite(ctx, &adminv1.CreateSiteRequest{Tenant: "maple", Id: "-"})
			return err
		}},
		"app at no site": {fault.NotFound, "edge site list --tenant maple", func() error {
			_, err := w.CreateApp(ctx, &adminv1.CreateAppRequest{Tenant: "maple", Host: "x.maple.example", Site: "annex"})
			return err
		}},
		"app on a sign-in host": {fault.Exists, "sign-in host of tenant maple", func() error {
			_, err := w.CreateApp(ctx, &adminv1.CreateAppRequest{Tenant: "maple", Host: "signin.maple.example", Site: "main"})
			return err
		}},
		"app taken": {fault.Exists, "oscar.maple.example", func() error {
			_, err := w.CreateApp(ctx, &adminv1.CreateAppRequest{Tenant: "maple", Host: "oscar.maple.example", Site: "main"})
			return err
		}},
		"app's path": {fault.Invalid, "canonical", func() error {
			_, err := w.CreateApp(ctx, &adminv1.CreateAppRequest{Tenant: "maple", Host: "x.maple.example", Site: "main", Path: "/a/../b"})
			return err
		}},
		"app for a stranger": {fault.NotFound, "edge user add dr.who@maple.example --tenant maple", func() error {
			_, err := w.CreateApp(ctx, &adminv1.CreateAppRequest{
				Tenant: "maple", Host: "x.maple.example", Site: "main", AllowUsers: []string{"dr.who@maple.example"},
			})
			return err
		}},
		"access for what is no service": {fault.Invalid, "service", func() error {
			_, err := w.SetAppAccess(ctx, &adminv1.SetAppAccessRequest{Tenant: "maple", App: app, AllowServices: []string{"Booking!"}})
			return err
		}},
		"access to no app": {fault.NotFound, "app", func() error {
			_, err := w.SetAppAccess(ctx, &adminv1.SetAppAccessRequest{Tenant: "maple", App: "app_none"})
			return err
		}},
		"no app to delete": {fault.NotFound, "app", func() error {
			_, err := w.DeleteApp(ctx, &adminv1.DeleteAppRequest{Tenant: "maple", App: "app_none"})
			return err
		}},
		"user taken": {fault.Exists, "user", func() error {
			_, err := w.AddUser(ctx, &adminv1.AddUserRequest{Tenant: "maple", Email: "Dr.Lee@maple.example"})
			return err
		}},
		"no address": {fault.Invalid, "e-mail address", func() error {
			_, err := w.AddUser(ctx, &adminv1.AddUserRequest{Tenant: "maple", Email: "dr.lee"})
			return err
		}},
		"nobody to disable": {fault.NotFound, "user", func() error {
			_, err := w.SetUserDisabled(ctx, &adminv1.SetUserDisabledRequest{Tenant: "maple", Email: "dr.who@maple.example", Disabled: true})
			return err
		}},
		"no connector to revoke": {fault.NotFound, "connector", func() error {
			_, err := w.RevokeConnector(ctx, &adminv1.RevokeConnectorRequest{Tenant: "maple", Connector: "con_none"})
			return err
		}},
		"no connector to thaw": {fault.NotFound, "connector", func() error {
			_, err := w.ThawConnector(ctx, &adminv1.ThawConnectorRequest{Tenant: "maple", Connector: "con_none"})
			return err
		}},
		"invitation to no site": {fault.NotFound, "annex", func() error {
			_, err := w.InviteConnector(ctx, &adminv1.InviteConnectorRequest{Tenant: "maple", Site: "annex"})
			return err
		}},
		"no session to revoke": {fault.NotFound, "session", func() error {
			_, err := w.RevokeSession(ctx, &adminv1.RevokeSessionRequest{Tenant: "maple", Session: "ses_none"})
			return err
		}},
		"token for too long": {fault.Invalid, "8760h", func() error {
			_, err := w.MintToken(ctx, &adminv1.MintTokenRequest{Tenant: "maple", Service: "booking", LifeS: 1 << 40})
			return err
		}},
		"token for the past": {fault.Invalid, "1h", func() error {
			_, err := w.MintToken(ctx, &adminv1.MintTokenRequest{Tenant: "maple", Service: "booking", LifeS: -1})
			return err
		}},
		"token's service": {fault.Invalid, "service", func() error {
			_, err := w.MintToken(ctx, &adminv1.MintTokenRequest{Tenant: "maple", Service: "a b"})
			return err
		}},
		"no token to revoke": {fault.NotFound, "token", func() error {
			_, err := w.RevokeToken(ctx, &adminv1.RevokeTokenRequest{Tenant: "maple", Token: "tok_none"})
			return err
		}},
		"mail to nobody": {fault.Invalid, "e-mail address", func() error {
			_, err := w.TestMail(ctx, &adminv1.TestMailRequest{To: "nobody"})
			return err
		}},
	}
}

type refusal struct {
	code  fault.Code
	words string
	call  func() error
}

func TestFaultsSayWhatIsWrongAndWhatToDo(t *testing.T) {
	w := serve(t)
	app := w.maple(t)
	for name, one := range refusals(w, app.Id) {
		err := adminapi.Explain(w.socket, one.call())
		if !fault.Is(err, one.code) || !strings.Contains(err.Error(), one.words) {
			t.Errorf("%s: %q %v, want %q with %q", name, fault.CodeOf(err), err, one.code, one.words)
		}
	}
	if n := w.log.FilterLevelExact(zap.ErrorLevel).Len(); n != 0 {
		t.Errorf("%d mistakes of the operator were logged as the edge's", n)
	}
}

// One clinic's names lead nowhere in another one.
func TestAnotherClinicsThingsAreNotFound(t *testing.T) {
	w := serve(t)
	app := w.maple(t)
	ctx := t.Context()
	if _, err := w.CreateTenant(ctx, &adminv1.CreateTenantRequest{Id: "oak"}); err != nil {
		t.Fatal(err)
	}
	minted, err := w.MintToken(ctx, &adminv1.MintTokenRequest{Tenant: "maple", Service: "booking"})
	if err != nil {
		t.Fatal(err)
	}
	_, errApp := w.DeleteApp(ctx, &adminv1.DeleteAppRequest{Tenant: "oak", App: app.Id})
	_, errToken := w.RevokeToken(ctx, &adminv1.RevokeTokenRequest{Tenant: "oak", Token: minted.Token.Id})
	_, errUser := w.SetUserDisabled(ctx, &adminv1.SetUserDisabledRequest{Tenant: "oak", Email: "dr.lee@maple.example", Disabled: true})
	_, errAccess := w.SetAppAccess(ctx, &adminv1.SetAppAccessRequest{Tenant: "oak", App: app.Id})
	for name, err := range map[string]error{"app": errApp, "token": errToken, "user": errUser, "access": errAccess} {
		if err := adminapi.Explain(w.socket, err); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s of maple through oak: %v", name, err)
		}
	}
}

func TestAPersonIsAddedEvenIfTheInvitationFails(t *testing.T) {
	for name, w := range map[string]*world{"no server": serve(t, noMailServer), "refused": serve(t)} {
		w.post.refuse = errors.New("mailbox of dr.lee@maple.example is full")
		if _, err := w.CreateTenant(t.Context(), &adminv1.CreateTenantRequest{Id: "maple"}); err != nil {
			t.Fatal(err)
		}
		_, err := w.AddUser(t.Context(), &adminv1.AddUserRequest{Tenant: "maple", Email: "dr.lee@maple.example"})
		if err := adminapi.Explain(w.socket, err); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "is added") {
			t.Errorf("%s: %v", name, err)
		}
		users, err := w.ListUsers(t.Context(), &adminv1.ListUsersRequest{Tenant: "maple"})
		if err != nil || len(users.Users) != 1 {
			t.Errorf("%s: %v, %v", name, users, err)
		}
		_, err = w.TestMail(t.Context(), &adminv1.TestMailRequest{To: "it@msp.example"})
		if err := adminapi.Explain(w.socket, err); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "mail") {
			t.Errorf("%s: mail test: %v", name, err)
		}
	}
}

func TestAStoreThatIsGoneIsSaidPlainlyAndLogged(t *testing.T) {
	w := serve(t)
	w.maple(t)
	if err := w.db.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := w.ListTenants(t.Context(), &adminv1.ListTenantsRequest{})
	err = adminapi.Explain(w.socket, err)
	if !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Internal) {
		t.Errorf("%q %v", fault.CodeOf(err), err)
	}
	if strings.Contains(err.Error(), "sql") {
		t.Errorf("the operator is shown %q", err)
	}
	if w.log.FilterMessage("administration failed").Len() != 1 {
		t.Errorf("the log has no line, or many, of what lies behind it: %v", w.log.All())
	}
}

func TestEveryChangeIsLoggedWithoutAddresses(t *testing.T) {
	w := serve(t)
	w.maple(t)
	for _, want := range []string{"tenant create", "site create", "user add", "app create"} {
		found := false
		for _, line := range w.log.FilterMessage("administration").All() {
			found = found || line.ContextMap()["action"] == want
		}
		if !found {
			t.Errorf("%q is not logged", want)
		}
	}
	for _, line := range w.log.All() {
		if strings.Contains(mustJSON(t, line.ContextMap()), "@") {
			t.Errorf("an address is in the log: %v", line.ContextMap())
		}
	}
}
