package store

import (
	"context"
	"database/sql"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// engine is what differs between the databases under a DB. The SQL does not.
type engine interface {
	// reading and writing bound what a caller does, in time and in whose rows it meets.
	reading(ctx context.Context, of id.Tenant) (context.Context, context.CancelFunc)
	writing(ctx context.Context, of id.Tenant) (context.Context, context.CancelFunc)
	// again reports whether what failed with err for the attempt-th time (from 0) had no effect and is worth another try; it
	// waits as long as the try should. It is false once ctx has ended.
	again(ctx context.Context, attempt int, err error) bool
	// settle finds out what became of a transaction whose commit failed with err: nil if it is done.
	settle(ctx context.Context, err error) error
	// announce tells other processes of a transaction that logged a change, when it is committed.
	announce(ctx context.Context, t *tx) error
	// each runs one statement for every set of arguments; with scan, each brings one row.
	each(ctx context.Context, t *tx, text string, all [][]any, scan func(i int, r row) error) error
	// clock is the expression for the time by the database's clock, milliseconds since 1970; empty where the edge's own will do.
	clock() string
	// listen calls heard whenever another process may have logged a change, until ctx ends.
	listen(ctx context.Context, heard func())
	// tidy purges what the engine keeps for itself.
	tidy(ctx context.Context, purge func(ctx context.Context, query string, before int64) error) error
	// hold keeps every write out until the function that it returns is called, which fails if something came in nevertheless.
	hold(ctx context.Context) (func() error, error)
	// check reads everything and returns an error for any damage.
	check(ctx context.Context) error
	// close lets go of reader and writer once the write that is under way has ended, and of what keeps others out.
	close(writer, reader *sql.DB) error
}
