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
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

// rows is the matrix of the methods that are given a row of a tenant's: one that names what is another's is refused, and one that only
// is called as another's leaves that one alone, which the probe itself looks at.
func rows(ctx context.Context, s Stores, by id.Tenant, of clinic) map[string]func() error {
	theirs := id.Site(of.Tenant) + "-only"
	unless := func(err error, harmed bool, look error) error {
		switch {
		case look != nil:
			return look
		case harmed:
			return nil
		case err != nil && !fault.Is(err, fault.Exists):
			return err
		}
		return fault.New(fault.NotFound, "apart")
	}
	recorded := func() int {
		decisions, err := s.Audit.Decisions(ctx, of.Tenant, 0, 100)
		outcomes, again := s.Audit.Outcomes(ctx, of.Tenant, 0, 100)
		if err != nil || again != nil {
			return -1
		}
		return len(decisions) + len(outcomes)
	}
	appended := func(add func() error) error {
		before := recorded()
		err := add()
		return unless(err, recorded() != before, nil)
	}
	return map[string]func() error{
		"tenant.CreateSite": func() error {
			before, _ := s.Tenants.Sites(ctx, of.Tenant)
			err := s.Tenants.CreateSite(ctx, tenant.Site{Tenant: by, ID: id.Site(by) + "-new", Created: moment})
			after, look := s.Tenants.Sites(ctx, of.Tenant)
			return unless(err, len(after) != len(before), look)
		},
		"tenant.CreateApp": func() error {
			one := app(by, "/theirs")
			one.Site = theirs
			return s.Tenants.CreateApp(ctx, one)
		},
		"identity.CreateUser": func() error {
			err := s.Identity.CreateUser(ctx, user(by, "only@"+string(by)+".example"))
			_, look := s.Identity.UserByEmail(ctx, of.Tenant, "only@"+string(by)+".example")
			return unless(err, look == nil, look)
		},
		"session.CreateSession": func() error {
			one := session.Session{
				Tenant: by, ID: id.NewSession(), User: of.User.ID, Created: moment, LastSeen: moment, Expires: moment.Add(time.Hour), IdleFor: time.Hour,
			}
			return s.Sessions.CreateSession(ctx, one, session.Reference{Tenant: by, Hash: "by-" + string(by), Session: one.ID, Host: appHost, Created: moment})
		},
		"session.CreateHandoff": func() error {
			return s.Sessions.CreateHandoff(ctx, session.Handoff{
				Tenant: by, Hash: "handoff-by-" + string(by), Session: of.Session.ID, Host: appHost, Flow: flow, Expires: moment.Add(time.Minute),
			})
		},
		"token.CreateServiceToken": func() error {
			err := s.Services.CreateServiceToken(ctx, token.ServiceToken{Tenant: by, ID: of.Token.ID, Service: "theirs", Created: moment, Expires: moment.Add(time.Hour)})
			got, look := s.Services.ServiceToken(ctx, of.Tenant, of.Token.ID)
			return unless(err, got != of.Token, look)
		},
		"enroll.CreateInvite": func() error {
			return s.Enroll.CreateInvite(ctx, enroll.Invite{
				Tenant: by, ID: id.NewInvite(), Site: theirs, Hash: "invite-by-" + string(by), Expires: moment.Add(time.Hour), Created: moment,
			})
		},
		"ingress.SetIngress": func() error {
			_, err := s.Ingress.SetIngress(ctx, tenant.Ingress{Tenant: by, Site: theirs, YAML: []byte("stolen"), Created: moment})
			return err
		},
		"emailotp.PutCode": func() error { // that the other's code is as it was is looked at in the end
			one := code(by)
			one.ID = "code-" + string(of.Tenant)
			return unless(s.Codes.PutCode(ctx, one), false, nil)
		},
		"audit.Append": func() error {
			return appended(func() error {
				_, err := s.Audit.Append(ctx, []audit.Decision{decision(by, "/")}, []audit.Outcome{{Tenant: by, Sequence: 1, Time: moment}})
				return err
			})
		},
		"audit.AppendOnce": func() error {
			return appended(func() error {
				_, err := s.Merger.AppendOnce(ctx, "batch by "+string(by), []audit.Decision{decision(by, "/")}, nil)
				return err
			})
		},
		"audit.Took": func() error {
			one := decision(by, "/")
			one.Request = onlyOf(of.Tenant)
			numbers, err := s.Merger.Took(ctx, "commit by "+string(by), []audit.Decision{one})
			return unless(err, len(numbers) > 0, nil)
		},
	}
}

// onlyOf is a request that one clinic alone has on record.
func onlyOf(t id.Tenant) id.Request { return id.Request("ONLY-" + t) }

// testIsolationOfRows has each of two clinics put down what is the other's.
func testIsolationOfRows(t *testing.T, s Stores) {
	ctx := t.Context()
	clinics := []clinic{seedAll(t, s, maple), seedAll(t, s, birch)}
	for _, c := range clinics {
		must(t, s.Tenants.CreateSite(ctx, tenant.Site{Tenant: c.Tenant, ID: id.Site(c.Tenant) + "-only", Created: moment}))
		one := decision(c.Tenant, "/")
		one.Request = onlyOf(c.Tenant)
		_, err := s.Audit.Append(ctx, []audit.Decision{one}, nil)
		must(t, err)
	}
	for i, by := range clinics {
		probes := rows(ctx, s, by.Tenant, clinics[1-i])
		for _, method := range rowMethods() {
			if probes[method] == nil {
				t.Errorf("%s takes a row of a tenant's and is not in the matrix", method)
			}
		}
		for method, probe := range probes {
			if err := probe(); !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Denied) {
				t.Errorf("%s puts down what is %s's by %s: %v", by.Tenant, clinics[1-i].Tenant, method, err)
			}
		}
	}
	unharmed(t, s, clinics)
}

// rowMethods lists the methods of all stores that are given something with a tenant in it, or a list of such.
func rowMethods() (names []string) {
	stores := storeTypes()
	for owner, store := range stores {
		for method := range store.Methods() {
			for i := range method.Type.NumIn() {
				in := method.Type.In(i)
				if in.Kind() == reflect.Slice {
					in = in.Elem()
				}
				if in.Kind() != reflect.Struct {
					continue
				}
				if field, ok := in.FieldByName("Tenant"); ok && field.Type == reflect.TypeFor[id.Tenant]() && !takesTenant(method.Type) {
					names = append(names, owner+"."+method.Name)
					break
				}
			}
		}
	}
	for method := range reflect.TypeFor[audit.Merger]().Methods() {
		names = append(names, "audit."+method.Name)
	}
	return names
}
