package access_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/access"
	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

// TestOverTheRealStore asserts that what the store logs is what access follows: disabling a user and replacing rules cut
// open exchanges, the decisions are on disk.
func TestOverTheRealStore(t *testing.T) {
	for name, change := range map[string]func(ctx context.Context, db *store.DB) error{
		"user disabled": func(ctx context.Context, db *store.DB) error {
			return db.Identity().SetDisabled(ctx, "maple", lee.ID, true)
		},
		"session ended": func(ctx context.Context, db *store.DB) error {
			return db.Sessions().Revoke(ctx, "maple", "ses_1", time.Now())
		},
		"rules replaced": func(ctx context.Context, db *store.DB) error {
			return db.Tenants().SetRules(ctx, "maple", "app_1", nil)
		},
		"app deleted": func(ctx context.Context, db *store.DB) error { return db.Tenants().DeleteApp(ctx, "maple", "app_1") },
	} {
		t.Run(name, func(t *testing.T) {
			db, a, value := realWorld(t)
			who, err := a.Authenticate(get("/", ref, value), maple, oscar())
			if err != nil {
				t.Fatal(err)
			}
			g, err := a.Authorize(t.Context(), question(who, oscar(allow(policy.UserPrincipal, "usr_lee"))))
			if err != nil {
				t.Fatal(err)
			}
			defer g.Lease.Release()
			if rows, err := db.Audit().Decisions(t.Context(), "maple", 0, 10); err != nil || len(rows) != 1 || rows[0].Effect != policy.Allow {
				t.Errorf("record %+v, %v", rows, err)
			}
			if err := change(t.Context(), db); err != nil {
				t.Fatal(err)
			}
			select {
			case <-g.Lease.Context().Done():
				if cause := context.Cause(g.Lease.Context()); !errors.Is(cause, access.ErrRevoked) {
					t.Errorf("cause %v", cause)
				}
			case <-time.After(5 * time.Second):
				t.Error("still open after 5 s")
			}
		})
	}
}

func realWorld(t *testing.T) (*store.DB, *access.Access, string) {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(secret.CreateMaster(filepath.Join(dir, "master.key")))
	sealer, err := secret.LoadMaster(filepath.Join(dir, "master.key"))
	must(err)
	db, err := store.Open(ctx, store.Config{Path: filepath.Join(dir, "edge.db")}, sealer)
	must(err)
	ring, err := token.NewKeyring(ctx, db.Keys(), time.Now)
	must(err)
	recorder := audit.NewRecorder(db.Audit(), audit.RecorderConfig{}, zap.NewNop())
	follower := change.NewFollower(db.Changes(), 20*time.Millisecond, zap.NewNop())
	a := access.New(access.Config{
		Keys: ring, Sessions: db.Sessions(), Services: db.Services(), Users: db.Identity(), Apps: db.Tenants(),
		Recorder: recorder, Follower: follower,
	})
	must(db.Tenants().CreateTenant(ctx, maple))
	must(db.Tenants().CreateSite(ctx, tenant.Site{Tenant: "maple", ID: "main", Created: time.Now()}))
	must(db.Tenants().CreateApp(ctx, oscar(allow(policy.UserPrincipal, "usr_lee"))))
	user := lee
	user.Email = "dr.lee@maple.example"
	must(db.Identity().CreateUser(ctx, user))
	now, value := time.Now(), session.NewSecret()
	s := session.Session{
		Tenant: "maple", ID: "ses_1", User: lee.ID, Methods: []string{"otp"}, Created: now, LastSeen: now,
		Expires: now.Add(session.DefaultAbsolute), IdleFor: session.DefaultIdle,
	}
	must(db.Sessions().CreateSession(ctx, s, session.Reference{
		Tenant: "maple", Hash: secret.Hash(value), Session: "ses_1", Host: "oscar.maple.example", Created: now,
	}))
	must(follower.Begin(ctx)) // as the edge does: what changes from here on is followed, however late Run gets its turn
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 2)
	go func() { done <- recorder.Run(running) }()
	go func() { done <- follower.Run(running) }()
	t.Cleanup(func() {
		stop()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		must(db.Close())
	})
	return db, a, value
}
