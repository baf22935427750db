package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// BenchmarkRowSecurity is the look-up that every request of a browser makes, on PostgreSQL: without row security, with it for
// a connection that serves one tenant, and for one whose tenant changes with every look-up.
func BenchmarkRowSecurity(b *testing.B) {
	for _, bench := range []struct {
		name    string
		tenants int
		off     bool
	}{{"off", 1, true}, {"one tenant", 1, false}, {"another tenant each time", 8, false}} {
		b.Run(bench.name, func(b *testing.B) {
			db, url := openedOnPostgres(b)
			if bench.off {
				conn := superuser(b, url)
				for _, table := range []string{"sessions", "session_references"} {
					if _, err := conn.Exec(b.Context(), `ALTER TABLE `+table+` DISABLE ROW LEVEL SECURITY`); err != nil {
						b.Fatal(err)
					}
				}
			}
			var all []id.Tenant
			for i := range bench.tenants {
				all = append(all, signedIn(b, db, i))
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := db.Sessions().SessionByReference(b.Context(), all[i%len(all)], "hash", "host"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// signedIn makes a tenant with one session.
func signedIn(b *testing.B, db *DB, number int) id.Tenant {
	b.Helper()
	of, now := id.Tenant(fmt.Sprintf("clinic-%d", number)), time.Now()
	u := identity.User{Tenant: of, ID: id.NewUser(), Issuer: identity.LocalIssuer, Subject: "lee"}
	one := session.Session{Tenant: of, ID: id.NewSession(), User: u.ID, Created: now, LastSeen: now, Expires: now.Add(time.Hour), IdleFor: time.Hour}
	if err := db.Tenants().CreateTenant(b.Context(), tenant.Tenant{ID: of, SignInHost: string(of)}); err != nil {
		b.Fatal(err)
	}
	if err := db.Identity().CreateUser(b.Context(), u); err != nil {
		b.Fatal(err)
	}
	if err := db.Sessions().CreateSession(b.Context(), one, session.Reference{Tenant: of, Hash: "hash", Session: one.ID, Host: "host"}); err != nil {
		b.Fatal(err)
	}
	return of
}
