package access_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/access"
	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

// person signs lee in and authenticates one request.
func (w *world) person(t testing.TB, s id.Session) access.Identity {
	t.Helper()
	who, err := w.access.Authenticate(get("/", ref, w.signIn(s, time.Now())), maple, oscar())
	if err != nil {
		t.Fatal(err)
	}
	return who
}

func (w *world) grant(t testing.TB, q access.Question) access.Grant {
	t.Helper()
	g, err := w.access.Authorize(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestAuthorizeRecordsFirst(t *testing.T) {
	w := newWorld(t, time.Now)
	who := w.person(t, "ses_1")
	g := w.grant(t, question(who, w.apps[0]))
	defer g.Lease.Release()
	if g.Sequence != 1 || g.Decision.Effect != policy.Allow || g.Decision.Rule != "allow-usr_lee" {
		t.Errorf("%+v", g)
	}
	d := w.recorded[0]
	if d.Tenant != "maple" || d.App != "app_1" || d.Site != "main" || d.Principal.ID != "usr_lee" || d.Session != "ses_1" ||
		d.Method != "GET" || d.Path != "/oscar/x" || d.Effect != policy.Allow || d.Request == "" || d.ClientIP != "192.0.2.1" {
		t.Errorf("record %+v", d)
	}
}

func TestDeniedIsRecordedToo(t *testing.T) {
	w := newWorld(t, time.Now)
	g, err := w.access.Authorize(t.Context(), question(w.person(t, "ses_1"), oscar()))
	if !fault.Is(err, fault.Denied) || g.Lease != nil || g.Decision.Reason != "no-rule" || g.Sequence != 1 {
		t.Errorf("%+v, %v", g, err)
	}
	if len(w.recorded) != 1 || w.recorded[0].Effect != policy.Deny || w.access.Leases() != 0 {
		t.Errorf("%+v, %d leases", w.recorded, w.access.Leases())
	}
}

func TestNobodyIsNotRecorded(t *testing.T) {
	w := newWorld(t, time.Now)
	if g, err := w.access.Authorize(t.Context(), question(access.Identity{}, w.apps[0])); !fault.Is(err, fault.Unauthentic) || g.Lease != nil {
		t.Errorf("%+v, %v", g, err)
	}
	forged := access.Identity{Principal: policy.Principal{Kind: policy.UserPrincipal, ID: "usr_lee"}}
	if g, err := w.access.Authorize(t.Context(), question(forged, w.apps[0])); !fault.Is(err, fault.Unauthentic) || g.Lease != nil {
		t.Errorf("an identity that was not authenticated: %+v, %v", g, err)
	}
	elsewhere := w.apps[0]
	elsewhere.Host = "other.maple.example"
	if _, err := w.access.Authorize(t.Context(), question(w.person(t, "ses_1"), elsewhere)); !fault.Is(err, fault.Unauthentic) {
		t.Errorf("another host's identity: %v", err)
	}
	if len(w.recorded) != 0 {
		t.Errorf("recorded %+v", w.recorded)
	}
}

func TestWhatCannotBeRecordedIsRefused(t *testing.T) {
	w := newWorld(t, time.Now)
	who := w.person(t, "ses_1")
	w.recording = func() error { return errors.New("disk full") }
	g, err := w.access.Authorize(t.Context(), question(who, w.apps[0]))
	if !fault.Is(err, fault.Unavailable) || g.Lease != nil || g.Decision.Effect == policy.Allow || w.access.Leases() != 0 {
		t.Errorf("%+v, %v, %d leases", g, err, w.access.Leases())
	}
}

// TestChangesCutLeases is attack cases F23 and F24: an open exchange ends with what allowed it.
func TestChangesCutLeases(t *testing.T) {
	rules := func(w *world, r ...policy.Rule) func() { return func() { w.apps = []tenant.App{oscar(r...)} } }
	for name, c := range map[string]struct {
		service bool
		change  func(t *testing.T, w *world, who access.Identity)
		ends    bool
	}{
		"session revoked": {false, func(t *testing.T, w *world, _ access.Identity) { w.revoke(t, "ses_1", time.Now()) }, true},
		"another session": {false, func(t *testing.T, w *world, _ access.Identity) {
			w.signIn("ses_2", time.Now())
			w.revoke(t, "ses_2", time.Now())
		}, false},
		"user disabled": {false, func(t *testing.T, w *world, _ access.Identity) {
			w.changed(t, change.User, "usr_lee", func() { u := lee; u.Disabled = true; w.users[lee.ID] = u })
		}, true},
		"user changed": {false, func(t *testing.T, w *world, _ access.Identity) { w.changed(t, change.User, "usr_lee", func() {}) }, false},
		"rule taken away": {false, func(t *testing.T, w *world, _ access.Identity) {
			w.changed(t, change.App, "app_1", rules(w, allow(policy.UserPrincipal, "usr_kim")))
		}, true},
		"deny added": {false, func(t *testing.T, w *world, _ access.Identity) {
			deny := policy.Rule{ID: "deny", Effect: policy.Deny, Include: []policy.Selector{{Kind: policy.UserPrincipal, ID: "usr_lee"}}}
			w.changed(t, change.App, "app_1", rules(w, allow(policy.UserPrincipal, "usr_lee"), deny))
		}, true},
		"rule of others": {false, func(t *testing.T, w *world, _ access.Identity) {
			w.changed(t, change.App, "app_1", rules(w, allow(policy.UserPrincipal, "usr_lee"), allow(policy.UserPrincipal, "usr_kim")))
		}, false},
		"app deleted": {false, func(t *testing.T, w *world, _ access.Identity) {
			w.changed(t, change.App, "app_1", func() { w.apps = nil })
		}, true},
		"app moved to another site": {false, func(t *testing.T, w *world, _ access.Identity) {
			w.changed(t, change.App, "app_1", func() { w.apps[0].Site = "other" })
		}, true},
		"token revoked": {true, func(t *testing.T, w *world, who access.Identity) {
			w.changed(t, change.Token, string(who.Authentication.Token), func() {
				k := w.tokens[who.Authentication.Token]
				k.Revoked = time.Now()
				w.tokens[k.ID] = k
			})
		}, true},
		"token used": {true, func(t *testing.T, w *world, who access.Identity) {
			w.changed(t, change.Token, string(who.Authentication.Token), func() {})
		}, false},
		"store away when told": {false, func(t *testing.T, w *world, _ access.Identity) {
			w.changed(t, change.Session, "ses_1", func() { w.away = true })
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, time.Now)
			var who access.Identity
			if c.service {
				var err error
				if who, err = w.access.Authenticate(withToken(w.service(t, time.Now(), nil)), maple, oscar()); err != nil {
					t.Fatal(err)
				}
			} else {
				who = w.person(t, "ses_1")
			}
			q := question(who, w.apps[0])
			q.Request.Upgrade = "websocket"
			g := w.grant(t, q)
			defer g.Lease.Release()
			c.change(t, w, who)
			ended := g.Lease.Context().Err() != nil
			if ended != c.ends || ended && !errors.Is(context.Cause(g.Lease.Context()), access.ErrRevoked) {
				t.Errorf("ended %v by %v, want %v", ended, context.Cause(g.Lease.Context()), c.ends)
			}
			if _, _, err := w.access.Assertions(g, "con_1", 1); (err != nil) != c.ends {
				t.Errorf("assertion: %v", err)
			}
			// The caller may still hold the identity and the app of before: a new question must see what is true now.
			if again, err := w.access.Authorize(t.Context(), q); (err != nil) != c.ends {
				t.Errorf("asked again: %v", err)
			} else if err == nil {
				again.Lease.Release()
			}
		})
	}
}

// TestChangeWhileJudging lands a revocation and a change of rules between the judgement and its answer.
func TestChangeWhileJudging(t *testing.T) {
	for name, change := range map[string]func(w *world){
		"session": func(w *world) { w.revoke(t, "ses_1", time.Now()) },
		"rules":   func(w *world) { w.changed(t, change.App, "app_1", func() { w.apps = nil }) },
	} {
		w := newWorld(t, time.Now)
		who := w.person(t, "ses_1")
		w.recording = func() error { change(w); return nil }
		if g, err := w.access.Authorize(t.Context(), question(who, w.apps[0])); err == nil || g.Lease != nil {
			t.Errorf("%s: %+v, %v", name, g, err)
		}
		if w.access.Leases() != 0 {
			t.Errorf("%s: %d leases left", name, w.access.Leases())
		}
	}
}

func TestStoreAwayIsToldAgain(t *testing.T) {
	w := newWorld(t, time.Now)
	w.away = true
	err := w.follow(t.Context(), []change.Change{{Tenant: "maple", Kind: change.App, ID: "app_1"}})
	if err == nil {
		t.Error("a change of rules that could not be read was taken as done")
	}
}

// A change that cannot be followed yet, such as an app of one clinic that does not read, holds up no revocation.
func TestOneChangeHoldsUpNoOther(t *testing.T) {
	w := newWorld(t, time.Now)
	g := w.grant(t, question(w.person(t, "ses_1"), w.apps[0]))
	defer g.Lease.Release()
	w.mu.Lock()
	w.away = true
	w.mu.Unlock()
	err := w.follow(t.Context(), []change.Change{
		{Tenant: "birch", Kind: change.App, ID: "app_2"}, {Tenant: "maple", Kind: change.Session, ID: "ses_1"},
	})
	if err == nil {
		t.Error("what could not be followed was taken as done")
	}
	if g.Lease.Context().Err() == nil {
		t.Error("a revocation waits behind another clinic's change")
	}
}

// TestLeasesEndByTime runs hours in a bubble: a download goes on beyond the idle time, an idle WebSocket does not, and
// nothing outlives the session.
func TestLeasesEndByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, time.Now)
		who := w.person(t, "ses_1")
		download := w.grant(t, question(who, w.apps[0]))
		<-time.After(2 * time.Hour)
		if err := download.Lease.Context().Err(); err != nil {
			t.Fatalf("download: %v", context.Cause(download.Lease.Context()))
		}
		q := question(who, w.apps[0])
		q.Request.Upgrade = "websocket"
		socket := w.grant(t, q)
		download.Lease.Release()
		download.Lease.Release()
		idle := time.Now()
		<-socket.Lease.Context().Done()
		if took := time.Since(idle); took < session.DefaultIdle-time.Minute || took > session.DefaultIdle+time.Minute {
			t.Errorf("the WebSocket ended after %s of idling", took)
		}
		if cause := context.Cause(socket.Lease.Context()); !errors.Is(cause, access.ErrExpired) || !errors.Is(cause, access.ErrRevoked) {
			t.Errorf("cause %v", cause)
		}
		socket.Lease.Release()

		who = w.person(t, "ses_2")
		began := time.Now()
		download = w.grant(t, question(who, w.apps[0]))
		<-download.Lease.Context().Done()
		if took := time.Since(began); took != session.DefaultAbsolute {
			t.Errorf("the download ended after %s", took)
		}
		download.Lease.Release()

		raw := w.service(t, time.Now(), nil)
		machine, err := w.access.Authenticate(withToken(raw), maple, oscar())
		if err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		g := w.grant(t, question(machine, w.apps[0]))
		<-g.Lease.Context().Done()
		if took := time.Since(began); took != time.Hour {
			t.Errorf("the service's exchange ended after %s", took)
		}
		g.Lease.Release()
		if n := w.access.Leases(); n != 0 {
			t.Errorf("%d leases left", n)
		}
	})
}

func TestLeaseEndsWithTheRequest(t *testing.T) {
	w := newWorld(t, time.Now)
	ctx, cancel := context.WithCancel(t.Context())
	g, err := w.access.Authorize(ctx, question(w.person(t, "ses_1"), w.apps[0]))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if g.Lease.Context().Err() == nil || errors.Is(context.Cause(g.Lease.Context()), access.ErrRevoked) {
		t.Errorf("cause %v", context.Cause(g.Lease.Context()))
	}
	g.Lease.Release()
}

func TestAssertionsAreReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, time.Now)
		g := w.grant(t, question(w.person(t, "ses_1"), w.apps[0]))
		defer g.Lease.Release()
		first, origin, err := w.access.Assertions(g, "con_1", 7)
		if err != nil {
			t.Fatal(err)
		}
		want := token.Expect{Issuer: token.AssertionIssuer, Audience: token.AssertionAudience("con_1", 7), Tenant: "maple"}
		c, err := w.ring.Verifier(token.Assertion).Verify(first, want, time.Now())
		if err != nil || c.Subject != "usr_lee" || c.Session != "ses_1" || c.Site != "main" || c.App != "app_1" || c.Kind != "user" {
			t.Errorf("%+v, %v", c, err)
		}
		want = token.Expect{Issuer: session.Issuer(maple.SignInHost), Audience: "oscar.maple.example", Tenant: "maple"}
		if c, err := w.ring.Verifier(token.Origin).Verify(origin, want, time.Now()); err != nil || c.Subject != "usr_lee" {
			t.Errorf("%+v, %v", c, err)
		}
		<-time.After(3 * time.Minute)
		if again, _, _ := w.access.Assertions(g, "con_1", 7); again != first {
			t.Error("minted again long before its end")
		}
		if other, _, _ := w.access.Assertions(g, "con_1", 8); other == first {
			t.Error("two generations share one")
		}
		<-time.After(90 * time.Second)
		if again, _, _ := w.access.Assertions(g, "con_1", 7); again == first {
			t.Error("used again near its end")
		}
	})
}
