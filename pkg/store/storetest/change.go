package storetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

// Every write that a cache follows is in the log when it returns; one that is refused, or is none, is not.
func testChanges(t *testing.T, s Stores) {
	ctx := t.Context()
	if v, err := s.Changes.Version(ctx); err != nil || v != 0 {
		t.Errorf("version of an empty log: %d, %v", v, err)
	}
	c := seed(t, s, maple)
	key := signingKey(token.Access, "a-1", moment)
	must(t, s.Keys.CreateKey(ctx, key))
	want := []change.Change{
		{Kind: change.Tenant, ID: "maple"},
		{Kind: change.Site, ID: "main"},
		{Kind: change.App, ID: string(c.App.ID)},
		{Kind: change.User, ID: string(c.User.ID)},
		{Kind: change.Token, ID: string(c.Token.ID)},
		{Kind: change.Connector, ID: string(c.Connector.ID)},
		{Kind: change.Key, ID: "a-1"},
	}
	for i := range want {
		want[i].Version, want[i].Tenant = int64(i+1), maple
	}
	want[6].Tenant = "" // signing keys belong to the whole edge
	got, err := s.Changes.Since(ctx, 0, 100)
	must(t, err)
	same(t, "log", want, got)
	got, err = s.Changes.Since(ctx, 2, 3)
	must(t, err)
	same(t, "a page", want[2:5], got)

	steps := []struct {
		name string
		kind change.Kind // empty: nothing may be logged
		do   func() error
	}{
		{"rules", change.App, func() error { return s.Tenants.SetRules(ctx, maple, c.App.ID, []policy.Rule{}) }},
		{"delete app", change.App, func() error { return s.Tenants.DeleteApp(ctx, maple, c.App.ID) }},
		{"revoke session", change.Session, func() error { return s.Sessions.Revoke(ctx, maple, c.Session.ID, moment) }},
		{"revoke it again", "", func() error { return s.Sessions.Revoke(ctx, maple, c.Session.ID, moment) }},
		{"revoke token", change.Token, func() error { return s.Services.RevokeServiceToken(ctx, maple, c.Token.ID, moment) }},
		{"revoke it again", "", func() error { return s.Services.RevokeServiceToken(ctx, maple, c.Token.ID, moment) }},
		{"touch token", "", func() error { return s.Services.TouchServiceToken(ctx, maple, c.Token.ID, moment) }},
		{"freeze connector", change.Connector, func() error { return s.Enroll.SetFrozen(ctx, maple, c.Connector.ID, "copied") }},
		{"freeze it again", "", func() error { return s.Enroll.SetFrozen(ctx, maple, c.Connector.ID, "copied") }},
		{"thaw connector", change.Connector, func() error { return s.Enroll.SetFrozen(ctx, maple, c.Connector.ID, "") }},
		{"revoke connector", change.Connector, func() error { return s.Enroll.RevokeConnector(ctx, maple, c.Connector.ID, moment) }},
		{"revoke it again", "", func() error { return s.Enroll.RevokeConnector(ctx, maple, c.Connector.ID, moment) }},
		{"ingress rules", change.Ingress, func() error { _, err := s.Ingress.SetIngress(ctx, ingressOf(maple, "x")); return err }},
		{"refused rules", "", func() error {
			_, err := s.Ingress.SetIngress(ctx, tenant.Ingress{Tenant: maple, Site: "elsewhere"})
			return expect(err, fault.NotFound)
		}},
		{"disable", change.User, func() error { return s.Identity.SetDisabled(ctx, maple, c.User.ID, true) }},
		{"refused key", "", func() error { return expect(s.Keys.CreateKey(ctx, key), fault.Exists) }},
		{"refused user", "", func() error { return expect(s.Identity.CreateUser(ctx, c.User), fault.Exists) }},
	}
	for _, step := range steps {
		before, err := s.Changes.Version(ctx)
		must(t, err)
		if err := step.do(); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		got, err := s.Changes.Since(ctx, before, 10)
		must(t, err)
		switch {
		case step.kind == "" && len(got) != 0:
			t.Errorf("%s: logged %v", step.name, got)
		case step.kind != "" && (len(got) != 1 || got[0].Kind != step.kind || got[0].Tenant != maple):
			t.Errorf("%s: logged %v, want one %s", step.name, got, step.kind)
		}
	}
}

// expect turns the refusal that is wanted into success.
func expect(err error, code fault.Code) error {
	if fault.Is(err, code) {
		return nil
	}
	return yes(false, err)
}

// A reader that goes on from the last version it saw misses nothing, and what a change speaks of is there when the change
// is.
func testChangesRace(t *testing.T, s Stores) {
	seedTenant(t, s, maple)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	from, err := s.Changes.Version(ctx)
	must(t, err)
	const each = 4
	var wg sync.WaitGroup
	wg.Go(func() {
		race(t, func(i int) error {
			for n := range each {
				if err := s.Identity.CreateUser(ctx, user(maple, name(name("u", i), n)+"@clinic.example")); err != nil {
					return err
				}
			}
			return nil
		})
	})
	for seen := 0; seen < racers*each; {
		log, err := s.Changes.Since(ctx, from, 7)
		if err != nil {
			t.Errorf("after %d changes: %v", seen, err)
			break
		}
		for _, c := range log {
			if c.Version != from+1 {
				t.Fatalf("version %d follows %d", c.Version, from)
			}
			from = c.Version
			seen++
			if _, err := s.Identity.User(ctx, maple, id.User(c.ID)); err != nil {
				t.Fatalf("change %d speaks of what is not there: %v", c.Version, err)
			}
		}
	}
	wg.Wait()
}

// What was acknowledged is there after a restart, and reads the same.
func testDurability(t *testing.T, s Stores) {
	ctx := t.Context()
	c := seed(t, s, maple)
	must(t, s.Keys.CreateKey(ctx, signingKey(token.Access, "a-1", moment)))
	must(t, s.Codes.PutCode(ctx, code(maple)))
	_, err := s.Audit.Append(ctx, []audit.Decision{decision(maple, "/a")}, nil)
	must(t, err)
	version, err := s.Changes.Version(ctx)
	must(t, err)

	s = s.Reopen(t)
	apps, err := s.Tenants.Apps(ctx, maple)
	must(t, err)
	same(t, "apps", []tenant.App{c.App}, apps)
	u, err := s.Identity.UserByEmail(ctx, maple, c.User.Email)
	must(t, err)
	same(t, "user", c.User, u)
	session, err := s.Sessions.SessionByReference(ctx, maple, c.Reference.Hash, c.Reference.Host)
	must(t, err)
	same(t, "session", c.Session, session)
	tok, err := s.Services.ServiceToken(ctx, maple, c.Token.ID)
	must(t, err)
	same(t, "token", c.Token, tok)
	con, err := s.Enroll.Connector(ctx, c.Connector.ID)
	must(t, err)
	same(t, "connector", c.Connector, con)
	keys, err := s.Keys.Keys(ctx)
	must(t, err)
	same(t, "keys", []token.Key{signingKey(token.Access, "a-1", moment)}, keys)
	if _, err := s.Codes.TryCode(ctx, maple, "browser", moment); err != nil {
		t.Error("code:", err)
	}
	sequences, err := s.Audit.Append(ctx, []audit.Decision{decision(maple, "/b")}, nil)
	must(t, err)
	same(t, "numbers go on", []int64{2}, sequences)
	same(t, "decisions", []string{"/a", "/b"}, gapless(t, s, maple))
	if v, err := s.Changes.Version(ctx); err != nil || v != version {
		t.Errorf("version %d after a restart, %d before (%v)", v, version, err)
	}
}
