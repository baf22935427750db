// Package store owns what the edge keeps: every Store of the domain on one SQLite file, for one edge, or on PostgreSQL, for
// many; its schema, and what lies sealed in it. Both databases run the same SQL. It decides nothing about who may do what, and no package
// above sees a table.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/cluster"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/identity/emailotp"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
	"github.com/sallyport-dev/sallyport/pkg/token"
)

// Config says where the store is.
type Config struct {
	// Path is the SQLite file. It is made (mode 0600) if it is not there; its directory must exist. Path + ".lock" beside
	// it keeps a second process out.
	Path string
	// PostgreSQL is the database that many edges share, in place of Path; empty for SQLite.
	PostgreSQL PostgreSQL
	// Seen is the latest history of the database that any edge is known to have worked on: a server with an earlier one is refused. Zero:
	// none. WhenHistory is told of each that is new, before anything is read or written there; it must return at once.
	Seen        History
	WhenHistory func(History)
	// Lock is the lock on Path as another process of this edge handed it over, which is about to end; nil takes it anew.
	// Both hold it then, nobody else can, and the schema is brought up to date only where that process can go on with it.
	// PostgreSQL has none: its schema is always brought up to date beside others.
	Lock *os.File
	// Now is the clock, for what the store stamps by itself; nil means time.Now.
	Now func() time.Time

	use use
}

// use is what a store is opened for.
type use int

const (
	asStore  use = iota
	asSource     // of a move: nothing is changed, the schema neither
	asTarget     // of a move: one that is not finished is no hindrance
)

// DB is an open store. It is safe for concurrent use. A write is on the disk when its method returns; a write whose
// context ends while it waits for its turn does nothing, and one that has begun is finished.
type DB struct {
	use    use
	engine engine
	// Of SQLite one writer: it has one at a time, and waiting in Go is fair and can be cancelled. Readers see the last commit
	// and never wait for it. Of PostgreSQL both are pools, so that writers who wait for each other hold up no reader.
	writer *sql.DB
	reader *sql.DB
	hot    map[string]*sql.Stmt // statements of every request by their text, where preparing them here helps

	sealer *secret.Sealer
	now    func() time.Time

	generations *joint[issue]
	touches     *joint[touch]
	changed     atomic.Pointer[func()]
	committed   atomic.Pointer[func([]change.Change)]
	lock        *os.File // nil on PostgreSQL
	lineage     lineage  // of PostgreSQL
}

// Open opens the store and brings its schema up to date. It refuses, with words for the operator: a SQLite file that another
// process has open or that others may read, a database in which acknowledged writes or the tenants' separation are not safe,
// one of a newer version that this program cannot work with, and one that was sealed under another master.key.
func Open(ctx context.Context, cfg Config, sealer *secret.Sealer) (*DB, error) {
	db := &DB{use: cfg.use, sealer: sealer, now: cfg.Now, generations: newJoint(issueAll), touches: newJoint(touchAll)}
	if db.now == nil {
		db.now = time.Now
	}
	var err error
	where := cfg.Path
	db.lineage.seen, db.lineage.when = cfg.Seen, cfg.WhenHistory
	if cfg.PostgreSQL.URL != "" {
		where = cfg.PostgreSQL.String()
		err = db.openPostgres(ctx, cfg.PostgreSQL)
	} else {
		err = db.openSQLite(ctx, cfg.Path, cfg.Lock)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store %s: %w", where, err), db.Close())
	}
	return db, nil
}

// closeLimit bounds how long Close waits for a write that is under way.
const closeLimit = 5 * time.Second

// Close lets a write that is under way end and lets go of the database; SQLite's log is written back into its file.
func (db *DB) Close() error {
	for _, stmt := range db.hot {
		_ = stmt.Close()
	}
	var faults []error
	if db.engine != nil {
		faults = append(faults, db.engine.close(db.writer, db.reader))
	}
	if db.lock != nil {
		faults = append(faults, db.lock.Close())
	}
	return errors.Join(faults...)
}

// closeWriter waits for the writer's turn, and lets nobody have it after.
func closeWriter(writer *sql.DB) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	turn, err := writer.Conn(ctx)
	faults := []error{writer.Close()}
	if err == nil {
		faults = append(faults, turn.Close())
	}
	return errors.Join(faults...)
}

// Check reads the whole store and returns an error for any damage; it takes time in proportion to the store's size.
func (db *DB) Check(ctx context.Context) error {
	if err := db.engine.check(ctx); err != nil {
		return fmt.Errorf("integrity check: %w", explain(err))
	}
	return nil
}

// Shared reports whether other edges may have the store open too.
func (db *DB) Shared() bool { return db.lock == nil }

// Listen calls heard whenever another edge may have added to the change log, until ctx ends; it then returns nil. It is a
// hint that saves waiting for the next look: some may be missed. heard must return at once. On SQLite there is nobody to hear.
func (db *DB) Listen(ctx context.Context, heard func()) error {
	db.engine.listen(ctx, heard)
	return nil
}

// Lock is what keeps other processes out; a successor gets a copy of it. It is closed with the DB. nil on PostgreSQL.
func (db *DB) Lock() *os.File { return db.lock }

// WhenChanged has f called after each commit that added to the change log, so that a follower in the same process need
// not wait for its next look. f must return at once.
func (db *DB) WhenChanged(f func()) { db.changed.Store(&f) }

// WhenCommitted has f called after each commit that added to the change log, with what was added. f must return at once.
func (db *DB) WhenCommitted(f func(changes []change.Change)) { db.committed.Store(&f) }

// The stores of the domain, each a view of the same DB.

func (db *DB) Tenants() tenant.Store        { return tenants{db} }
func (db *DB) Identity() identity.Store     { return users{db} }
func (db *DB) Sessions() session.Store      { return sessions{db} }
func (db *DB) Keys() token.KeyStore         { return keys{db} }
func (db *DB) Services() token.ServiceStore { return services{db} }
func (db *DB) Audit() audit.Store           { return records{db} }
func (db *DB) Merger() audit.Merger         { return records{db} }
func (db *DB) Enroll() enroll.Store         { return enrolment{db} }
func (db *DB) Codes() emailotp.Store        { return codes{db} }
func (db *DB) Ingress() tenant.IngressStore { return ingressRules{db} }
func (db *DB) Changes() change.Log          { return changes{db} }
func (db *DB) Cluster() cluster.Store       { return edges{db} }

// Authority is the authority that the edges of a cluster know each other by.
func (db *DB) Authority() cluster.AuthorityStore { return authorities{db} }

var (
	_ tenant.Store       = tenants{}
	_ identity.Store     = users{}
	_ session.Store      = sessions{}
	_ token.KeyStore     = keys{}
	_ token.ServiceStore = services{}
	_ audit.Store        = records{}
	_ audit.Merger       = records{}
	_ enroll.Store       = enrolment{}
	_ emailotp.Store     = codes{}
	_ change.Log         = changes{}
	_ cluster.Store      = edges{}
)
