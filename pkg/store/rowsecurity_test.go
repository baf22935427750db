package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
)

func openedOnPostgres(t testing.TB) (db *DB, url string) {
	t.Helper()
	sealer, err := secret.NewSealer(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	url = pgtest.Database(t)
	if db, err = Open(context.Background(), Config{PostgreSQL: PostgreSQL{URL: url}}, sealer); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db, url
}

// superuser sees and does everything in the database of url.
func superuser(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), strings.Replace(url, "user=sallyport", "user=postgres", 1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// fillTables puts one row of each of two tenants in every table that has a tenant, whatever its other columns, and returns
// the tables and the column that names the tenant.
func fillTables(t testing.TB, url string) map[string]string {
	t.Helper()
	conn := superuser(t, url)
	type column struct{ Table, Name, Type string }
	rows, err := conn.Query(t.Context(), `SELECT table_name, column_name, data_type FROM information_schema.columns
		WHERE table_schema = 'public' ORDER BY table_name, ordinal_position`)
	if err != nil {
		t.Fatal(err)
	}
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[column])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `SET session_replication_role = replica`); err != nil { // no references
		t.Fatal(err)
	}
	owner := map[string]string{"tenants": "id"}
	for _, c := range columns {
		if c.Name == "tenant" {
			owner[c.Table] = "tenant"
		}
	}
	for table := range owner {
		for _, tenant := range []string{"maple", "birch"} {
			var names, values []string
			for _, c := range columns {
				if c.Table != table {
					continue
				}
				names = append(names, c.Name)
				switch c.Type {
				case "bigint":
					values = append(values, fmt.Sprint(len(tenant)+int(tenant[0]))) // unique where a number is the key
				case "bytea":
					values = append(values, "''")
				default:
					values = append(values, "'"+tenant+"'")
				}
			}
			_, err := conn.Exec(t.Context(), fmt.Sprintf(`INSERT INTO %s (%s) VALUES (%s)`, table, strings.Join(names, ", "), strings.Join(values, ", ")))
			if err != nil {
				t.Fatalf("%s: %v", table, err)
			}
		}
	}
	return owner
}

// A query whose tenant filter was forgotten meets nothing of another tenant, in any table that has tenants; one that was sent
// for nobody meets nothing.
func TestRowSecurity(t *testing.T) {
	t.Parallel()
	db, url := openedOnPostgres(t)
	owner := fillTables(t, url)
	if len(owner) < 20 {
		t.Fatal("too few tables are seen:", owner)
	}
	all := func(of id.Tenant, table string) []string {
		found, err := list(db.ask(t.Context(), of, `SELECT `+owner[table]+` FROM `+table+` ORDER BY 1`),
			func(r row) (one string, err error) { return one, r.Scan(&one) })
		if err != nil {
			t.Fatalf("%s: %v", table, err)
		}
		return found
	}
	for table := range owner {
		for of, want := range map[id.Tenant][]string{
			"maple": {"maple"}, "birch": {"birch"}, "": nil, "nobody": nil, everyTenant: {"birch", "maple"},
		} {
			if got := all(of, table); !slices.Equal(got, want) {
				t.Errorf("%s as %q without a filter: %v, want %v", table, of, got, want)
			}
		}
		tryToWrite(t, db, table, owner[table])
		if got := all(everyTenant, table); len(got) != 2 {
			t.Errorf("%s after the attempts: %v", table, got)
		}
	}
}

var errEnough = errors.New("enough")

// tryToWrite changes and deletes as maple without a filter, and gives a row to birch.
func tryToWrite(t *testing.T, db *DB, table, owner string) {
	t.Helper()
	err := db.update(t.Context(), "maple", func(ctx context.Context, tx *tx) error {
		for _, query := range []string{`UPDATE ` + table + ` SET ` + owner + ` = ` + owner, `DELETE FROM ` + table} {
			n, err := tx.affected(ctx, query)
			if err != nil && !absent(err) || err == nil && n != 1 {
				t.Errorf("%s: %d rows, %v, want maple's one", query, n, err)
			}
			if err != nil {
				break
			}
		}
		return errEnough
	})
	if !errors.Is(err, errEnough) {
		t.Errorf("%s: %v", table, err)
	}
	err = db.update(t.Context(), "maple", func(ctx context.Context, tx *tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE `+table+` SET `+owner+` = 'other'`)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "row-level security") {
		t.Errorf("%s: maple's row was given away: %v", table, err)
	}
}

// A connection that served one tenant serves the next as that one, and after a failed statement too.
func TestRowSecurityFollowsTheCaller(t *testing.T) {
	t.Parallel()
	db, url := openedOnPostgres(t)
	fillTables(t, url)
	db.reader.SetMaxOpenConns(1)
	ask := func(of id.Tenant, text string) (one string, err error) {
		err = db.ask(t.Context(), of, text).Scan(&one)
		return one, err
	}
	for _, of := range []id.Tenant{"maple", "maple", "birch", "maple"} {
		if got, err := ask(of, `SELECT id FROM tenants`); err != nil || got != string(of) {
			t.Errorf("as %s: %q, %v", of, got, err)
		}
		if _, err := ask("birch", `SELECT 1/0 FROM tenants`); err == nil {
			t.Error("a statement that cannot succeed did")
		}
		if got, err := ask(of, `SELECT id FROM tenants`); err != nil || got != string(of) {
			t.Errorf("as %s after a failure: %q, %v", of, got, err)
		}
	}
	// Within a transaction the setting ends with it.
	if err := db.update(t.Context(), "birch", func(ctx context.Context, tx *tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	var left string
	err := db.writer.QueryRowContext(t.Context(), `SELECT COALESCE(current_setting('`+tenantSetting+`', true), '')`).Scan(&left)
	if err != nil || left != "" {
		t.Errorf("left on the connection: %q, %v", left, err)
	}
}
