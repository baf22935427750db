package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/identity/emailotp"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// cutClinic is one clinic on PostgreSQL, reached through a relay that cuts, and straight.
type cutClinic struct {
	relay             *pgtest.Relay
	through, straight *store.DB
	session           session.Session
}

func newCutClinic(t *testing.T) *cutClinic {
	t.Helper()
	config := onPostgres(t)
	c := &cutClinic{straight: openAs(t, config)}
	ctx, now := t.Context(), time.Now()
	u := identity.User{Tenant: "maple", ID: id.NewUser(), Issuer: identity.LocalIssuer, Subject: "lee"}
	c.session = session.Session{Tenant: "maple", ID: id.NewSession(), User: u.ID, Created: now, LastSeen: now, Expires: now.Add(time.Hour), IdleFor: time.Hour}
	for _, err := range []error{
		c.straight.Tenants().CreateTenant(ctx, tenant.Tenant{ID: "maple", SignInHost: "s.example"}),
		c.straight.Tenants().CreateSite(ctx, tenant.Site{Tenant: "maple", ID: "main"}),
		c.straight.Identity().CreateUser(ctx, u),
		c.straight.Sessions().CreateSession(ctx, c.session, session.Reference{Tenant: "maple", Hash: "sign-in", Session: c.session.ID, Host: "s.example"}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c.relay, config.PostgreSQL.URL = pgtest.Through(t, config.PostgreSQL.URL)
	c.through = openAs(t, config)
	return c
}

// spends are the things that may be had once: each makes one, and returns how a caller goes for it.
func (c *cutClinic) spends(t *testing.T) map[string]func(name string) func(db *store.DB) error {
	ctx, now := t.Context(), time.Now()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	return map[string]func(name string) func(db *store.DB) error{
		"e-mailed code": func(name string) func(db *store.DB) error {
			must(c.straight.Codes().PutCode(ctx, emailotp.Code{Tenant: "maple", ID: name, Expires: now.Add(time.Hour)}))
			return func(db *store.DB) error {
				spent, err := db.Codes().SpendCode(ctx, "maple", name)
				if err == nil && !spent {
					err = fault.New(fault.Denied, "spent before")
				}
				return err
			}
		},
		"handoff": func(name string) func(db *store.DB) error {
			must(c.straight.Sessions().CreateHandoff(ctx, session.Handoff{
				Tenant: "maple", Hash: name, Session: c.session.ID, Host: "app.example", Flow: "flow", Expires: now.Add(time.Hour),
			}))
			return func(db *store.DB) error {
				_, err := db.Sessions().RedeemHandoff(ctx, "maple", name, "app.example", "flow", now, session.Reference{Hash: "of-" + name})
				return err
			}
		},
		"enrolment code": func(name string) func(db *store.DB) error {
			must(c.straight.Enroll().CreateInvite(ctx, inviteOf(name, now)))
			return func(db *store.DB) error {
				_, err := db.Enroll().Enroll(ctx, name, make([]byte, 32), id.NewConnector(), now)
				return err
			}
		},
	}
}

// The connection is reset at the N-th message for N = 1, 2, … until there is none, once the server has it and before the client
// has the answer (what differs from a reset before the next message is nothing that the server sees). What may be spent once
// is spent by exactly the caller that was told so, and a batch of records is there once.
func TestResetAtEveryMessage(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"e-mailed code", "handoff", "enrolment code"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := newCutClinic(t)
			make := c.spends(t)[what]
			c.untilPassed(t, func(name string, arm func()) {
				spend := make(name)
				arm()
				if err := spend(c.through); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if err := spend(c.straight); !fault.Is(err, fault.Denied) {
					t.Errorf("%s: spent twice: %v", name, err)
				}
			})
		})
	}
	t.Run("records", func(t *testing.T) {
		t.Parallel()
		c := newCutClinic(t)
		var recorded []string
		c.untilPassed(t, func(name string, arm func()) {
			arm()
			batch := []audit.Decision{{Tenant: "maple", Path: name + "/a"}, {Tenant: "birch", Path: name}, {Tenant: "maple", Path: name + "/b"}}
			got, err := c.through.Audit().Append(t.Context(), batch, []audit.Outcome{{Tenant: "maple", Sequence: 1}})
			if err != nil || got[0] != int64(len(recorded))+1 || got[2] != got[0]+1 {
				t.Errorf("%s: numbers %v after %d, %v", name, got, len(recorded), err)
			}
			recorded = append(recorded, batch[0].Path, batch[2].Path)
		})
		if got := allPaths(t, c.straight); !slices.Equal(got, recorded) {
			t.Errorf("on record:\n%s\nwant\n%s", got, recorded)
		}
	})
	t.Run("changes", func(t *testing.T) {
		t.Parallel()
		c := newCutClinic(t)
		before, err := c.straight.Changes().Version(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c.untilPassed(t, func(name string, arm func()) {
			u := identity.User{Tenant: "maple", ID: id.NewUser(), Issuer: identity.LocalIssuer, Subject: name, Email: name}
			arm()
			if err := c.through.Identity().CreateUser(t.Context(), u); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			before++
			log, err := c.straight.Changes().Since(t.Context(), before-1, 10)
			if err != nil || len(log) != 1 || log[0].Version != before || log[0].ID != string(u.ID) {
				t.Errorf("%s: logged %v, %v", name, log, err)
			}
		})
	})
	t.Run("look-up", func(t *testing.T) {
		t.Parallel()
		c := newCutClinic(t)
		c.untilPassed(t, func(name string, arm func()) {
			arm()
			if _, err := c.through.Sessions().Session(t.Context(), "maple", c.session.ID); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	})
}

// A commit of which nobody says what became of it is neither taken for done nor tried again: the caller hears so, within
// seconds, and what it went for is not had twice.
func TestCommitThatNobodyAnswers(t *testing.T) {
	t.Parallel()
	c := newCutClinic(t)
	code := c.spends(t)["e-mailed code"]
	if err := code("first")(c.through); err != nil { // statements are prepared
		t.Fatal(err)
	}
	second, third := code("second"), code("third")
	before := c.relay.Seen()
	if err := second(c.through); err != nil {
		t.Fatal(err)
	}
	c.relay.CutOffAt(c.relay.Seen() - before) // the commit comes last
	if err := third(c.through); !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Public(err), "does not say whether") {
		t.Errorf("a commit that nobody answers: %v", err)
	}
	c.relay.Restore()
	for name, db := range map[string]*store.DB{"straight": c.straight, "through": c.through} {
		if err := third(db); !fault.Is(err, fault.Denied) {
			t.Errorf("%s: spent by another after all: %v", name, err)
		}
	}
}

// untilPassed calls f for N = 1, 2, … until no message was left to cut at; arm is to be called right before what is cut.
func (c *cutClinic) untilPassed(t *testing.T, f func(name string, arm func())) {
	t.Helper()
	for n := 1; n < 200; n++ {
		f(fmt.Sprintf("message-%d", n), func() { c.relay.CutAt(n, true) })
		if c.relay.Pending() {
			if n < 3 {
				t.Errorf("no more than %d messages: the relay sees too little", n-1)
			}
			t.Logf("cut at each of %d messages", n-1)
			return
		}
	}
	t.Error("does not end")
}

func inviteOf(hash string, now time.Time) enroll.Invite {
	return enroll.Invite{Tenant: "maple", ID: id.NewInvite(), Site: "main", Hash: hash, Expires: now.Add(time.Hour), Created: now}
}
