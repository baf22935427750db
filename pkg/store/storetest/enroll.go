package storetest

import (
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

func testEnrolment(t *testing.T, s Stores) {
	ctx := t.Context()
	seedTenant(t, s, maple)
	hash := invite(t, s, maple)
	wantCode(t, "an invitation to a site that is not there", s.Enroll.CreateInvite(ctx,
		enroll.Invite{Tenant: maple, ID: id.NewInvite(), Site: "elsewhere", Hash: "x"}), fault.NotFound)
	wantCode(t, "a code twice", s.Enroll.CreateInvite(ctx,
		enroll.Invite{Tenant: maple, ID: id.NewInvite(), Site: "main", Hash: hash}), fault.Exists)

	end := moment.Add(enroll.InviteLife)
	_, wrong := s.Enroll.Enroll(ctx, "wrong", publicKey(1), id.NewConnector(), moment)
	_, expired := s.Enroll.Enroll(ctx, hash, publicKey(1), id.NewConnector(), end)
	cid := id.NewConnector()
	made, err := s.Enroll.Enroll(ctx, hash, publicKey(1), cid, end.Add(-time.Millisecond))
	must(t, err)
	want := enroll.Connector{Tenant: maple, ID: cid, Site: "main", PublicKey: publicKey(1), Created: end.Add(-time.Millisecond)}
	same(t, "enrolled", want, made)
	_, used := s.Enroll.Enroll(ctx, hash, publicKey(2), id.NewConnector(), moment)
	for what, err := range map[string]error{"wrong": wrong, "expired": expired, "used": used} {
		wantCode(t, what+" code", err, fault.Denied)
		if err != nil && fault.Public(err) != fault.Public(wrong) {
			t.Errorf("a %s code is told apart: %q", what, fault.Public(err))
		}
	}

	// An enrolment that fails later on gives the code back.
	hash = invite(t, s, maple)
	_, err = s.Enroll.Enroll(ctx, hash, publicKey(2), cid, moment)
	wantCode(t, "a connector id twice", err, fault.Exists)
	second, err := s.Enroll.Enroll(ctx, hash, publicKey(2), id.NewConnector(), end.Add(-time.Millisecond))
	must(t, err)
	list, err := s.Enroll.Connectors(ctx, maple)
	must(t, err)
	same(t, "list", []enroll.Connector{want, second}, list)

	at := moment.Add(time.Hour)
	must(t, s.Enroll.SetFrozen(ctx, maple, cid, "the key is in use twice"))
	if frozen, err := s.Enroll.Connector(ctx, cid); err != nil || frozen.Frozen != "the key is in use twice" {
		t.Errorf("a frozen connector: %+v, %v", frozen, err)
	}
	must(t, s.Enroll.SetFrozen(ctx, maple, cid, ""))
	wantCode(t, "freezing nothing", s.Enroll.SetFrozen(ctx, maple, id.NewConnector(), "x"), fault.NotFound)
	must(t, s.Enroll.RevokeConnector(ctx, maple, cid, at))
	must(t, s.Enroll.RevokeConnector(ctx, maple, cid, at.Add(time.Hour)))
	want.Revoked = at
	got, err := s.Enroll.Connector(ctx, cid)
	must(t, err)
	same(t, "revoked twice keeps the first time", want, got)
	_, err = s.Enroll.Connector(ctx, id.NewConnector())
	wantCode(t, "an unknown connector", err, fault.NotFound)
	wantCode(t, "revoking nothing", s.Enroll.RevokeConnector(ctx, maple, id.NewConnector(), at), fault.NotFound)
}

func testEnrolmentRace(t *testing.T, s Stores) {
	seedTenant(t, s, maple)
	hash := invite(t, s, maple)
	won := race(t, func(i int) error {
		_, err := s.Enroll.Enroll(t.Context(), hash, publicKey(byte(i)), id.NewConnector(), moment)
		return err
	}, fault.Denied)
	list, err := s.Enroll.Connectors(t.Context(), maple)
	must(t, err)
	if won != 1 || len(list) != 1 {
		t.Errorf("one code enrolled %d, %d on record", won, len(list))
	}
}

func testGenerations(t *testing.T, s Stores) {
	ctx := t.Context()
	seedTenant(t, s, maple)
	c := connector(t, s, maple)
	var mu sync.Mutex
	seen := make(map[uint64]bool)
	race(t, func(int) error {
		g, err := s.Enroll.NextGeneration(ctx, c.ID)
		mu.Lock()
		defer mu.Unlock()
		if seen[g] {
			t.Errorf("generation %d issued twice", g)
		}
		seen[g] = true
		return err
	})
	s = s.Reopen(t)
	g, err := s.Enroll.NextGeneration(ctx, c.ID)
	must(t, err)
	for earlier := range seen {
		if g <= earlier {
			t.Errorf("generation %d after a restart, %d was issued before", g, earlier)
		}
	}
	_, err = s.Enroll.NextGeneration(ctx, id.NewConnector())
	wantCode(t, "an unknown connector", err, fault.NotFound)
	must(t, s.Enroll.RevokeConnector(ctx, maple, c.ID, moment))
	_, err = s.Enroll.NextGeneration(ctx, c.ID)
	wantCode(t, "a revoked connector", err, fault.Denied)
}
