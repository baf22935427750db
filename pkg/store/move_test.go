package store

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
)

// Every table is moved or left for a reason, in the order of its primary key.
func TestMoveKnowsEveryTable(t *testing.T) {
	t.Parallel()
	_, url := openedOnPostgres(t)
	rows, err := superuser(t, url).Query(t.Context(), `SELECT t.relname,
			(SELECT string_agg(a.attname, ', ' ORDER BY k.n) FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k (attnum, n), pg_attribute a
				WHERE i.indrelid = t.oid AND i.indisprimary AND a.attrelid = t.oid AND a.attnum = k.attnum)
		FROM pg_class t WHERE t.relkind = 'r' AND t.relnamespace = 'public'::regnamespace`)
	if err != nil {
		t.Fatal(err)
	}
	type table struct{ Name, Key string }
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[table])
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range tables {
		if slices.Contains(moveOrder, movedTable{one.Name, one.Key}) == slices.Contains(notMoved, one.Name) {
			t.Errorf("%s (%s) stands neither in moveOrder, with this key, nor in notMoved, or in both", one.Name, one.Key)
		}
	}
	if len(tables) != len(moveOrder)+len(notMoved) {
		t.Errorf("%d tables, %d moved and %d left", len(tables), len(moveOrder), len(notMoved))
	}
}

func testSealer(t testing.TB, b byte) *secret.Sealer {
	t.Helper()
	sealer, err := secret.NewSealer(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return sealer
}

func postgresConfig(url string) Config { return Config{PostgreSQL: PostgreSQL{URL: url}} }

// filled is a database with rows in every table, some of them over several pages, that nobody has open.
func filled(t *testing.T) Config {
	t.Helper()
	db, url := openedOnPostgres(t)
	fillTables(t, url)
	for i := range 12 {
		if _, err := db.Merger().AppendOnce(t.Context(), fmt.Sprint(i), []audit.Decision{{Tenant: "cedar", Path: fmt.Sprint(i)}, {Tenant: "aspen"}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return postgresConfig(url)
}

var errKilled = errors.New("killed")

// brokenOff moves, ends before each transaction in turn, and goes on, until it is through. It returns what each table came to.
func brokenOff(t *testing.T, from, to Config) map[string]Moved {
	t.Helper()
	for n := 0; n < 1000; n++ {
		moved, passed := map[string]Moved{}, 0
		m := &mover{rows: 5, report: func(one Moved) { moved[one.Table] = one }, step: func() error {
			if passed++; passed > 4 { // some on each attempt
				return errKilled
			}
			return nil
		}}
		err := m.move(t.Context(), from, to, testSealer(t, 1))
		if err == nil {
			t.Logf("moved in %d attempts", n+1)
			return moved
		}
		if !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), to, testSealer(t, 1)); err == nil || !strings.Contains(err.Error(), "run edge store move again") {
			t.Fatalf("half of a store was opened: %v", err)
		}
	}
	t.Fatal("does not end")
	return nil
}

// A database that goes away in mid-move has rows already: nobody may read that nothing was changed.
func TestMoveTellsWhatStaysAfterAnOutage(t *testing.T) {
	t.Parallel()
	from, to := filled(t), Config{Path: filepath.Join(t.TempDir(), "edge.db")}
	passed := 0
	m := &mover{rows: 5, report: func(Moved) {}, step: func() error {
		if passed++; passed > 4 {
			return explain(&net.OpError{Op: "read", Err: syscall.ECONNRESET})
		}
		return nil
	}}
	err := m.move(t.Context(), from, to, testSealer(t, 1))
	if err == nil || !strings.Contains(err.Error(), "what was copied stays") || strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("%v", err)
	}
	brokenOff(t, from, to)
}

// From PostgreSQL to a file and to another PostgreSQL, broken off at every transaction: each table arrives whole.
func TestMoveThereAndBack(t *testing.T) {
	t.Parallel()
	first := filled(t)
	file := Config{Path: filepath.Join(t.TempDir(), "edge.db")}
	second := postgresConfig(pgtest.Database(t))
	onFile := brokenOff(t, first, file)
	before, err := os.ReadFile(file.Path)
	if err != nil {
		t.Fatal(err)
	}
	onServer := brokenOff(t, file, second)
	for _, table := range moveOrder {
		a, b := onFile[table.name], onServer[table.name]
		if a.Rows == 0 && table.name != "cluster_authority" && table.name != "signing_keys" {
			t.Errorf("%s: no rows: the test shows nothing", table.name)
		}
		if a.Rows != b.Rows || a.Digest != b.Digest || len(a.Digest) != 64 {
			t.Errorf("%s: %d rows (%s) became %d (%s)", table.name, a.Rows, a.Digest, b.Rows, b.Digest)
		}
	}
	after, err := os.ReadFile(file.Path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the source was changed (%v)", err)
	}
	db, err := Open(t.Context(), second, testSealer(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	got, err := db.Audit().Decisions(t.Context(), "cedar", 0, 100)
	if err != nil || len(got) != 12 || got[11].Path != "11" {
		t.Errorf("%d decisions, %v", len(got), err)
	}
	if numbers, err := db.Audit().Append(t.Context(), []audit.Decision{{Tenant: "cedar"}}, nil); err != nil || numbers[0] != 13 {
		t.Errorf("the next is numbered %v, %v", numbers, err)
	}
}

func TestMoveRefuses(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "edge.db")
	source := Config{Path: path}
	db, err := Open(ctx, source, testSealer(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	none := func(Moved) {}
	refused := func(what string, from, to Config, sealer byte, want string) {
		t.Helper()
		if err := Move(ctx, from, to, testSealer(t, sealer), none); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	target := postgresConfig(pgtest.Database(t))
	refused("a source that an edge has open", source, target, 1, "another process has it open")
	if err := db.Tenants().CreateTenant(ctx, maple); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	refused("another master.key", source, target, 2, "another master.key")
	refused("no such source", Config{Path: path + "-none"}, target, 1, "no such file")
	if left, _ := filepath.Glob(path + "-none*"); len(left) > 0 {
		t.Error("left beside what is not there:", left)
	}
	refused("a target with other data", source, filled(t), 1, "something in it already")
	if err := Move(ctx, source, target, testSealer(t, 1), none); err != nil {
		t.Fatal(err)
	}
	refused("what was moved already", source, target, 1, "moved there already")
	other := Config{Path: path + "-other"}
	if db, err = Open(ctx, other, testSealer(t, 1)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	refused("another source into the same target", other, target, 1, "another store was moved there")
}

// While a shared database is moved from, nobody writes to it.
func TestMoveLocksPostgreSQL(t *testing.T) {
	t.Parallel()
	from := filled(t)
	db, err := Open(t.Context(), from, testSealer(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	m := &mover{rows: 1000, report: func(Moved) {}}
	tried := false
	m.step = func() error {
		if !tried {
			tried = true
			conn := superuser(t, from.PostgreSQL.URL)
			_, err := conn.Exec(t.Context(), `SET lock_timeout = '50ms'; UPDATE change_head SET version = 7`)
			if err == nil || !strings.Contains(err.Error(), "lock timeout") {
				t.Errorf("written in the middle of a move: %v", err)
			}
		}
		return nil
	}
	if err := m.move(t.Context(), from, Config{Path: filepath.Join(t.TempDir(), "edge.db")}, testSealer(t, 1)); err != nil {
		t.Fatal(err)
	}
	if err := db.Tenants().CreateTenant(t.Context(), maple); err != nil && !taken(err) && !strings.Contains(err.Error(), "exists") {
		t.Error("after the move:", err)
	}
}

// A program may start beside a newer schema that only added to what it knows. A step that does more says so.
func TestSchemaFloor(t *testing.T) {
	t.Parallel()
	db, url := openedOnPostgres(t)
	conn := superuser(t, url)
	exec := func(query string) {
		if _, err := conn.Exec(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)`)
	again, err := Open(t.Context(), postgresConfig(url), testSealer(t, 1))
	if err != nil {
		t.Fatal("beside a newer schema that only added:", err)
	}
	if err := errors.Join(again.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
	exec(`UPDATE schema_floor SET version = 9999`)
	if _, err := Open(t.Context(), postgresConfig(url), testSealer(t, 1)); err == nil || !strings.Contains(err.Error(), "a newer edge has used it") {
		t.Fatalf("beside one that took something away: %v", err)
	}
	steps, err := migrations.ReadDir("migrations")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		text, err := migrations.ReadFile("migrations/" + step.Name())
		if err != nil {
			t.Fatal(err)
		}
		if step.Name() > "0003" && !bytes.Contains(text, []byte(besideMark)) && !bytes.Contains(text, []byte("UPDATE schema_floor")) {
			t.Errorf("%s: neither marked as bearable for the version before nor raising schema_floor", step.Name())
		}
	}
}
