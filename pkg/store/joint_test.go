package store

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// atWork makes clinics with one user and one session each, and returns the sessions, which began at the time given.
func atWork(t testing.TB, db *DB, clinics int, began time.Time) []session.Session {
	t.Helper()
	var all []session.Session
	for i := range clinics {
		of := id.Tenant(fmt.Sprint("clinic", i))
		one := session.Session{
			Tenant: of, ID: id.NewSession(), User: "usr_a", Methods: []string{"otp"}, Created: began, LastSeen: began,
			Expires: began.Add(12 * time.Hour), IdleFor: time.Hour,
		}
		for _, err := range []error{
			db.Tenants().CreateTenant(t.Context(), tenant.Tenant{ID: of, SignInHost: fmt.Sprintf("signin.clinic%d.example", i), Created: began}),
			db.Identity().CreateUser(t.Context(), identity.User{
				Tenant: of, ID: "usr_a", Issuer: identity.LocalIssuer, Subject: "usr_a", Email: "a@clinic.example", Created: began,
			}),
			db.Sessions().CreateSession(t.Context(), one, session.Reference{Tenant: of, Hash: fmt.Sprint("hash", i), Session: one.ID, Host: "oscar.example", Created: began}),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, one)
	}
	return all
}

// Sessions of several clinics are noted in one transaction, and each caller hears of its own alone.
func TestTouchesShareATransaction(t *testing.T) {
	for name, open := range map[string]func(testing.TB) *DB{"SQLite": opened, "PostgreSQL": openedPostgres} {
		t.Run(name, func(t *testing.T) {
			db, began := open(t), time.UnixMilli(1_700_000_000_000)
			all := atWork(t, db, 3, began)
			seen := began.Add(time.Minute)
			if err := db.Sessions().Revoke(t.Context(), all[1].Tenant, all[1].ID, began); err != nil {
				t.Fatal(err)
			}
			asked := []*question[touch]{
				newQuestion(touch{all[2].Tenant, all[2].ID, millis(seen)}),
				newQuestion(touch{all[1].Tenant, all[1].ID, millis(seen)}),
				newQuestion(touch{all[1].Tenant, all[0].ID, millis(seen)}), // another clinic's
				newQuestion(touch{all[0].Tenant, all[0].ID, millis(seen)}),
			}
			db.touches.asked = append(db.touches.asked, asked...)
			if err := db.touches.write(t.Context(), db); err != nil {
				t.Fatal(err)
			}
			for i, want := range []fault.Code{"", fault.Denied, fault.NotFound, ""} {
				if one := asked[i]; !one.answered() || (one.err == nil) != (want == "") || want != "" && !fault.Is(one.err, want) {
					t.Errorf("touch %d: %v, want %q", i, one.err, want)
				}
			}
			for i, want := range []time.Time{seen, began, seen} {
				if s, err := db.Sessions().Session(t.Context(), all[i].Tenant, all[i].ID); err != nil || !s.LastSeen.Equal(want) {
					t.Errorf("session %d: seen %v, %v; want %v", i, s.LastSeen, err, want)
				}
			}
		})
	}
}

// BenchmarkTouchesAtOnce is 256 sessions that are noted to be in use at the same time.
func BenchmarkTouchesAtOnce(b *testing.B) {
	const many = 256
	for name, open := range map[string]func(testing.TB) *DB{"SQLite": opened, "PostgreSQL": openedPostgres} {
		b.Run(name, func(b *testing.B) {
			db, at := open(b), time.UnixMilli(1_700_000_000_000)
			sessions := atWork(b, db, many, at)
			for b.Loop() {
				at = at.Add(time.Millisecond)
				var all sync.WaitGroup
				for _, s := range sessions {
					all.Go(func() {
						if err := db.Sessions().Touch(b.Context(), s.Tenant, s.ID, at); err != nil {
							b.Error(err)
						}
					})
				}
				all.Wait()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/many, "µs/touch")
		})
	}
}
