package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
	"github.com/sallyport-dev/sallyport/pkg/store/storetest"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

func sealer(t testing.TB, b byte) *secret.Sealer {
	t.Helper()
	s, err := secret.NewSealer(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// open opens a store and has it closed when the test ends; closing twice is no matter.
func open(t testing.TB, path string) *store.DB {
	t.Helper()
	return openAs(t, store.Config{Path: path})
}

func openAs(t testing.TB, config store.Config) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), config, sealer(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Stores {
		return stores(t, store.Config{Path: filepath.Join(t.TempDir(), "edge.db")}, new(atomic.Int64))
	})
}

func TestConformancePostgreSQL(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Stores { return stores(t, onPostgres(t), new(atomic.Int64)) })
}

// onPostgres is an empty database.
func onPostgres(t testing.TB) store.Config {
	return store.Config{PostgreSQL: store.PostgreSQL{URL: pgtest.Database(t)}}
}

// stores opens a store whose clock, where it is the edge's, is ahead by what was added to later.
func stores(t *testing.T, config store.Config, later *atomic.Int64) storetest.Stores {
	t.Helper()
	config.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	db := openAs(t, config)
	return storetest.Stores{
		Tenants: db.Tenants(), Identity: db.Identity(), Sessions: db.Sessions(), Keys: db.Keys(), Services: db.Services(),
		Audit: db.Audit(), Merger: db.Merger(), Enroll: db.Enroll(), Ingress: db.Ingress(), Codes: db.Codes(), Changes: db.Changes(), Cluster: db.Cluster(),
		Authority: db.Authority(),
		Later: func(t *testing.T, by time.Duration) {
			if later.Add(int64(by)); db.Shared() {
				ago(t, config.PostgreSQL.URL, by)
			}
		},
		Reopen: func(t *testing.T) storetest.Stores {
			if err := db.Check(t.Context()); err != nil {
				t.Error(err)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
			return stores(t, config, later)
		},
	}
}

// ago has all heartbeats have been earlier: the clock of PostgreSQL cannot be moved.
func ago(t *testing.T, url string, by time.Duration) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(t.Context(), `UPDATE edges SET expires = expires - $1`, by.Milliseconds()); err != nil {
		t.Fatal(err)
	}
}

func TestSecondProcessIsKeptOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edge.db")
	db := open(t, path)
	_, err := store.Open(t.Context(), store.Config{Path: path}, sealer(t, 1))
	if err == nil || !strings.Contains(err.Error(), "another process has it open") {
		t.Fatalf("a second opening: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

func TestFilesAreTheOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "edge.db")
	db := open(t, path)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) < 4 { // the store, its log, its index, the lock
		t.Fatal(files, err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %04o", filepath.Base(f), info.Mode().Perm())
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(t.Context(), store.Config{Path: path}, sealer(t, 1))
	if err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Fatalf("a store that others may read: %v", err)
	}
}

func TestAnotherMasterKeyIsFoundAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edge.db")
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	_, err := store.Open(t.Context(), store.Config{Path: path}, sealer(t, 2))
	if err == nil || !strings.Contains(err.Error(), "another master.key") {
		t.Fatalf("opened with another key: %v", err)
	}
	open(t, path)
}

func TestNewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edge.db")
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1); UPDATE schema_floor SET version = 9999`); err != nil {
		t.Fatal(err)
	}
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(t.Context(), store.Config{Path: path}, sealer(t, 1))
	if err == nil || !strings.Contains(err.Error(), "a newer edge has used it") {
		t.Fatalf("a store of a newer edge: %v", err)
	}
}

func TestDamageIsSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edge.db")
	if err := os.WriteFile(path, bytes.Repeat([]byte("not a database. "), 1024), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := store.Open(t.Context(), store.Config{Path: path}, sealer(t, 1))
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "damaged") {
		t.Fatalf("a damaged store: %v", err)
	}
}

// What must not lie open does not: neither in the file nor in its log.
func TestSealedOnDisk(t *testing.T) {
	dir := t.TempDir()
	db := open(t, filepath.Join(dir, "edge.db"))
	ctx := t.Context()
	now := time.Now()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const address, path, seed, visible = "dr.lee@clinic.example", "/oscar/demographic/4711", "seed-seed-seed-seed", "Visible Clinic"
	must(db.Tenants().CreateTenant(ctx, tenant.Tenant{ID: "maple", Name: visible, SignInHost: "s.example", Created: now}))
	must(db.Identity().CreateUser(ctx, identity.User{Tenant: "maple", ID: id.NewUser(), Issuer: identity.LocalIssuer, Email: address}))
	must(db.Keys().CreateKey(ctx, token.Key{Kind: token.Access, ID: "k", Seed: []byte(seed), Created: now}))
	_, err := db.Audit().Append(ctx, []audit.Decision{{Tenant: "maple", Path: path}}, nil)
	must(err)
	var all []byte
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	must(err)
	for _, f := range files {
		content, err := os.ReadFile(f)
		must(err)
		all = append(all, content...)
	}
	for _, s := range []string{address, "dr.lee", "clinic.example", path, "4711", seed} {
		if bytes.Contains(all, []byte(s)) {
			t.Errorf("%q lies open on the disk", s)
		}
	}
	if !bytes.Contains(all, []byte(visible)) {
		t.Error("the search itself finds nothing")
	}
}

// A caller that has gone while it waited for its turn has written nothing; one that waited too long hears why.
func TestWaitForTheWriterIsBounded(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "edge.db"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Tenants().CreateTenant(ctx, tenant.Tenant{ID: "maple"}); err == nil {
		t.Fatal("written for a caller that had gone")
	}
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if err := db.Tenants().CreateTenant(late, tenant.Tenant{ID: "maple"}); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("too late: %v", err)
	}
	if all, err := db.Tenants().Tenants(t.Context()); err != nil || len(all) != 0 {
		t.Fatal(all, err)
	}
}

func TestWhenChanged(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "edge.db"))
	calls := 0
	db.WhenChanged(func() { calls++ })
	if err := db.Tenants().CreateTenant(t.Context(), tenant.Tenant{ID: "maple", SignInHost: "s.example"}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Audit().Append(t.Context(), []audit.Decision{{Tenant: "maple"}}, nil); err != nil {
		t.Fatal(err)
	}
	if calls != 1 {
		t.Fatalf("%d calls for one change and one record, want 1", calls)
	}
}
