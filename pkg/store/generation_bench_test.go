package store

import (
	"fmt"
	"math"
	"sync"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// BenchmarkGenerationsAtOnce is 256 connectors that ask at the same time.
func BenchmarkGenerationsAtOnce(b *testing.B) {
	db := opened(b)
	run(b, db, `PRAGMA foreign_keys = 0`)
	const many = 256
	for i := range many {
		run(b, db, `INSERT INTO connectors (tenant, id, site, public_key, created, revoked, frozen, generation)
			VALUES ('maple', $1, 'main', '', 0, 0, '', 0)`, fmt.Sprint(i))
	}
	for process := 0; b.Loop(); process++ {
		var all sync.WaitGroup
		for i := range many {
			all.Go(func() {
				if _, err := db.Enroll().JoinRun(b.Context(), id.Connector(fmt.Sprint(i)), fmt.Sprint(process), math.MaxUint64); err != nil {
					b.Error(err)
				}
			})
		}
		all.Wait()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/many, "µs/connector")
}
