package store

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

func opened(t testing.TB) *DB {
	t.Helper()
	sealer, err := secret.NewSealer(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	db, err := Open(t.Context(), Config{Path: filepath.Join(t.TempDir(), "edge.db")}, sealer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func run(t testing.TB, db *DB, query string, args ...any) {
	t.Helper()
	if _, err := db.writer.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

var maple = tenant.Tenant{ID: "maple", SignInHost: "signin.maple.example"}

func TestDurabilitySettings(t *testing.T) {
	db := opened(t)
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"} {
		var got string
		if err := db.writer.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %s, %v; want %s", pragma, got, err, want)
		}
	}
	for _, query := range []string{`DELETE FROM tenants`, `PRAGMA query_only = 0; DELETE FROM tenants`} {
		if _, err := db.reader.ExecContext(t.Context(), query); err == nil {
			t.Errorf("a reader ran %q", query)
		}
	}
}

func TestReadOnlyIsRefusedInClearWords(t *testing.T) {
	db := opened(t)
	run(t, db, `PRAGMA query_only = 1`)
	err := db.Tenants().CreateTenant(t.Context(), maple)
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Public(err), "read-only") {
		t.Fatalf("a store that cannot be written: %v", err)
	}
	run(t, db, `PRAGMA query_only = 0`)
	if err := db.Tenants().CreateTenant(t.Context(), maple); err != nil {
		t.Fatal("writable again:", err)
	}
}

// A caller that goes in the middle of a write leaves it whole: what it was told and what is stored cannot differ.
func TestAWriteThatBeganIsFinished(t *testing.T) {
	db := opened(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := db.update(ctx, everyTenant, func(ctx context.Context, tx *tx) error {
		cancel()
		_, err := tx.ExecContext(ctx, `INSERT INTO audit_heads (tenant, sequence) VALUES ('maple', 7)`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var got int
	err = db.reader.QueryRowContext(t.Context(), `SELECT sequence FROM audit_heads WHERE tenant = 'maple'`).Scan(&got)
	if err != nil || got != 7 {
		t.Fatal(got, err)
	}
}

// Close waits for the write that is under way, and none comes after it.
func TestCloseWaitsForTheWriter(t *testing.T) {
	db := opened(t)
	inside, goOn, wrote := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		wrote <- db.update(t.Context(), everyTenant, func(ctx context.Context, tx *tx) error {
			close(inside)
			<-goOn
			_, err := tx.ExecContext(ctx, `INSERT INTO audit_heads (tenant, sequence) VALUES ('maple', 1)`)
			return err
		})
	}()
	<-inside
	closed := make(chan error, 1)
	go func() { closed <- closeWriter(db.writer) }()
	select {
	case <-closed:
		t.Fatal("closed under a write")
	case <-time.After(20 * time.Millisecond):
	}
	close(goOn)
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if err := db.Tenants().CreateTenant(t.Context(), maple); err == nil {
		t.Fatal("written after Close")
	}
}

func TestChangesArePruned(t *testing.T) {
	db := opened(t)
	const next = keepChanges + 2*pruneEvery
	run(t, db, `INSERT INTO changes (version, tenant, kind, ref) VALUES (1, '', 'key', 'old'), ($1, '', 'key', 'edge'), ($2, '', 'key', 'kept')`,
		next-keepChanges, next-keepChanges+1)
	run(t, db, `UPDATE change_head SET version = $1`, next-1)
	if err := db.Tenants().CreateTenant(t.Context(), maple); err != nil {
		t.Fatal(err)
	}
	log, err := db.Changes().Since(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(log) != 2 || log[0].ID != "kept" || log[1].Version != next || log[1].Kind != change.Tenant {
		t.Fatalf("log after pruning: %v", log)
	}
}

// A rule that this program does not understand in full is not followed in part.
func TestUnknownRulesAreErrors(t *testing.T) {
	db := opened(t)
	ctx := t.Context()
	if err := db.Tenants().CreateTenant(ctx, maple); err != nil {
		t.Fatal(err)
	}
	if err := db.Tenants().CreateSite(ctx, tenant.Site{Tenant: "maple", ID: "main"}); err != nil {
		t.Fatal(err)
	}
	if err := db.Tenants().CreateApp(ctx, tenant.App{Tenant: "maple", ID: id.NewApp(), Host: "h", Path: "/", Site: "main"}); err != nil {
		t.Fatal(err)
	}
	for _, rules := range []string{
		`[{"id":"r","effect":"perhaps","include":[]}]`,
		`[{"id":"r","effect":"allow","include":[],"unless":"sunday"}]`,
		`[{"id":"r","effect":"allow","include":[]`,
	} {
		run(t, db, `UPDATE apps SET rules = $1`, rules)
		if got, err := db.Tenants().Apps(ctx, "maple"); err == nil {
			t.Errorf("%s was read as %v", rules, got)
		}
	}
}

// A spool takes no more decisions than its limit, but the outcomes of those that it has.
func TestSpoolIsBounded(t *testing.T) {
	sealer, err := secret.NewSealer(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	s, err := OpenSpool(t.Context(), filepath.Join(t.TempDir(), "spool"), sealer)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	s.limit = 2
	two := []audit.Decision{{Tenant: "maple"}, {Tenant: "maple"}}
	if _, err := s.Append(t.Context(), two, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), two[:1], nil); !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Public(err), "full") {
		t.Errorf("a third decision: %v", err)
	}
	if _, err := s.Append(t.Context(), nil, []audit.Outcome{{Tenant: "maple", Sequence: -1}}); err != nil {
		t.Errorf("an outcome: %v", err)
	}
	if waiting, limit := s.Held(); waiting != 3 || limit != 2 {
		t.Errorf("%d of %d", waiting, limit)
	}
}

// One clinic has half of the spool at the most, and leaves room to every other; what was moved counts no more.
func TestNoClinicFillsTheSpool(t *testing.T) {
	db := opened(t)
	s, err := OpenSpool(t.Context(), filepath.Join(t.TempDir(), "spool"), db.sealer)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	s.limit = 40
	fill := func(tenant id.Tenant) (n int) {
		for ; s.Room(tenant) == nil; n++ {
			numbers, err := s.Append(t.Context(), []audit.Decision{{Tenant: tenant, Effect: policy.Allow}}, nil)
			if err == nil {
				_, err = s.Append(t.Context(), nil, []audit.Outcome{{Tenant: tenant, Sequence: numbers[0]}})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	if a, b, c := fill("maple"), fill("birch"), fill("cedar"); a != 10 || b != 5 || c < 2 {
		t.Errorf("a clinic has %d requests of 20, the next one %d, the third %d", a, b, c)
	}
	if err := s.Room("maple"); !fault.Is(err, fault.Exhausted) {
		t.Errorf("the first one: %v", err)
	}
	for more := true; more; {
		if more, err = s.Merge(t.Context(), db.Audit(), db.Merger()); err != nil {
			t.Fatal(err)
		}
	}
	if n := fill("maple"); n != 10 {
		t.Errorf("%d after all was moved", n)
	}
}
