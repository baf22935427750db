package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// BenchmarkDecide measures what recording costs a request: alone, and with 64 at a time that share commits. The machine
// under it is measured in the same run, as one write of a page and its sync; "×sync" is the ratio to that, and the figure
// to compare. "cpu-ns" is the edge's processor time; a server's is not in it.
func BenchmarkDecide(b *testing.B) {
	onFile := func(b *testing.B) store.Config { return store.Config{Path: filepath.Join(b.TempDir(), "edge.db")} }
	onServer := func(b *testing.B) store.Config { return onPostgres(b) }
	for _, bench := range []struct {
		name    string
		config  func(b *testing.B) store.Config
		callers int
	}{
		{"SQLite/alone", onFile, 1},
		{"SQLite/64 at a time", onFile, 64},
		{"PostgreSQL/alone", onServer, 1},
		{"PostgreSQL/64 at a time", onServer, 64},
		{"PostgreSQL/256 at a time", onServer, 256},
	} {
		b.Run(bench.name, func(b *testing.B) {
			dir := b.TempDir()
			before := syncCost(b, dir)
			db := openAs(b, bench.config(b))
			recorder := audit.NewRecorder(db.Audit(), audit.RecorderConfig{}, zap.NewNop())
			ctx, cancel := context.WithCancel(b.Context())
			var running sync.WaitGroup
			running.Go(func() { _ = recorder.Run(ctx) })
			b.ReportAllocs()
			b.ResetTimer()
			worked := processorTime(b)
			decideAll(b, recorder, bench.callers)
			b.ReportMetric(float64(processorTime(b)-worked)/float64(b.N), "cpu-ns/op")
			b.StopTimer()
			cancel()
			running.Wait()
			unit := (before + syncCost(b, dir)) / 2
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(unit), "×sync")
			b.ReportMetric(float64(unit), "sync-ns")
		})
	}
}

// processorTime is what this process has used, in the kernel too.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// decideAll shares b.N decisions among callers that each wait for their own.
func decideAll(b *testing.B, recorder *audit.Recorder, callers int) {
	d := audit.Decision{
		Tenant: "maple", Request: id.NewRequest(), Time: time.Now(), App: id.NewApp(), Site: "main",
		Principal: policy.Principal{Kind: policy.UserPrincipal, ID: string(id.NewUser()), Issuer: "sallyport"},
		Session:   id.NewSession(), Methods: []string{"otp"}, ClientIP: "192.0.2.7", Method: "GET", Host: "oscar.maple.example",
		Path: "/oscar/demographic/demographiccontrol.jsp", Effect: policy.Allow, Reason: "rule", Rule: "r1",
	}
	todo := make(chan struct{}, b.N)
	for range b.N {
		todo <- struct{}{}
	}
	close(todo)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range todo {
				sequence, err := recorder.Decide(b.Context(), d)
				if err != nil {
					b.Error(err)
					return
				}
				recorder.Conclude(audit.Outcome{Tenant: d.Tenant, Sequence: sequence, Status: 200})
			}
		})
	}
	wg.Wait()
}

// BenchmarkDecideTogether is edges that record decisions of the same 10,000 clinics on one PostgreSQL, 256 at a time each: batches that
// have a clinic in common wait for each other from its number to the commit.
func BenchmarkDecideTogether(b *testing.B) {
	for _, edges := range []int{1, 3} {
		b.Run(fmt.Sprintf("%d edges", edges), func(b *testing.B) {
			config := onPostgres(b)
			ctx, cancel := context.WithCancel(b.Context())
			var running, deciding sync.WaitGroup
			var recorders []*audit.Recorder
			for range edges {
				r := audit.NewRecorder(openAs(b, config).Audit(), audit.RecorderConfig{}, zap.NewNop())
				running.Go(func() { _ = r.Run(ctx) })
				recorders = append(recorders, r)
			}
			b.ResetTimer()
			var done atomic.Int64
			for i := range 256 * edges {
				deciding.Go(func() {
					r := recorders[i%edges]
					for done.Add(1) <= int64(b.N) {
						d := audit.Decision{
							Tenant: id.Tenant(fmt.Sprint("c", rand.N(10_000))), Request: id.NewRequest(), Time: time.Now(), App: "app_1", Site: "main",
							Principal: policy.Principal{Kind: policy.UserPrincipal, ID: "usr_lee", Issuer: "sallyport"}, Session: "ses_1",
							ClientIP: "192.0.2.7", Method: "GET", Host: "oscar.maple.example", Path: "/oscar/demographic.jsp", Effect: policy.Allow, Reason: "rule",
						}
						sequence, err := r.Decide(ctx, d)
						if err != nil {
							b.Error(err)
							return
						}
						r.Conclude(audit.Outcome{Tenant: d.Tenant, Sequence: sequence, Status: 200})
					}
				})
			}
			deciding.Wait()
			b.StopTimer()
			cancel()
			running.Wait()
		})
	}
}

// syncCost is the median time of appending a page to a file and syncing it.
func syncCost(b *testing.B, dir string) time.Duration {
	b.Helper()
	f, err := os.CreateTemp(dir, "sync")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	const n = 101
	times := make([]time.Duration, 0, n)
	for range n {
		start := time.Now()
		if _, err := f.Write(page); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return times[n/2]
}

// BenchmarkSessionByReference measures the look-up that every request of a browser makes.
func BenchmarkSessionByReference(b *testing.B) {
	db := open(b, filepath.Join(b.TempDir(), "edge.db"))
	ctx, now := b.Context(), time.Now()
	u := identity.User{Tenant: "maple", ID: id.NewUser(), Issuer: identity.LocalIssuer, Subject: "lee"}
	one := session.Session{
		Tenant: "maple", ID: id.NewSession(), User: u.ID, Created: now, LastSeen: now,
		Expires: now.Add(time.Hour), IdleFor: time.Hour,
	}
	const hash, host = "hash", "signin.maple.example"
	err := errors.Join(
		db.Tenants().CreateTenant(ctx, tenant.Tenant{ID: "maple", SignInHost: host}),
		db.Identity().CreateUser(ctx, u),
		db.Sessions().CreateSession(ctx, one, session.Reference{Tenant: "maple", Hash: hash, Session: one.ID, Host: host}))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := db.Sessions().SessionByReference(b.Context(), "maple", hash, host); err != nil {
			b.Fatal(err)
		}
	}
}
