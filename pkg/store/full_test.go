package store_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/store/disktest"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// A full disk refuses what cannot be recorded, says why, damages nothing, and is over by itself when there is room again.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	disktest.Mount(t, dir, "size=2m,mode=0700")
	db := open(t, filepath.Join(dir, "edge.db"))
	ctx := t.Context()
	if err := db.Tenants().CreateTenant(ctx, tenant.Tenant{ID: "maple", SignInHost: "s.example"}); err != nil {
		t.Fatal(err)
	}
	recorder := audit.NewRecorder(db.Audit(), audit.RecorderConfig{}, zap.NewNop())
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- recorder.Run(running) }()

	recorded := 0
	decide := func() error {
		sequence, err := recorder.Decide(ctx, audit.Decision{Tenant: "maple", Path: "/oscar/", Host: "oscar.maple.example"})
		if err != nil {
			return err
		}
		if recorded++; sequence != int64(recorded) {
			t.Fatalf("sequence %d where %d belongs", sequence, recorded)
		}
		return nil
	}
	filler := filepath.Join(dir, "filler")
	for round := range 3 {
		for range 5 {
			if err := decide(); err != nil {
				t.Fatalf("round %d, with room: %v", round, err)
			}
		}
		disktest.Fill(t, filler)
		refuse(t, decide)
		err := db.Tenants().CreateSite(ctx, tenant.Site{Tenant: "maple", ID: "main"})
		if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Public(err), "full") {
			t.Fatalf("another write on a full disk: %v", err)
		}
		if all, err := db.Tenants().Tenants(ctx); err != nil || len(all) != 1 {
			t.Fatalf("reading on a full disk: %v, %v", all, err)
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	verifyWhole(t, db, filepath.Join(dir, "edge.db"), recorded)
}

// refuse decides until the last free page is used, then makes sure that every further decision is refused.
func refuse(t *testing.T, decide func() error) {
	t.Helper()
	for range 100_000 {
		if err := decide(); err != nil {
			for range 20 {
				if err := decide(); !fault.Is(err, fault.Unavailable) {
					t.Fatalf("on a full disk: %v, want %s", err, fault.Unavailable)
				}
			}
			return
		}
	}
	t.Fatal("the disk does not fill")
}

func verifyWhole(t *testing.T, db *store.DB, path string, recorded int) {
	t.Helper()
	for range 2 { // as it is, and after a restart
		if err := db.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := len(allPaths(t, db)); got != recorded {
			t.Fatalf("%d decisions on record, %d were acknowledged", got, recorded)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		db = open(t, path)
	}
}
