package store_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// A follower in the same process hears of a commit at once, long before it would look by itself.
func TestFollowerHearsAtOnce(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "edge.db"))
	heard := make(chan []change.Change, 1)
	follower := change.NewFollower(db.Changes(), time.Hour, zap.NewNop())
	follower.Subscribe("test", []change.Kind{change.Tenant}, func(_ context.Context, changes []change.Change) error {
		heard <- changes
		return nil
	})
	db.WhenChanged(follower.Kick)
	ctx, cancel := context.WithCancel(t.Context())
	if err := follower.Begin(ctx); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- follower.Run(ctx) }()
	if err := db.Tenants().CreateTenant(ctx, tenant.Tenant{ID: "maple", SignInHost: "s.example"}); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-heard:
		if len(got) != 1 || got[0].ID != "maple" {
			t.Error("heard:", got)
		}
	case <-time.After(10 * time.Second):
		t.Error("not heard")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
