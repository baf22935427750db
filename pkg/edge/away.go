package edge

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-dev/sallyport/pkg/access"
	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

// While the database of a cluster is away, an edge goes on with what it has (cluster/DESIGN.md has the table): whoever it knew goes
// on for cluster.grace, their decisions are recorded in a spool on its own disk, and whatever would need the database says so.

// log is what says how old copies of the store may be. An edge that has its store to itself asks the store.
func (e *Edge) log() access.Log {
	if !e.store.Shared() {
		return nil
	}
	return e.follower
}

// away reports whether the database that edges share is known not to answer.
func (e *Edge) away() bool {
	if !e.store.Shared() {
		return false
	}
	_, failing := e.follower.Silence()
	return failing
}

// storeAway is worth an alarm: it tells of the database whether or not anybody asks for anything.
func (e *Edge) storeAway() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sallyport_store_away", Help: "1 while the database that edges share does not answer this edge.",
	}, func() float64 {
		if e.away() {
			return 1
		}
		return 0
	})
}

// standsIn reports whether the database is away, and what was known before may stand in for it.
func (e *Edge) standsIn() bool {
	if !e.store.Shared() {
		return false
	}
	since, failing := e.follower.Silence()
	return failing && since <= e.config.Cluster.Grace
}

// forget drops what is remembered of connectors that have changed.
func (e *Edge) forget(_ context.Context, changes []change.Change) error {
	for _, c := range changes {
		if c.IsAnything() {
			e.enrolled.ForgetAll()
			continue
		}
		e.enrolled.Forget(id.Connector(c.ID))
	}
	return nil
}

// mergeSpool moves what was recorded on this edge's own disk to the database until ctx ends.
func (e *Edge) mergeSpool(ctx context.Context) error {
	if e.standby == nil {
		<-ctx.Done()
		return nil
	}
	return e.standby.Run(ctx)
}
