// Package store owns what the edge keeps: every Store of the domain on one SQLite file, its schema, and what lies sealed in
// it. The SQL is written so that PostgreSQL runs the same text. It decides nothing about who may do what, and no package
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
	// Lock is the lock on Path as another process of this edge handed it over, which is about to end; nil takes it anew.
	// Both hold it then, nobody else can, and the schema is brought up to date only where that process can go on with it.
	Lock *os.File
	// Now is the clock, for what the store stamps by itself; nil means time.Now.
	Now func() time.Time
}

// DB is an open store. It is safe for concurrent use. A write is on the disk when its method returns; a write whose
// context ends while it waits for its turn does nothing, and one that has begun is finished.
type DB struct {
	// One writer: SQLite has one at a time, and waiting in Go is fair and can be cancelled. Readers see the last commit
	// and never wait for it.
	writer *sql.DB
	reader *sql.DB

	sealer *secret.Sealer
	now    func() time.Time
	hot    statements

	generations *generations
	changed     atomic.Pointer[func()]
	lock        *os.File
}

// Open opens the store, locks it for this process and brings its schema up to date. It refuses, with words for the
// operator: a store that another process has open, one that others may read, one of a newer version, and one that was
// sealed under another master.key.
func Open(ctx context.Context, cfg Config, sealer *secret.Sealer) (*DB, error) {
	lock, err := cfg.Lock, error(nil)
	if lock == nil {
		lock, err = lockFile(cfg.Path + ".lock")
	}
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", cfg.Path, err)
	}
	db := &DB{sealer: sealer, now: cfg.Now, lock: lock, generations: newGenerations()}
	if db.now == nil {
		db.now = time.Now
	}
	if err := db.open(ctx, cfg.Path, cfg.Lock != nil); err != nil {
		return nil, errors.Join(fmt.Errorf("store %s: %w", cfg.Path, err), db.Close())
	}
	return db, nil
}

func (db *DB) open(ctx context.Context, path string, beside bool) (err error) {
	if err := preparePrivate(path); err != nil {
		return err
	}
	if db.writer, err = openWriter(path); err != nil {
		return err
	}
	if err := migrate(ctx, db.writer, beside); err != nil {
		return err
	}
	if err := db.checkMaster(ctx); err != nil {
		return err
	}
	if db.reader, err = openReader(path); err != nil {
		return err
	}
	return db.hot.prepare(ctx, db.writer, db.reader)
}

// closeLimit bounds how long Close waits for a write that is under way.
const closeLimit = 5 * time.Second

// Close lets a write that is under way end, writes the log back into the file and lets go of both.
func (db *DB) Close() error {
	var faults []error
	db.hot.close()
	// The writer goes last: whoever closes last writes the log back, and a reader may not.
	if db.reader != nil {
		faults = append(faults, db.reader.Close())
	}
	if db.writer != nil {
		faults = append(faults, db.closeWriter())
	}
	return errors.Join(append(faults, db.lock.Close())...)
}

// closeWriter waits for the writer's turn, and lets nobody have it after.
func (db *DB) closeWriter() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	turn, err := db.writer.Conn(ctx)
	faults := []error{db.writer.Close()}
	if err == nil {
		faults = append(faults, turn.Close())
	}
	return errors.Join(faults...)
}

// Check reads the whole file and returns an error for any damage; it takes time in proportion to the store's size.
func (db *DB) Check(ctx context.Context) error {
	var verdict string
	if err := db.reader.QueryRowContext(ctx, `PRAGMA integrity_check`).Scan(&verdict); err != nil {
		return fmt.Errorf("integrity check: %w", explain(err))
	}
	if verdict != "ok" {
		return fmt.Errorf("integrity check: %s", verdict)
	}
	return nil
}

// Lock is what keeps other processes out; a successor gets a copy of it. It is closed with the DB.
func (db *DB) Lock() *os.File { return db.lock }

// WhenChanged has f called after each commit that added to the change log, so that a follower in the same process need
// not wait for its next look. f must return at once.
func (db *DB) WhenChanged(f func()) { db.changed.Store(&f) }

// The stores of the domain, each a view of the same DB.

func (db *DB) Tenants() tenant.Store        { return tenants{db} }
func (db *DB) Identity() identity.Store     { return users{db} }
func (db *DB) Sessions() session.Store      { return sessions{db} }
func (db *DB) Keys() token.KeyStore         { return keys{db} }
func (db *DB) Services() token.ServiceStore { return services{db} }
func (db *DB) Audit() audit.Store           { return records{db} }
func (db *DB) Enroll() enroll.Store         { return enrolment{db} }
func (db *DB) Codes() emailotp.Store        { return codes{db} }
func (db *DB) Ingress() tenant.IngressStore { return ingressRules{db} }
func (db *DB) Changes() change.Log          { return changes{db} }

var (
	_ tenant.Store       = tenants{}
	_ identity.Store     = users{}
	_ session.Store      = sessions{}
	_ token.KeyStore     = keys{}
	_ token.ServiceStore = services{}
	_ audit.Store        = records{}
	_ enroll.Store       = enrolment{}
	_ emailotp.Store     = codes{}
	_ change.Log         = changes{}
)
