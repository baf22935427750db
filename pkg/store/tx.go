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
	logged bool
}

// update runs f in a transaction that is on the disk when update returns nil. ctx bounds the wait for the writer's turn.
// Then the work is a few statements, and cutting it off would leave the caller not knowing whether it was done: f gets a
// context that does not end.
func (db *DB) update(ctx context.Context, f func(ctx context.Context, tx *tx) error) error {
	conn, err := db.writer.Conn(ctx)
	if err != nil {
		return waiting(ctx, err)
	}
	t, err := transact(context.WithoutCancel(ctx), conn, f)
	// The connection is free before followers look.
	if closing := conn.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return explain(err)
	}
	if notify := db.changed.Load(); t.logged && notify != nil {
		(*notify)()
	}
	return nil
}

func transact(ctx context.Context, conn *sql.Conn, f func(ctx context.Context, tx *tx) error) (*tx, error) {
	begun, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	t := &tx{Tx: begun}
	if err := f(ctx, t); err != nil {
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
	return explain(err)
}

// keepChanges is how many changes stay in the log, at least; pruneEvery spares most writes the pruning.
const keepChanges, pruneEvery = 100_000, 1_000

// log appends to the change log, within the transaction of the change itself.
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

// row is what *sql.Row and *sql.Rows share.
type row interface{ Scan(dest ...any) error }

// collect reads every row of a query.
func collect[T any](rows *sql.Rows, err error, scan func(row) (T, error)) ([]T, error) {
	if err != nil {
		return nil, explain(err)
	}
	defer func() { _ = rows.Close() }() // what went wrong with them, rows.Err says
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, explain(err)
		}
		all = append(all, one)
	}
	return all, explain(rows.Err())
}

// statements are the queries of every request, prepared once.
type statements struct {
	sessionByReference *sql.Stmt
	session            *sql.Stmt
	serviceToken       *sql.Stmt
	advance            *sql.Stmt
	decision           *sql.Stmt
	outcome            *sql.Stmt
}

func (s *statements) prepare(ctx context.Context, writer, reader *sql.DB) error {
	for _, p := range []struct {
		to   **sql.Stmt
		pool *sql.DB
		text string
	}{
		{&s.sessionByReference, reader, selectSessionByReference},
		{&s.session, reader, selectSession},
		{&s.serviceToken, reader, selectServiceToken},
		{&s.advance, writer, advanceSequence},
		{&s.decision, writer, insertDecision},
		{&s.outcome, writer, insertOutcome},
	} {
		stmt, err := p.pool.PrepareContext(ctx, p.text)
		if err != nil {
			return explain(err)
		}
		*p.to = stmt
	}
	return nil
}

func (s *statements) close() {
	for _, stmt := range []*sql.Stmt{s.sessionByReference, s.session, s.serviceToken, s.advance, s.decision, s.outcome} {
		if stmt != nil {
			_ = stmt.Close()
		}
	}
}
