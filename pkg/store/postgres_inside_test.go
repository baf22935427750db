package store

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

// Without sslmode only what stays on the machine goes in the clear.
func TestTLSUnlessNearby(t *testing.T) {
	for url, want := range map[string]bool{
		"postgres://edge@db.example/sallyport":                    true,
		"postgres://edge@a.example,localhost/sallyport":           true,
		"postgres://edge@192.0.2.1:5432/sallyport":                true,
		"postgres://edge@localhost/sallyport":                     false,
		"postgres://edge@127.0.0.1:5432,localhost:5433/sallyport": false,
		"postgres:///sallyport?host=/run/postgresql&user=edge":    false,
		"postgres://edge@db.example/sallyport?sslmode=disable":    false,
		"postgres://edge@localhost/sallyport?sslmode=verify-full": true,
		"postgres:///sallyport?host=db.example&user=edge":         true,
	} {
		config, err := PostgreSQL{URL: url}.config()
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if got := config.TLSConfig != nil; got != want {
			t.Errorf("%s: TLS %v, want %v", url, got, want)
		}
		if config.TLSConfig != nil && (config.TLSConfig.InsecureSkipVerify || len(config.Fallbacks) > 0 && config.Fallbacks[0].TLSConfig == nil) {
			t.Errorf("%s: the certificate is not verified, or the clear is fallen back to", url)
		}
	}
}

// What the server says is trouble of the machine's is told to the operator; what it says of a statement is ours, and is not.
func TestPostgreSQLFaults(t *testing.T) {
	for code, want := range map[string]string{
		"53100": "full", "25006": "read-only", "58030": "fails", "53300": "busy", "57014": "busy", "55P03": "busy", "40001": "busy",
		"57P01": "cannot be reached", "57P03": "cannot be reached", "08006": "cannot be reached", "XX001": "damaged", "28P01": "password",
		"3D000": "no such database", "42501": "own the database", "42601": "", "23505": "", "23503": "",
	} {
		err := explain(fmt.Errorf("query: %w", &pgconn.PgError{Code: code}))
		if want == "" {
			if fault.CodeOf(err) == fault.Unavailable {
				t.Errorf("%s: %v, which is no trouble of the machine's", code, err)
			}
			continue
		}
		if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Public(err), want) {
			t.Errorf("%s: %q, want %q", code, fault.Public(err), want)
		}
	}
	if !taken(&pgconn.PgError{Code: "23505"}) || !absent(&pgconn.PgError{Code: "23503"}) || taken(&pgconn.PgError{Code: "23503"}) {
		t.Error("a broken rule is taken for another")
	}
}

// Writers are refused in clear words while the database is read-only, and go on by themselves when it is not any more.
func TestReadOnlyPostgreSQL(t *testing.T) {
	t.Parallel()
	db, url := openedOnPostgres(t)
	name := url[strings.LastIndex(url, "/test")+1 : strings.Index(url, "?")]
	conn := superuser(t, url)
	for _, readOnly := range []string{"on", "off"} {
		if _, err := conn.Exec(t.Context(), `ALTER DATABASE `+name+` SET default_transaction_read_only = `+readOnly); err != nil {
			t.Fatal(err)
		}
		forget(db.writer, pgWriters) // the setting is a new connection's
		err := db.Tenants().CreateTenant(t.Context(), maple)
		switch {
		case readOnly == "off" && err != nil:
			t.Error("writable again:", err)
		case readOnly == "on" && (!fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Public(err), "read-only")):
			t.Errorf("a store that cannot be written: %v", err)
		}
	}
}
