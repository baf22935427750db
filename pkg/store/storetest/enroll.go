package storetest

import (
	"math"
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

// livesOn is what is known of a process that lives whatever others have come.
const livesOn = math.MaxUint64

func testGenerations(t *testing.T, s Stores) {
	ctx := t.Context()
	seedTenant(t, s, maple)
	c := connector(t, s, maple)
	var mu sync.Mutex
	seen := make(map[uint64]bool)
	race(t, func(i int) error {
		run, err := s.Enroll.JoinRun(ctx, c.ID, name("process", i), livesOn)
		mu.Lock()
		defer mu.Unlock()
		if seen[run.Generation] || run.Returns != 0 {
			t.Errorf("generation %d issued twice, or a new process taken for one that came back (%d)", run.Generation, run.Returns)
		}
		seen[run.Generation] = true
		return err
	})
	s = s.Reopen(t)
	run, err := s.Enroll.JoinRun(ctx, c.ID, "after the restart", livesOn)
	must(t, err)
	for earlier := range seen {
		if run.Generation <= earlier {
			t.Errorf("generation %d after a restart, %d was issued before", run.Generation, earlier)
		}
	}
	_, err = s.Enroll.JoinRun(ctx, id.NewConnector(), "a", livesOn)
	wantCode(t, "an unknown connector", err, fault.NotFound)
	must(t, s.Enroll.RevokeConnector(ctx, maple, c.ID, moment))
	_, err = s.Enroll.JoinRun(ctx, c.ID, "a", livesOn)
	wantCode(t, "a revoked connector", err, fault.Denied)
}

// One process has one number, whichever edges it reaches at once.
func testRunRace(t *testing.T, s Stores) {
	seedTenant(t, s, maple)
	c := connector(t, s, maple)
	race(t, func(int) error {
		run, err := s.Enroll.JoinRun(t.Context(), c.ID, "a", livesOn)
		if run != (enroll.Run{Generation: 1}) {
			t.Errorf("one process got %+v", run)
		}
		return err
	})
}

// A process that was killed while it came in, at an edge that is slow to ask for its number, is no copy of its successor: after that
// one has a number it gets none, whether it had one before or not, and nothing is counted. One that lives shows it, and is.
func testDeadRun(t *testing.T, s Stores) {
	seedTenant(t, s, maple)
	ctx, c := t.Context(), connector(t, s, maple)
	join := func(instance string, newest uint64, want enroll.Run) {
		t.Helper()
		run, err := s.Enroll.JoinRun(ctx, c.ID, instance, newest)
		must(t, err)
		same(t, instance, want, run)
	}
	newest := func() uint64 {
		t.Helper()
		c, err := s.Enroll.Connector(ctx, c.ID)
		must(t, err)
		return c.Newest
	}
	seen := newest()
	join("before", seen, enroll.Run{Generation: 1})
	seen = newest()
	join("successor", seen, enroll.Run{Generation: 2})
	for range 3 {
		for _, dead := range []string{"before", "new, and killed at once"} {
			_, err := s.Enroll.JoinRun(ctx, c.ID, dead, seen)
			wantCode(t, dead, err, fault.Conflict)
		}
		join("successor", seen, enroll.Run{Generation: 2}) // its other links, which came in when the first did
		join("successor", newest(), enroll.Run{Generation: 2})
	}
	join("before", newest(), enroll.Run{Generation: 3, Returns: 1})
	join("successor", newest(), enroll.Run{Generation: 4, Returns: 2})
}

// A process that comes back after another one shows a copied key.
func testRuns(t *testing.T, s Stores) {
	seedTenant(t, s, maple)
	c, other := connector(t, s, maple), connector(t, s, maple)
	join := func(c enroll.Connector, instance string, want enroll.Run) {
		t.Helper()
		run, err := s.Enroll.JoinRun(t.Context(), c.ID, instance, livesOn)
		must(t, err)
		same(t, instance, want, run)
	}
	join(c, "a", enroll.Run{Generation: 1})
	join(other, "a", enroll.Run{Generation: 1}) // instances are a connector's own
	join(c, "b", enroll.Run{Generation: 2})
	s = s.Reopen(t)
	join(c, "b", enroll.Run{Generation: 2})
	join(c, "a", enroll.Run{Generation: 3, Returns: 1})
	join(c, "a", enroll.Run{Generation: 3})
	join(c, "b", enroll.Run{Generation: 4, Returns: 2})
	must(t, s.Enroll.SetFrozen(t.Context(), maple, c.ID, "the key is in use twice"))
	must(t, s.Enroll.SetFrozen(t.Context(), maple, c.ID, ""))
	join(c, "a", enroll.Run{Generation: 5, Returns: 1})
	for i := range 40 { // those before are forgotten at some time
		join(c, name("restart", i), enroll.Run{Generation: uint64(6 + i)})
	}
	join(c, "a", enroll.Run{Generation: 46})
	join(other, "b", enroll.Run{Generation: 2})
}
