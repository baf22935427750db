package storetest

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/identity/emailotp"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

// matrix asks every method that takes a tenant about what belongs to another. It is keyed by the method, so that
// testIsolation can tell when a new one is missing.
func matrix(ctx context.Context, s Stores, by id.Tenant, of clinic) map[string]func() error {
	nothing := func(n int, err error) error { // lists and look-ups that answer without an error
		if err == nil && n == 0 {
			return fault.New(fault.NotFound, "empty")
		}
		return err
	}
	account := []byte("account")
	return map[string]func() error{
		"tenant.SetRules":  func() error { return s.Tenants.SetRules(ctx, by, of.App.ID, nil) },
		"tenant.DeleteApp": func() error { return s.Tenants.DeleteApp(ctx, by, of.App.ID) },
		"tenant.Sites": func() error {
			all, err := s.Tenants.Sites(ctx, by)
			return nothing(count(all, func(one tenant.Site) bool { return one.Tenant != by }), err)
		},
		"tenant.Apps": func() error {
			all, err := s.Tenants.Apps(ctx, by)
			return nothing(count(all, func(one tenant.App) bool { return one.Tenant != by }), err)
		},
		"identity.User": func() error { _, err := s.Identity.User(ctx, by, of.User.ID); return err },
		"identity.UserByEmail": func() error {
			// Both clinics have a Dr. Lee with one address; each finds its own.
			got, err := s.Identity.UserByEmail(ctx, by, of.User.Email)
			return nothing(count([]identity.User{got}, func(one identity.User) bool { return one.ID == of.User.ID }), err)
		},
		"identity.Users": func() error {
			all, err := s.Identity.Users(ctx, by)
			return nothing(count(all, func(one identity.User) bool { return one.Tenant != by }), err)
		},
		"identity.SetDisabled": func() error { return s.Identity.SetDisabled(ctx, by, of.User.ID, true) },
		"session.SessionByReference": func() error {
			_, err := s.Sessions.SessionByReference(ctx, by, of.Reference.Hash, of.Reference.Host)
			return err
		},
		"session.Session": func() error { _, err := s.Sessions.Session(ctx, by, of.Session.ID); return err },
		"session.Sessions": func() error {
			all, err := s.Sessions.Sessions(ctx, by, moment)
			return nothing(count(all, func(one session.Session) bool { return one.Tenant != by }), err)
		},
		"session.Touch":  func() error { return s.Sessions.Touch(ctx, by, of.Session.ID, moment.Add(time.Minute)) },
		"session.Revoke": func() error { return s.Sessions.Revoke(ctx, by, of.Session.ID, moment) },
		"session.RedeemHandoff": func() error {
			_, err := s.Sessions.RedeemHandoff(ctx, by, "handoff-"+string(of.Tenant), appHost, flow, moment,
				session.Reference{Tenant: by, Hash: "stolen", Session: of.Session.ID, Host: appHost})
			return err
		},
		"token.ServiceToken": func() error { _, err := s.Services.ServiceToken(ctx, by, of.Token.ID); return err },
		"token.ServiceTokens": func() error {
			all, err := s.Services.ServiceTokens(ctx, by)
			return nothing(count(all, func(one token.ServiceToken) bool { return one.Tenant != by }), err)
		},
		"token.RevokeServiceToken": func() error { return s.Services.RevokeServiceToken(ctx, by, of.Token.ID, moment) },
		"token.TouchServiceToken":  func() error { return s.Services.TouchServiceToken(ctx, by, of.Token.ID, moment) },
		"enroll.Connectors": func() error {
			all, err := s.Enroll.Connectors(ctx, by)
			return nothing(count(all, func(one enroll.Connector) bool { return one.Tenant != by }), err)
		},
		"enroll.SetFrozen":       func() error { return s.Enroll.SetFrozen(ctx, by, of.Connector.ID, "copied") },
		"enroll.RevokeConnector": func() error { return s.Enroll.RevokeConnector(ctx, by, of.Connector.ID, moment) },
		"ingress.Ingress": func() error {
			// Both clinics have a site "main"; each finds its own version 1.
			got, err := s.Ingress.Ingress(ctx, by, "main", 1)
			return nothing(count([]tenant.Ingress{got}, func(one tenant.Ingress) bool { return string(one.YAML) == "rules of "+string(of.Tenant) }), err)
		},
		"ingress.IngressVersions": func() error {
			all, err := s.Ingress.IngressVersions(ctx, by, "main")
			return nothing(count(all, func(one tenant.Ingress) bool { return one.Tenant != by }), err)
		},
		"emailotp.TryCode":   func() error { _, err := s.Codes.TryCode(ctx, by, "code-"+string(of.Tenant), moment); return err },
		"emailotp.SpendCode": func() error { return yes(s.Codes.SpendCode(ctx, by, "code-"+string(of.Tenant))) },
		"emailotp.Take": func() error {
			// The bucket of the other tenant is empty; this one's, of the same name, is not.
			ok, err := s.Codes.Take(ctx, by, "of-"+string(of.Tenant), 1, time.Hour, moment)
			if ok {
				return fault.New(fault.NotFound, "apart")
			}
			return err
		},
		"emailotp.Known": func() error { return yes(s.Codes.Known(ctx, by, "browser-"+string(of.Tenant), account)) },
		"emailotp.Remember": func() error {
			must := s.Codes.Remember(ctx, by, "new-by-"+string(by), account, moment)
			if must != nil {
				return must
			}
			return yes(s.Codes.Known(ctx, of.Tenant, "new-by-"+string(by), account))
		},
		"audit.Decisions": func() error {
			all, err := s.Audit.Decisions(ctx, by, 0, 100)
			return nothing(count(all, func(one audit.Decision) bool { return one.Tenant != by }), err)
		},
		"audit.Outcomes": func() error {
			all, err := s.Audit.Outcomes(ctx, by, 0, 100)
			return nothing(count(all, func(one audit.Outcome) bool { return one.Tenant != by }), err)
		},
	}
}

func count[T any](all []T, foreign func(T) bool) (n int) {
	for _, one := range all {
		if foreign(one) {
			n++
		}
	}
	return n
}

// testIsolation has each of two clinics, alike in every name, reach for what is the other's, in every method there is.
func testIsolation(t *testing.T, s Stores) {
	ctx := t.Context()
	clinics := []clinic{seedAll(t, s, maple), seedAll(t, s, birch)}
	for i, by := range clinics {
		of := clinics[1-i]
		probes := matrix(ctx, s, by.Tenant, of)
		for _, method := range tenantMethods() {
			if probes[method] == nil {
				t.Errorf("%s takes a tenant and is not in the matrix", method)
			}
		}
		for method, probe := range probes {
			err := probe()
			if !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Denied) {
				t.Errorf("%s reaches for %s's by %s: %v", by.Tenant, of.Tenant, method, err)
			}
		}
	}
	unharmed(t, s, clinics)
}

// unharmed fails if anything had an effect on either clinic.
func unharmed(t *testing.T, s Stores, clinics []clinic) {
	t.Helper()
	ctx := t.Context()
	for _, c := range clinics {
		u, err := s.Identity.User(ctx, c.Tenant, c.User.ID)
		must(t, err)
		same(t, "user", c.User, u)
		one, err := s.Sessions.Session(ctx, c.Tenant, c.Session.ID)
		must(t, err)
		same(t, "session", c.Session, one)
		tok, err := s.Services.ServiceToken(ctx, c.Tenant, c.Token.ID)
		must(t, err)
		same(t, "token", c.Token, tok)
		con, err := s.Enroll.Connector(ctx, c.Connector.ID)
		must(t, err)
		same(t, "connector", c.Connector, con)
		apps, err := s.Tenants.Apps(ctx, c.Tenant)
		must(t, err)
		same(t, "apps", []tenant.App{c.App}, apps)
		if got, err := s.Codes.TryCode(ctx, c.Tenant, "code-"+string(c.Tenant), moment); err != nil || got.Tries != 1 {
			t.Errorf("code: %d tries, %v", got.Tries, err)
		}
	}
}

// seedAll adds to seed what the matrix needs besides.
func seedAll(t *testing.T, s Stores, of id.Tenant) clinic {
	t.Helper()
	ctx := t.Context()
	c := seed(t, s, of)
	must(t, s.Sessions.CreateHandoff(ctx, session.Handoff{
		Tenant: of, Hash: "handoff-" + string(of), Session: c.Session.ID,
		Host: appHost, Flow: flow, Expires: moment.Add(time.Minute),
	}))
	one := code(of)
	one.ID = "code-" + string(of)
	must(t, s.Codes.PutCode(ctx, one))
	must(t, s.Codes.Remember(ctx, of, "browser-"+string(of), []byte("account"), moment))
	if ok, err := s.Codes.Take(ctx, of, "of-"+string(of), 1, time.Hour, moment); err != nil || !ok {
		t.Fatal(ok, err)
	}
	_, err := s.Ingress.SetIngress(ctx, ingressOf(of, "rules of "+string(of)))
	must(t, err)
	_, err = s.Audit.Append(ctx, []audit.Decision{decision(of, "/")}, []audit.Outcome{{Tenant: of, Sequence: 1, Time: moment}})
	must(t, err)
	return c
}

// tenantMethods lists the methods of all stores that take a tenant's id.
func tenantMethods() (names []string) {
	for owner, store := range storeTypes() {
		for method := range store.Methods() {
			if takesTenant(method.Type) {
				names = append(names, owner+"."+method.Name)
			}
		}
	}
	return names
}

func takesTenant(method reflect.Type) bool {
	for i := range method.NumIn() {
		if method.In(i) == reflect.TypeFor[id.Tenant]() {
			return true
		}
	}
	return false
}

func storeTypes() map[string]reflect.Type {
	return map[string]reflect.Type{
		"tenant": reflect.TypeFor[tenant.Store](), "identity": reflect.TypeFor[identity.Store](),
		"session": reflect.TypeFor[session.Store](), "token": reflect.TypeFor[token.ServiceStore](),
		"enroll": reflect.TypeFor[enroll.Store](), "ingress": reflect.TypeFor[tenant.IngressStore](), "emailotp": reflect.TypeFor[emailotp.Store](),
		"audit": reflect.TypeFor[audit.Store](),
	}
}
