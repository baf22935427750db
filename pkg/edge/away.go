package edge

import "github.com/sallyport-dev/sallyport/pkg/access"

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
