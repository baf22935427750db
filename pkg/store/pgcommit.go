package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport-dev/sallyport/pkg/fault"
)

// insertCommit is the first statement of every transaction. Who loses the connection during the commit inserts the same key
// again: the server lets it wait until the first transaction has ended, and then either the key is there, so that all of the
// transaction is, or it never will be. Nothing else answers that exactly: a transaction's number may be given to another
// one after a crash, and an old backend may still be at it.
const insertCommit = `INSERT INTO commits (id, at) VALUES ($1, (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint)`

// commitsStay is how long a key stays, by the database's clock. Who asks later looks for what the transaction wrote (took.go).
const commitsStay = time.Hour

func (*postgresEngine) tidy(ctx context.Context, purge func(ctx context.Context, query string, before int64) error) error {
	return purge(ctx, `DELETE FROM commits WHERE id IN (SELECT id FROM commits
		WHERE at <= (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint - $1 LIMIT $2)`, commitsStay.Milliseconds())
}

// newCommitKey rises with time, so that the index grows at one end.
func newCommitKey() string { return uuid.Must(uuid.NewV7()).String() }

// uncertainError is a commit of which it could not be found out whether it took place.
type uncertainError struct {
	commit string
	cause  error
}

func (e *uncertainError) Error() string { return "commit not answered: " + e.cause.Error() }
func (e *uncertainError) Unwrap() error { return e.cause }

// Unsettled tells audit.Standby.
func (e *uncertainError) Unsettled() string { return e.commit }

// undoneError is a commit that was not answered, did not take place, and never will.
type undoneError struct{ cause error }

func (e *undoneError) Error() string { return "commit lost: " + e.cause.Error() }
func (e *undoneError) Unwrap() error { return e.cause }

// settle leaves every error as it is but that of a commit on whose way the connection was lost.
func (p *postgresEngine) settle(ctx context.Context, err error) error {
	scope := scopeOf(ctx)
	if !scope.committing || answered(err) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), scope.limit(pgSettleLimit))
	defer cancel()
	for ; ; pause(ctx, pgPause) {
		done, asking := p.committed(ctx, scope.key)
		switch {
		case asking != nil && ctx.Err() != nil:
			return fault.New(fault.Unavailable, "the edge's store does not say whether this was done: look before you try again").
				Because(&uncertainError{scope.key, errors.Join(err, asking)})
		case asking != nil:
		case done:
			return nil
		default:
			return &undoneError{err}
		}
	}
}

// settleKey decides once and for all. It writes in either case, so that its own commit waits until standbys have what came before, where
// they are waited for: a commit whose wait was broken off is seen by others and may yet be lost. That the key is there because somebody
// asked before, whose answer was lost too, is told by the mark beside it.
const settleKey = `WITH mine AS (
		INSERT INTO commits (id, at) VALUES ($1, (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint)
		ON CONFLICT (id) DO UPDATE SET at = commits.at RETURNING at, xmax = 0 AS fresh
	), void AS (
		INSERT INTO commits (id, at) SELECT $1 || '` + voidMark + `', at FROM mine WHERE fresh ON CONFLICT (id) DO NOTHING
	)
	SELECT NOT fresh AND NOT EXISTS (SELECT 1 FROM commits WHERE id = $1 || '` + voidMark + `') FROM mine`

// committed waits until the transaction has ended.
func (p *postgresEngine) committed(ctx context.Context, key string) (done bool, err error) {
	conn, err := p.hosts.connect(ctx)
	if err != nil {
		return false, err
	}
	defer closeConn(conn)
	err = conn.QueryRow(ctx, settleKey, key).Scan(&done)
	return done, err
}

// answered reports whether the server itself said that a commit failed. One that is being stopped may say so after the
// commit is on its disk.
func answered(err error) bool {
	var said *pgconn.PgError
	return errors.Is(err, errRolledBack) || errors.As(err, &said) && !unreachable(err)
}

// lost reports whether the connection broke, or could not be made.
func lost(err error) bool {
	var connecting *pgconn.ConnectError
	var network net.Error
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.As(err, &connecting) || pgconn.SafeToRetry(err) ||
		errors.As(err, &network) && !errors.Is(err, context.DeadlineExceeded)
}

// again begins anew what collided with another transaction, and what met a connection that was dead already or died before
// the commit.
func (p *postgresEngine) again(ctx context.Context, attempt int, err error) bool {
	var uncertain *uncertainError
	var undone *undoneError
	var said *pgconn.PgError
	if attempt+1 >= pgAttempts || ctx.Err() != nil || errors.As(err, &uncertain) {
		return false
	}
	collided := errors.As(err, &said) && (said.Code == pgSerialization || said.Code == pgDeadlock)
	demoted := errors.As(err, &said) && said.Code == pgReadOnly // the primary is another one now
	if !collided && !demoted && !errors.As(err, &undone) && !unreachable(err) {
		return false
	}
	if !collided {
		// The others that rest in the pool have most likely died with it.
		forget(p.reader, pgReaders)
		forget(p.writer, pgWriters)
	}
	pause(ctx, rand.N(pgPause<<attempt)+pgPause<<attempt/2)
	return ctx.Err() == nil
}

// forget closes the connections of a pool that rest.
func forget(pool *sql.DB, size int) {
	pool.SetMaxIdleConns(-1)
	pool.SetMaxIdleConns(size)
}
