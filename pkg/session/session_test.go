package session_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// counting counts writes of LastSeen.
type counting struct {
	session.Store
	touches int
}

func (c *counting) Touch(ctx context.Context, t id.Tenant, s id.Session, at time.Time) error {
	c.touches++
	return c.Store.Touch(ctx, t, s, at)
}

type fixture struct {
	*session.Keeper
	store *counting
	at    time.Time
	login session.Login
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	ctx := context.Background()
	sealer, err := secret.NewSealer(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(ctx, store.Config{Path: filepath.Join(t.TempDir(), "edge.db")}, sealer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	f := &fixture{store: &counting{Store: db.Sessions()}, at: time.Now().Truncate(time.Millisecond)}
	if err := db.Tenants().CreateTenant(ctx, tenant.Tenant{ID: "maple", Name: "Maple", SignInHost: "signin.maple.example", Zone: "UTC", Created: f.at}); err != nil {
		t.Fatal(err)
	}
	user := identity.User{Tenant: "maple", ID: id.NewUser(), Issuer: identity.LocalIssuer, Subject: "lee", Email: "lee@maple.example", Created: f.at}
	if err := db.Identity().CreateUser(ctx, user); err != nil {
		t.Fatal(err)
	}
	f.Keeper = session.NewKeeper(f.store, session.Limits{}, func() time.Time { return f.at })
	f.login = session.Login{Tenant: "maple", User: user.ID, Methods: []string{"email"}, SignInHost: "signin.maple.example"}
	return f
}

func TestASessionEndsIdleAbsoluteAndRevoked(t *testing.T) {
	ctx := context.Background()
	for name, end := range map[string]func(f *fixture, s session.Session) error{
		"idle":    func(f *fixture, _ session.Session) error { f.at = f.at.Add(session.DefaultIdle); return nil },
		"revoked": func(f *fixture, s session.Session) error { return f.End(ctx, "maple", s.ID) },
		"absolute": func(f *fixture, s session.Session) error {
			for f.at.Before(s.Expires) {
				if err := f.Touch(ctx, s); err != nil {
					return err
				}
				f.at = f.at.Add(10 * time.Minute)
			}
			return nil
		},
	} {
		f := newFixture(t)
		s, ref, err := f.Create(ctx, f.login)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Lookup(ctx, "maple", ref, "signin.maple.example"); err != nil {
			t.Fatalf("%s: fresh session: %v", name, err)
		}
		if err := end(f, s); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Lookup(ctx, "maple", ref, "signin.maple.example"); !fault.Is(err, fault.Unauthentic) {
			t.Errorf("%s: still opens: %v", name, err)
		}
		if last, err := f.Last(ctx, "maple", ref, "signin.maple.example"); err != nil || last.User != f.login.User {
			t.Errorf("%s: who was here: %v, %v", name, last.User, err)
		}
		if _, err := f.Handoff(ctx, s, "oscar.maple.example", secret.Hash("x")); err == nil {
			flow := session.NewSecret()
			code, err := f.Handoff(ctx, s, "oscar.maple.example", secret.Hash(flow))
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := f.Redeem(ctx, "maple", code, "oscar.maple.example", flow); !fault.Is(err, fault.Denied) {
				t.Errorf("%s: handed on: %v", name, err)
			}
		}
	}
}

func TestTouchWritesOnceAMinuteAndKeepsAlive(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	_, ref, err := f.Create(ctx, f.login)
	if err != nil {
		t.Fatal(err)
	}
	for range 3600 {
		f.at = f.at.Add(time.Second)
		s, err := f.Lookup(ctx, "maple", ref, "signin.maple.example")
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Touch(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	if f.store.touches > 61 || f.store.touches < 50 {
		t.Errorf("%d writes in an hour of use, want about one a minute", f.store.touches)
	}
}

func TestAReferenceCountsAtItsHostOnly(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	s, ref, err := f.Create(ctx, f.login)
	if err != nil {
		t.Fatal(err)
	}
	for _, try := range [][3]string{
		{"maple", ref, "oscar.maple.example"},
		{"birch", ref, "signin.maple.example"},
		{"maple", ref + "A", "signin.maple.example"},
		{"maple", "", "signin.maple.example"},
		{"maple", secret.Hash(ref), "signin.maple.example"},
	} {
		if _, err := f.Lookup(ctx, id.Tenant(try[0]), try[1], try[2]); !fault.Is(err, fault.Unauthentic) {
			t.Errorf("%v: %v", try, err)
		}
	}
	flow := session.NewSecret()
	code, err := f.Handoff(ctx, s, "oscar.maple.example", secret.Hash(flow))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Redeem(ctx, "maple", code, "oscar.maple.example", session.NewSecret()); !fault.Is(err, fault.Denied) {
		t.Errorf("another flow: %v", err)
	}
	got, appRef, err := f.Redeem(ctx, "maple", code, "oscar.maple.example", flow)
	if err != nil || got.ID != s.ID {
		t.Fatalf("%v, %v", got.ID, err)
	}
	if _, err := f.Lookup(ctx, "maple", appRef, "oscar.maple.example"); err != nil {
		t.Error(err)
	}
}

func TestWhatCountsAsOurs(t *testing.T) {
	for name, want := range map[string]bool{
		"__Host-Http-sallyport": true, "__Host-Http-sallyport-at": true, "__Host-sallyport": true, "__HOST-SALLYPORT-x": true, "__host-http-Sallyport": true,
		"__Secure-sallyport": true, "__sEcUrE-sallyport-at": true, "__Http-sallyport": true,
		"JSESSIONID": false, "sallyport": false, "__Host-session": false, "x__Host-sallyport": false, "": false,
	} {
		if got := session.IsOurs(name); got != want {
			t.Errorf("IsOurs(%q) = %v", name, got)
		}
	}
}

func TestOnlyOneWellFormedCookieCounts(t *testing.T) {
	good, other := session.NewSecret(), session.NewSecret()
	for header, want := range map[string]string{
		"a=" + good: good, "b=1; a=" + good: good, "a=" + good + "; a=" + other: "", "a=" + good + "; a=" + good: "", "a=": "", "a=" + good[1:]: "", "A=" + good: "",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Cookie", header)
		if got := session.ReferenceFrom(r, "a"); got != want {
			t.Errorf("%q: %q, want %q", header, got, want)
		}
	}
}

func TestSourcesAreNetworks(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:1234": "192.0.2.7", "[::ffff:192.0.2.7]:1": "192.0.2.7", "[2001:db8:1:2:3:4:5:6]:443": "2001:db8:1:2::/64",
		"[2001:db8:1:2:ffff::9]:1": "2001:db8:1:2::/64", "[fe80::1%eth0]:1": "fe80::/64", "nonsense": "", "192.0.2.7": "",
	} {
		if got := session.SourceOf(remote); got != want {
			t.Errorf("%s: %q, want %q", remote, got, want)
		}
	}
}

func TestSecretsAreLongAndDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		s := session.NewSecret()
		if len(s) != 43 || seen[s] {
			t.Fatal(fmt.Sprint("secret ", len(s), seen[s]))
		}
		seen[s] = true
	}
}
