package store

import (
	"fmt"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/cluster"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

// BenchmarkHeartbeat is one edge with 1,000 connectors: a heartbeat and the reading of all edges while nothing changes, and when
// 10 connectors came or went; all is the first heartbeat of a process.
func BenchmarkHeartbeat(b *testing.B) {
	for _, c := range []struct {
		name    string
		changed int
		all     bool
	}{{"quiet", 0, false}, {"10 changed", 10, false}, {"all", 1000, true}} {
		b.Run(c.name, func(b *testing.B) {
			db := opened(b)
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
			beat.Changed, beat.All = beat.Changed[:c.changed], c.all
			have := map[id.Edge]cluster.Mark{"one": {Incarnation: incarnation, Version: 1}}
			for b.Loop() {
				if c.changed > 0 {
					beat.Version++
				}
				if err := db.Cluster().Beat(b.Context(), beat); err != nil {
					b.Fatal(err)
				}
				if _, err := db.Cluster().View(b.Context(), have); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
