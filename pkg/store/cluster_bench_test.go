package store

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/cluster"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/store/pgtest"
)

// BenchmarkHeartbeat is one edge with 1,000 connectors: a heartbeat and the reading of all edges while nothing changes, and when
// 10 connectors came or went; all is the first heartbeat of a process.
func BenchmarkHeartbeat(b *testing.B) {
	for _, c := range []struct {
		name    string
		changed int
		all     bool
	}{{"quiet", 0, false}, {"10 changed", 10, false}, {"all", 1000, true}} {
		for database, open := range map[string]func(testing.TB) *DB{"SQLite": opened, "PostgreSQL": openedPostgres} {
			b.Run(c.name+" on "+database, func(b *testing.B) { beats(b, open(b), c.changed, c.all) })
		}
	}
}

func openedPostgres(t testing.TB) *DB {
	t.Helper()
	sealer, err := secret.NewSealer(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	db, err := Open(t.Context(), Config{PostgreSQL: PostgreSQL{URL: pgtest.Database(t)}}, sealer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func beats(b *testing.B, db *DB, changed int, all bool) {
	b.Helper()
	incarnation, err := db.Cluster().Enter(b.Context(), cluster.Peer{ID: "one"})
	if err != nil {
		b.Fatal(err)
	}
	beat := cluster.Beat{Edge: "one", Incarnation: incarnation, Version: 1, All: true}
	for i := range 1000 {
		beat.Changed = append(beat.Changed, cluster.Holding{Tenant: "maple", Site: "main", Connector: id.Connector(fmt.Sprint("con_", i)), Generation: 1, Links: 2})
	}
	if err := db.Cluster().Beat(b.Context(), beat); err != nil {
		b.Fatal(err)
	}
	beat.Changed, beat.All = beat.Changed[:changed], all
	have := map[id.Edge]cluster.Mark{"one": {Incarnation: incarnation, Version: 1}}
	for b.Loop() {
		if changed > 0 {
			beat.Version++
			have["one"] = cluster.Mark{Incarnation: incarnation, Version: beat.Version} // an edge knows its own
		}
		if err := db.Cluster().Beat(b.Context(), beat); err != nil {
			b.Fatal(err)
		}
		if _, err := db.Cluster().View(b.Context(), have); err != nil {
			b.Fatal(err)
		}
	}
}
