package store_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// Edges that start at the same time on an empty database make one schema, and open it with one master.key.
func TestEdgesStartTogetherOnPostgreSQL(t *testing.T) {
	t.Parallel()
	config := onPostgres(t)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			db, err := store.Open(t.Context(), config, sealer(t, 1))
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = db.Close() }()
			if !db.Shared() || db.Lock() != nil {
				t.Error("a store that edges share keeps them out")
			}
			if err := db.Check(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if _, err := store.Open(t.Context(), config, sealer(t, 2)); err == nil || !strings.Contains(err.Error(), "another master.key") {
		t.Errorf("opened with another key: %v", err)
	}
}

// A commit of one edge is heard on another.
func TestListen(t *testing.T) {
	t.Parallel()
	config := onPostgres(t)
	here, there := openAs(t, config), openAs(t, config)
	heard := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- there.Listen(ctx, func() {
			select {
			case heard <- struct{}{}:
			default:
			}
		})
	}()
	wait := func(what string) {
		t.Helper()
		select {
		case <-heard:
		case <-time.After(10 * time.Second):
			t.Fatal("not heard: " + what)
		}
	}
	wait("that it listens")
	if err := here.Tenants().CreateTenant(ctx, tenant.Tenant{ID: "maple", SignInHost: "s.example"}); err != nil {
		t.Fatal(err)
	}
	wait("a change")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What is not safe, or not there, is refused in words for the operator, without the password.
func TestPostgreSQLIsRefused(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	for name, c := range map[string]struct {
		url, want string
	}{
		"superuser":   {strings.Replace(url, "user=sallyport", "user=postgres", 1), "keep tenants apart"},
		"no database": {strings.Replace(url, "postgres:///test", "postgres:///none", 1), "no such database"},
		"no role":     {strings.Replace(url, "user=sallyport", "user=nobody&password=hush", 1), "refuses the edge's name"},
		"no server":   {"postgres://sallyport:hush@/test?host=" + t.TempDir(), "cannot be reached"},
		"fsync off":   {url + "&options=-csynchronous_commit%3Doff", "would lose what was acknowledged"},
		"no URL":      {"postgres://%zz:hush@", "want postgres://"},
	} {
		_, err := store.Open(t.Context(), store.Config{PostgreSQL: store.PostgreSQL{URL: c.url}}, sealer(t, 1))
		if err == nil {
			t.Errorf("%s: opened", name)
			continue
		}
		if said := err.Error() + fault.Public(err); !strings.Contains(said, c.want) || strings.Contains(said, "hush") {
			t.Errorf("%s: %s\nwant %q and no password", name, said, c.want)
		}
	}
}
