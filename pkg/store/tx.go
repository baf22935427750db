package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/change"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

// tx is one write transaction.
type tx struct {
	*sql.Tx
	db     *DB
	conn   *sql.Conn // the one that the transaction is on
	logged bool
	wrote  []change.Change // what was logged
}

// update runs f in a transaction that is on the disk when update returns nil, and that meets the rows of one tenant alone
// (or of everyTenant). ctx bounds the wait for the writer's turn. Then the work is a few statements, and cutting it off would
// leave the caller not knowing whether it was done: f gets a context that does not end with the caller's.
//
// f may run more than once: where writers do not wait for each other, one may have to begin again. It must set what it
// hands out anew each time, and have no other effect.
func (db *DB) update(ctx context.Context, of id.Tenant, f func(ctx context.Context, tx *tx) error) error {
	for attempt := 0; ; attempt++ {
		wrote, err := db.updateOnce(ctx, of, f)
		if err == nil {
			db.tell(wrote)
			return nil
		}
		if !db.engine.again(ctx, attempt, err) {
			return explain(err)
		}
	}
}

// tell says in this process what was committed.
func (db *DB) tell(wrote []change.Change) {
	if len(wrote) == 0 {
		return
	}
	if notify := db.changed.Load(); notify != nil {
		(*notify)()
	}
	if committed := db.committed.Load(); committed != nil {
		(*committed)(wrote)
	}
}

func (db *DB) updateOnce(ctx context.Context, of id.Tenant, f func(ctx context.Context, tx *tx) error) (wrote []change.Change, err error) {
	conn, err := db.writer.Conn(ctx)
	if err != nil {
		return nil, waiting(ctx, err)
	}
	bounded, done := db.engine.writing(context.WithoutCancel(ctx), of)
	defer done()
	t, err := db.transact(bounded, conn, f)
	// The connection is free before followers look.
	if closing := conn.Close(); err == nil {
		err = closing
	}
	if err != nil {
		// After a commit that was not answered it may be done all the same.
		err = db.engine.settle(bounded, err)
	}
	if err != nil || t == nil {
		return nil, err
	}
	return t.wrote, nil
}

func (db *DB) transact(ctx context.Context, conn *sql.Conn, f func(ctx context.Context, tx *tx) error) (*tx, error) {
	// The engine bounds commit and rollback itself; a context that can end would have database/sql roll back beside us.
	begun, err := conn.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return nil, err
	}
	t := &tx{Tx: begun, db: db, conn: conn}
	if err = f(ctx, t); err == nil && t.logged {
		err = db.engine.announce(ctx, t)
	}
	if err != nil {
		// A full disk may have ended the transaction already; the first error is the one that tells.
		_ = begun.Rollback()
		return nil, err
	}
	return t, begun.Commit()
}

// waiting words what ended the wait for a connection.
func waiting(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fault.New(fault.Unavailable, "the edge's store is busy").Because(err)
	}
	return err
}

// each runs one statement for every set of arguments.
func (t *tx) each(ctx context.Context, text string, all [][]any) error {
	return t.askEach(ctx, text, all, nil)
}

// askEach runs one statement for every set of arguments and has the row that the i-th brings scanned.
func (t *tx) askEach(ctx context.Context, text string, all [][]any, scan func(i int, r row) error) error {
	if len(all) == 0 {
		return nil
	}
	return t.db.engine.each(ctx, t, text, all, scan)
}

// keepChanges is how many changes stay in the log, at least; pruneEvery spares most writes the pruning.
const keepChanges, pruneEvery = 100_000, 1_000

// log appends to the change log, within the transaction of the change itself. It comes last in a transaction: from here on
// every other one that logs waits for this one's end.
func (t *tx) log(ctx context.Context, tenant id.Tenant, kind change.Kind, ref string) error {
	var version int64
	err := t.QueryRowContext(ctx, `UPDATE change_head SET version = version + 1 WHERE id = 1 RETURNING version`).Scan(&version)
	if err != nil {
		return err
	}
	_, err = t.ExecContext(ctx, `INSERT INTO changes (version, tenant, kind, ref) VALUES ($1, $2, $3, $4)`,
		version, tenant, kind, ref)
	if err != nil {
		return err
	}
	t.logged = true
	t.wrote = append(t.wrote, change.Change{Version: version, Tenant: tenant, Kind: kind, ID: ref})
	if version%pruneEvery == 0 {
		_, err = t.ExecContext(ctx, `DELETE FROM changes WHERE version <= $1`, version-keepChanges)
	}
	return err
}

// affected runs a conditional write and returns how many rows it met.
func (t *tx) affected(ctx context.Context, query string, args ...any) (int64, error) {
	result, err := t.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// millis is how times are kept; the zero time is 0.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func moment(millis int64) time.Time {
	if millis == 0 {
		return time.Time{}
	}
	return time.UnixMilli(millis).UTC()
}
