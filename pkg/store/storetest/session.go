package storetest

import (
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/session"
)

func testSessions(t *testing.T, s Stores) {
	ctx := t.Context()
	seedTenant(t, s, maple)
	lee := user(maple, "dr.lee@clinic.example")
	must(t, s.Identity.CreateUser(ctx, lee))
	one, ref := login(t, s, lee)
	got, err := s.Sessions.SessionByReference(ctx, maple, ref.Hash, ref.Host)
	must(t, err)
	same(t, "by reference", one, got)
	_, err = s.Sessions.SessionByReference(ctx, maple, ref.Hash, "oscar.maple.example")
	wantCode(t, "a reference at another host", err, fault.NotFound)
	_, err = s.Sessions.SessionByReference(ctx, maple, "another", ref.Host)
	wantCode(t, "an unknown reference", err, fault.NotFound)
	_, err = s.Sessions.Session(ctx, maple, id.NewSession())
	wantCode(t, "an unknown session", err, fault.NotFound)
	wantCode(t, "a session twice", s.Sessions.CreateSession(ctx, one, ref), fault.Exists)
	ghost := one
	ghost.ID, ghost.User = id.NewSession(), id.NewUser()
	wantCode(t, "a session of nobody", s.Sessions.CreateSession(ctx, ghost,
		session.Reference{Tenant: maple, Hash: "g", Session: ghost.ID, Host: ref.Host}), fault.NotFound)

	roy := user(maple, "p.roy@clinic.example")
	roy.Disabled = true
	must(t, s.Identity.CreateUser(ctx, roy))
	locked := one
	locked.ID, locked.User = id.NewSession(), roy.ID
	wantCode(t, "a session of somebody who is locked out", s.Sessions.CreateSession(ctx, locked,
		session.Reference{Tenant: maple, Hash: "r", Session: locked.ID, Host: ref.Host}), fault.Denied)
	_, err = s.Sessions.Session(ctx, maple, locked.ID)
	wantCode(t, "the session that was refused", err, fault.NotFound)

	seen := moment.Add(10 * time.Minute)
	must(t, s.Sessions.Touch(ctx, maple, one.ID, seen))
	must(t, s.Sessions.Touch(ctx, maple, one.ID, moment.Add(time.Minute))) // late news moves nothing back
	one.LastSeen = seen
	got, err = s.Sessions.Session(ctx, maple, one.ID)
	must(t, err)
	same(t, "touched", one, got)

	two, _ := login(t, s, lee)
	list, err := s.Sessions.Sessions(ctx, maple, seen)
	must(t, err)
	same(t, "list, newest first", []session.Session{two, one}, list)
	must(t, s.Sessions.Revoke(ctx, maple, one.ID, seen))
	must(t, s.Sessions.Revoke(ctx, maple, one.ID, seen.Add(time.Minute)))
	got, err = s.Sessions.SessionByReference(ctx, maple, ref.Hash, ref.Host)
	must(t, err)
	one.Revoked = seen
	same(t, "revoked twice keeps the first time", one, got)
	list, err = s.Sessions.Sessions(ctx, maple, seen)
	must(t, err)
	same(t, "list without the ended", []session.Session{two}, list)
	wantCode(t, "revoking nothing", s.Sessions.Revoke(ctx, maple, id.NewSession(), seen), fault.NotFound)
	wantCode(t, "touching nothing", s.Sessions.Touch(ctx, maple, id.NewSession(), seen), fault.NotFound)
	wantCode(t, "touching an ended session", s.Sessions.Touch(ctx, maple, one.ID, seen.Add(time.Second)), fault.Denied)
}

// The last instant of a session is the one before it ends; nothing revives it after.
func testSessionEdges(t *testing.T, s Stores) {
	ctx := t.Context()
	seedTenant(t, s, maple)
	lee := user(maple, "dr.lee@clinic.example")
	must(t, s.Identity.CreateUser(ctx, lee))
	for _, c := range []struct {
		name    string
		idle    time.Duration
		expires time.Duration
		at      time.Duration
		lives   bool
	}{
		{"1 ms before idle end", time.Minute, time.Hour, time.Minute - time.Millisecond, true},
		{"at idle end", time.Minute, time.Hour, time.Minute, false},
		{"1 ms before absolute end", 2 * time.Hour, time.Hour, time.Hour - time.Millisecond, true},
		{"at absolute end", 2 * time.Hour, time.Hour, time.Hour, false},
	} {
		one := session.Session{
			Tenant: maple, ID: id.NewSession(), User: lee.ID, Created: moment, LastSeen: moment,
			Expires: moment.Add(c.expires), IdleFor: c.idle,
		}
		must(t, s.Sessions.CreateSession(ctx, one, session.Reference{Tenant: maple, Hash: string(one.ID), Session: one.ID}))
		at := moment.Add(c.at)
		if one.Live(at) != c.lives {
			t.Fatalf("%s: Live = %v", c.name, !c.lives)
		}
		list, err := s.Sessions.Sessions(ctx, maple, at)
		must(t, err)
		listed := false
		for _, got := range list {
			listed = listed || got.ID == one.ID
		}
		if listed != c.lives {
			t.Errorf("%s: listed = %v", c.name, listed)
		}
		err = s.Sessions.Touch(ctx, maple, one.ID, at)
		if c.lives && err != nil {
			t.Errorf("%s: Touch = %v", c.name, err)
		} else if !c.lives {
			wantCode(t, c.name, err, fault.Denied)
		}
	}
}

const appHost, flow = "oscar.maple.example", "flow-hash"

func handoff(t *testing.T, s Stores) (session.Session, session.Handoff) {
	t.Helper()
	seedTenant(t, s, maple)
	lee := user(maple, "dr.lee@clinic.example")
	must(t, s.Identity.CreateUser(t.Context(), lee))
	one, _ := login(t, s, lee)
	h := session.Handoff{Tenant: maple, Hash: "code", Session: one.ID, Host: appHost, Flow: flow, Expires: moment.Add(session.HandoffLife)}
	must(t, s.Sessions.CreateHandoff(t.Context(), h))
	return one, h
}

func testHandoffs(t *testing.T, s Stores) {
	ctx := t.Context()
	one, h := handoff(t, s)
	redeem := func(tenant id.Tenant, hash, host, flow string, now time.Time, ref string) error {
		_, err := s.Sessions.RedeemHandoff(ctx, tenant, hash, host, flow, now, session.Reference{Hash: ref, Created: now})
		return err
	}
	// None of these spends it.
	wantCode(t, "another host", redeem(maple, h.Hash, "fhir.maple.example", flow, moment, "r"), fault.Denied)
	wantCode(t, "another browser", redeem(maple, h.Hash, appHost, "stolen", moment, "r"), fault.Denied)
	wantCode(t, "another code", redeem(maple, "guess", appHost, flow, moment, "r"), fault.Denied)
	wantCode(t, "another tenant", redeem(birch, h.Hash, appHost, flow, moment, "r"), fault.Denied)
	wantCode(t, "too late", redeem(maple, h.Hash, appHost, flow, h.Expires, "r"), fault.Denied)
	must(t, redeem(maple, h.Hash, appHost, flow, h.Expires.Add(-time.Millisecond), "r"))
	wantCode(t, "a second time", redeem(maple, h.Hash, appHost, flow, moment, "r2"), fault.Denied)
	got, err := s.Sessions.SessionByReference(ctx, maple, "r", appHost)
	must(t, err)
	same(t, "session of the new reference", one, got)
	_, err = s.Sessions.SessionByReference(ctx, maple, "r2", appHost)
	wantCode(t, "the refused reference", err, fault.NotFound)

	// A session that ended in between is not handed on.
	h.Hash = "code2"
	must(t, s.Sessions.CreateHandoff(ctx, h))
	must(t, s.Sessions.Revoke(ctx, maple, one.ID, moment))
	wantCode(t, "an ended session", redeem(maple, h.Hash, appHost, flow, moment, "r3"), fault.Denied)
	h.Hash, h.Session = "code3", id.NewSession()
	wantCode(t, "a code for nothing", s.Sessions.CreateHandoff(ctx, h), fault.NotFound)
}

func testHandoffRace(t *testing.T, s Stores) {
	one, h := handoff(t, s)
	won := race(t, func(i int) error {
		got, err := s.Sessions.RedeemHandoff(t.Context(), maple, h.Hash, appHost, flow, moment,
			session.Reference{Tenant: maple, Hash: name("ref", i), Session: one.ID, Host: appHost, Created: moment})
		if err == nil && got.ID != one.ID {
			t.Error("another session came back")
		}
		return err
	}, fault.Denied)
	if won != 1 {
		t.Errorf("%d of %d redeemed one code", won, racers)
	}
}
