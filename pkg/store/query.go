package store

import (
	"context"
	"database/sql"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// everyTenant stands in place of a tenant where a statement is meant to meet the rows of all: what is looked up before the
// tenant is known (a host, a code's hash, a connector's id), and what belongs to the edges themselves. PostgreSQL hides
// every other tenant's rows from a statement that names one (row security), whatever its text says.
const everyTenant id.Tenant = "*"

// orEvery is for lists that are of all tenants when none is named.
func orEvery(of id.Tenant) id.Tenant {
	if of == "" {
		return everyTenant
	}
	return of
}

// answer is what a query brought. It must be read by Scan or list, once: both let go of the connection.
type answer struct {
	rows *sql.Rows
	err  error
	done context.CancelFunc
}

// ask queries what was committed last, as far as it is of one tenant (or everyTenant).
func (db *DB) ask(ctx context.Context, of id.Tenant, text string, args ...any) answer {
	bounded, done := db.engine.reading(ctx, of)
	for attempt := 0; ; attempt++ {
		rows, err := db.query(bounded, text, args)
		if err == nil {
			return answer{rows: rows, done: done}
		}
		if !db.engine.again(ctx, attempt, err) {
			done()
			return answer{err: err}
		}
	}
}

func (db *DB) query(ctx context.Context, text string, args []any) (*sql.Rows, error) {
	if stmt := db.hot[text]; stmt != nil {
		return stmt.QueryContext(ctx, args...)
	}
	return db.reader.QueryContext(ctx, text, args...)
}

// Scan reads the first row; sql.ErrNoRows if there is none.
func (a answer) Scan(dest ...any) error {
	if a.err != nil {
		return a.err
	}
	defer a.close()
	if !a.rows.Next() {
		if err := a.rows.Err(); err != nil {
			return err
		}
		return sql.ErrNoRows
	}
	if err := a.rows.Scan(dest...); err != nil {
		return err
	}
	return a.rows.Close()
}

func (a answer) close() {
	_ = a.rows.Close() // what went wrong with them, rows.Err says
	a.done()
}

// list reads every row.
func list[T any](a answer, scan func(row) (T, error)) ([]T, error) {
	if a.err != nil {
		return nil, explain(a.err)
	}
	defer a.done()
	return collect(a.rows, nil, scan)
}

// row is what answer, *sql.Row and *sql.Rows share.
type row interface{ Scan(dest ...any) error }

// collect reads every row of a query within a transaction.
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
