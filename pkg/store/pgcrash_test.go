package store_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity/emailotp"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// stopEnv says for how long TestPostgreSQLFails has the server hang; 1.5s if unset.
const stopEnv = "SALLYPORT_STORE_STOP"

// recoverWithin bounds how long after the server is back everything works again.
const recoverWithin = 10 * time.Second

// attempts are what two edges do all the while, and what they were told.
type attempts struct {
	edges [2]*store.DB

	mu        sync.Mutex // guards what follows
	decisions map[int64]string
	spent     map[string]int
	issued    map[uint64]bool
	connector id.Connector
	// since counts what was acknowledged of each kind since it was last reset.
	since [3]atomic.Int64
}

// Two edges work on one PostgreSQL while it is killed, stopped in the middle of commits, and hangs. What was acknowledged is
// there, no code is spent twice, no number is given twice, and everything works within 10 s of the server's return.
func TestPostgreSQLFails(t *testing.T) {
	t.Parallel()
	hang := 1500 * time.Millisecond
	if s := os.Getenv(stopEnv); s != "" {
		var err error
		if hang, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	server := pgtest.Start(t)
	config := store.Config{PostgreSQL: store.PostgreSQL{URL: server.Database(t)}}
	a := newAttempts(openAs(t, config), openAs(t, config))
	a.begin(t)
	var running sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	a.work(ctx, t, &running)
	for _, failure := range []struct {
		name string
		fail func()
	}{
		{"kill -9", func() { server.Kill(t); server.Restart(t) }},
		{"immediate stop", func() { server.Stop(t, "immediate"); server.Restart(t) }},
		{"fast stop", func() { server.Stop(t, "fast"); server.Restart(t) }},
		{"hang", func() {
			server.Signal(t, syscall.SIGSTOP)
			<-time.After(hang)
			server.Signal(t, syscall.SIGCONT)
		}},
	} {
		a.await(t, "before "+failure.name)
		failure.fail()
		t.Logf("%s: all works again after %v", failure.name, a.await(t, "after "+failure.name))
	}
	stop()
	running.Wait()
	a.verify(t, openAs(t, config))
}

func newAttempts(one, other *store.DB) *attempts {
	return &attempts{
		edges: [2]*store.DB{one, other}, connector: "con_1",
		decisions: make(map[int64]string), spent: make(map[string]int), issued: make(map[uint64]bool),
	}
}

func (a *attempts) begin(t *testing.T) {
	db := a.edges[0]
	if err := db.Tenants().CreateTenant(t.Context(), tenant.Tenant{ID: "maple", SignInHost: "s.example"}); err != nil {
		t.Fatal(err)
	}
	if err := db.Tenants().CreateSite(t.Context(), tenant.Site{Tenant: "maple", ID: "main"}); err != nil {
		t.Fatal(err)
	}
	if err := enrolled(t, db, a.connector); err != nil {
		t.Fatal(err)
	}
}

// work has each edge record decisions, issue generations, and go for codes that the other goes for too.
func (a *attempts) work(ctx context.Context, t *testing.T, running *sync.WaitGroup) {
	codes := make(chan string)
	for e, db := range a.edges {
		recorder := audit.NewRecorder(db.Audit(), audit.RecorderConfig{DecideLimit: 2 * time.Second}, zap.NewNop())
		running.Go(func() { _ = recorder.Run(ctx) })
		for w := range 4 {
			running.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					path := fmt.Sprintf("/%d/%d/%d", e, w, n)
					sequence, err := recorder.Decide(ctx, audit.Decision{Tenant: "maple", Path: path})
					a.told(t, 0, err, func() bool {
						_, twice := a.decisions[sequence]
						a.decisions[sequence] = path
						return !twice
					})
				}
			})
		}
		running.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				run, err := db.Enroll().JoinRun(ctx, a.connector, fmt.Sprintf("process %d/%d", e, n), math.MaxUint64)
				a.told(t, 1, err, func() bool {
					twice := a.issued[run.Generation]
					a.issued[run.Generation] = true
					return !twice
				})
			}
		})
		for range 2 {
			running.Go(func() {
				for code := range codes {
					spent, err := db.Codes().SpendCode(ctx, "maple", code)
					if err == nil && !spent {
						continue
					}
					a.told(t, 2, err, func() bool {
						a.spent[code]++
						return a.spent[code] == 1
					})
				}
			})
		}
	}
	running.Go(func() {
		defer close(codes)
		for n := 0; ctx.Err() == nil; n++ {
			code := emailotp.Code{Tenant: "maple", ID: fmt.Sprint(n), Expires: time.Now().Add(time.Hour)}
			if a.edges[0].Codes().PutCode(ctx, code) != nil {
				continue
			}
			for range 4 { // so that both edges go for it
				select {
				case codes <- code.ID:
				case <-ctx.Done():
				}
			}
		}
	})
}

// told notes what was acknowledged; note reports whether it may be.
func (a *attempts) told(t *testing.T, kind int, err error, note func() bool) {
	if err != nil {
		if !fault.Is(err, fault.Unavailable) && !errors.Is(err, context.Canceled) {
			t.Errorf("kind %d is refused without a word for the operator: %v", kind, err)
		}
		<-time.After(5 * time.Millisecond) // a server that is away costs no processor
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !note() {
		t.Errorf("kind %d was given twice", kind)
	}
	a.since[kind].Add(1)
}

// await returns how long it took until a few of each kind were acknowledged.
func (a *attempts) await(t *testing.T, when string) time.Duration {
	t.Helper()
	start := time.Now()
	for i := range a.since {
		a.since[i].Store(0)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if a.since[0].Load() >= 8 && a.since[1].Load() >= 4 && a.since[2].Load() >= 2 {
			return time.Since(start)
		}
		if time.Since(start) > recoverWithin {
			t.Fatalf("%s: after %v: %d decisions, %d generations, %d codes", when, recoverWithin,
				a.since[0].Load(), a.since[1].Load(), a.since[2].Load())
		}
	}
	return 0
}

func (a *attempts) verify(t *testing.T, db *store.DB) {
	t.Helper()
	paths := allPaths(t, db) // fails on a gap
	where := make(map[string]int64, len(paths))
	for i, path := range paths {
		if before, twice := where[path]; twice {
			t.Errorf("%s is on record as %d and %d", path, before, i+1)
		}
		where[path] = int64(i + 1)
	}
	for sequence, path := range a.decisions {
		if where[path] != sequence {
			t.Errorf("decision %d (%s) was acknowledged and is not there", sequence, path)
		}
	}
	if err := db.Check(t.Context()); err != nil {
		t.Error(err)
	}
	t.Logf("%d decisions, %d generations, %d codes were acknowledged; %d decisions are on record", len(a.decisions), len(a.issued), len(a.spent), len(paths))
}

// enrolled enrols a connector.
func enrolled(t *testing.T, db *store.DB, c id.Connector) error {
	t.Helper()
	now := time.Now()
	if err := db.Enroll().CreateInvite(t.Context(), inviteOf(string(c), now)); err != nil {
		return err
	}
	_, err := db.Enroll().Enroll(t.Context(), string(c), make([]byte, 32), c, now)
	return err
}
