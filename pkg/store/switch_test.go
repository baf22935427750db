package store_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// Two edges work on a primary with a synchronous standby. The standby hangs for a while, so that commits wait for it;
// then the primary crashes, and the standby is promoted. All works again within 10 s of that, and on the new primary is whatever was
// acknowledged; no code is spent twice. The former primary comes back as one that takes writes, as the first host of the URL: nothing is
// written there.
func TestThePrimaryIsSwitchedOver(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t)
	database := primary.Database(t)
	standby := primary.Standby(t, true)
	config := store.Config{PostgreSQL: store.PostgreSQL{URL: pgtest.Several(database, primary, standby)}}
	var mu sync.Mutex
	var histories []store.History
	config.WhenHistory = func(h store.History) {
		mu.Lock()
		defer mu.Unlock()
		histories = append(histories, h)
	}
	a := newAttempts(openAs(t, config), openAs(t, config))
	a.begin(t)
	var running sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	a.work(ctx, t, &running)
	a.await(t, "before")
	standby.Signal(t, syscall.SIGSTOP)
	<-time.After(500 * time.Millisecond)
	primary.Stop(t, "immediate")
	standby.Signal(t, syscall.SIGCONT)
	standby.Promote(t)
	t.Logf("all works again after %v", a.await(t, "after the promotion"))
	primary.Restart(t)
	primary.Alone(t)
	a.await(t, "beside the former primary")
	stop()
	running.Wait()
	mu.Lock()
	defer mu.Unlock()
	config.Seen, config.WhenHistory = histories[len(histories)-1], nil
	on := openAs(t, config)
	a.verify(t, on)
	if len(histories) != 4 || histories[0].Timeline != 1 || histories[len(histories)-1].Timeline != 2 || on.History() != histories[len(histories)-1] {
		t.Errorf("histories %v, and now %v", histories, on.History())
	}
}

// The standby hangs, so that a commit is only in the primary, where everybody sees it as soon as the wait for the standby is broken off.
// It is not acknowledged, because it would be lost with the primary; when the standby goes on it is there once.
func TestACommitThatTheStandbyDoesNotHave(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t)
	db := openAs(t, store.Config{PostgreSQL: store.PostgreSQL{URL: primary.Database(t)}})
	standby := primary.Standby(t, true)
	first := []audit.Decision{decided("maple", "/first")}
	if _, err := db.Audit().Append(t.Context(), first, nil); err != nil {
		t.Fatal(err)
	}
	standby.Signal(t, syscall.SIGSTOP)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	batch := []audit.Decision{decided("maple", "/only-there")}
	numbers, err := db.Audit().Append(ctx, batch, nil)
	var open interface{ Unsettled() string }
	if !errors.As(err, &open) {
		t.Fatalf("acknowledged as %v, %v", numbers, err)
	}
	standby.Signal(t, syscall.SIGCONT)
	if numbers, err = db.Merger().Took(t.Context(), open.Unsettled(), batch); err != nil || len(numbers) != 1 || numbers[0] != 2 {
		t.Errorf("what became of it: %v, %v", numbers, err)
	}
}

// Two servers that both take writes: a process goes on with the one whose history is later, whichever comes first in the URL, also when
// another edge says which that is; one that was left behind is refused with words.
func TestTwoPrimaries(t *testing.T) {
	t.Parallel()
	former := pgtest.Start(t)
	database := former.Database(t)
	straight := openAs(t, store.Config{PostgreSQL: store.PostgreSQL{URL: database}})
	standby := former.Standby(t, true)
	site := func(db *store.DB, name id.Site) error {
		return db.Tenants().CreateSite(t.Context(), tenant.Site{Tenant: "maple", ID: name, Created: time.Now()})
	}
	if err := straight.Tenants().CreateTenant(t.Context(), tenant.Tenant{ID: "maple", SignInHost: "s.example"}); err != nil {
		t.Fatal(err)
	}
	both := openAs(t, store.Config{PostgreSQL: store.PostgreSQL{URL: pgtest.Several(database, former, standby)}})
	if err := site(both, "one"); err != nil {
		t.Fatal(err)
	}
	first := both.History()
	former.Alone(t)
	standby.Promote(t)
	if err := site(both, "two"); err != nil { // nobody has said that there is another
		t.Fatal(err)
	}
	later := store.History{System: first.System, Timeline: first.Timeline + 1}
	if err := both.LeaveBehind(later); err != nil {
		t.Fatal(err)
	}
	if err := site(both, "three"); err != nil || both.History() != later {
		t.Errorf("on the later one: %v, %v", err, both.History())
	}
	for server, want := range map[*pgtest.Server]string{former: "one two", standby: "one three"} {
		got := strings.Join(server.Query(t, pgtest.Several(database, server), `SELECT id FROM sites ORDER BY created`), " ")
		if got != want {
			t.Errorf("written: %q, want %q", got, want)
		}
	}
	if err := both.LeaveBehind(first); err == nil {
		t.Error("an earlier history is taken for the present one")
	}
	// A process that starts later, and knows what was seen before.
	_, err := store.Open(t.Context(), store.Config{PostgreSQL: store.PostgreSQL{URL: database}, Seen: later}, sealer(t, 1))
	if err == nil || !strings.Contains(err.Error(), "make it a standby of the new one") {
		t.Errorf("the former primary is opened: %v", err)
	}
	_, err = store.Open(t.Context(), store.Config{PostgreSQL: store.PostgreSQL{URL: database}, Seen: store.History{System: "1", Timeline: 1}}, sealer(t, 1))
	if err == nil || !strings.Contains(err.Error(), "another PostgreSQL cluster") || !fault.Is(err, fault.Unavailable) {
		t.Errorf("another cluster is opened: %v", err)
	}
}
