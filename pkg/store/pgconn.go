package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// pgScope travels in the context of a statement or a transaction: database/sql has no other way through.
type pgScope struct {
	of id.Tenant
	// key names the transaction in the table commits, once it has begun; committing is set before the commit is sent.
	key        string
	committing bool
	// hurry, if set, is when all parts of a transaction should be done, sooner than their own limits.
	hurry time.Time
}

// hurryLeast is what a part has in any hurry: what came before may have taken all the time, and the database be well again.
const hurryLeast = 250 * time.Millisecond

// limit is at most usual.
func (s *pgScope) limit(usual time.Duration) time.Duration {
	if s.hurry.IsZero() {
		return usual
	}
	return min(max(time.Until(s.hurry), hurryLeast), usual)
}

type scopeKey struct{}

type hurryKey struct{}

// inHurry has all parts of a transaction (writing, committing, asking what became of it) be done by ctx's deadline, or soon after:
// somebody waits who can do without.
func inHurry(ctx context.Context) context.Context {
	deadline, ok := ctx.Deadline()
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, hurryKey{}, deadline)
}

func hurryOf(ctx context.Context) time.Time {
	hurry, _ := ctx.Value(hurryKey{}).(time.Time)
	return hurry
}

func withScope(ctx context.Context, s *pgScope) context.Context {
	return context.WithValue(ctx, scopeKey{}, s)
}

// scopeOf is that of a statement which says nothing if there is none: it meets no row of any tenant.
func scopeOf(ctx context.Context) *pgScope {
	if s, ok := ctx.Value(scopeKey{}).(*pgScope); ok {
		return s
	}
	return &pgScope{}
}

// pgConnector makes connections that know whose rows they may meet.
type pgConnector struct {
	driver.Connector
	lineage *lineage
}

func (c pgConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	inner := conn.(*stdlib.Conn)
	history, _ := inner.Conn().PgConn().CustomData()[historyKey].(History)
	return &pgConn{Conn: inner, lineage: c.lineage, history: history}, nil
}

// pgConn sets the tenant of row security on the way of each statement. The setting and the statement travel together, so
// that it costs no way to the server and back; a connection that has the tenant already sends the statement alone.
type pgConn struct {
	*stdlib.Conn
	tenant id.Tenant // what the session's setting is known to be
	inTx   bool
	// history is the server's; lineage tells whether it still is that of the database.
	history History
	lineage *lineage
}

var (
	_ driver.QueryerContext    = (*pgConn)(nil)
	_ driver.ConnBeginTx       = (*pgConn)(nil)
	_ driver.NamedValueChecker = (*pgConn)(nil)
	_ driver.SessionResetter   = (*pgConn)(nil)
)

const setTenant = `SELECT set_config('` + tenantSetting + `', $1, false)`

// QueryContext asks as the tenant that ctx names, or as none.
func (c *pgConn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	of := scopeOf(ctx).of
	if c.inTx || of == c.tenant {
		return c.Conn.QueryContext(ctx, text, args)
	}
	if c.Conn.Conn().IsClosed() {
		return nil, driver.ErrBadConn
	}
	plain := make([]any, len(args))
	for i, a := range args {
		plain[i] = a.Value
	}
	batch := &pgx.Batch{}
	batch.Queue(setTenant, string(of))
	batch.Queue(text, plain...)
	results := c.Conn.Conn().SendBatch(ctx, batch)
	// If either fails, both are undone.
	_, err := results.Exec()
	if err != nil {
		return nil, errors.Join(err, results.Close())
	}
	rows, err := results.Query()
	if err != nil {
		return nil, errors.Join(err, results.Close())
	}
	all, err := readAll(rows)
	if err = errors.Join(err, results.Close()); err != nil {
		return nil, err
	}
	c.tenant = of
	return all, nil
}

// BeginTx begins as the tenant that ctx names, and leaves the transaction's key in the table commits: whoever has to know
// what became of it looks there.
func (c *pgConn) BeginTx(ctx context.Context, _ driver.TxOptions) (driver.Tx, error) {
	if c.Conn.Conn().IsClosed() {
		return nil, driver.ErrBadConn
	}
	scope := scopeOf(ctx)
	scope.key, scope.committing = newCommitKey(), false
	bounded, cancel := context.WithTimeout(ctx, scope.limit(pgStatementLimit))
	defer cancel()
	batch := &pgx.Batch{}
	batch.Queue(`BEGIN`)
	batch.Queue(`SELECT set_config('`+tenantSetting+`', $1, true)`, string(scope.of))
	batch.Queue(insertCommit, scope.key)
	if err := c.Conn.Conn().SendBatch(bounded, batch).Close(); err != nil {
		_ = c.Close() // it may be within the transaction
		return nil, err
	}
	c.inTx = true
	return &pgTx{conn: c, scope: scope}, nil
}

// ResetSession drops a connection that was left within a transaction, or leads to a server that was left behind.
func (c *pgConn) ResetSession(ctx context.Context) error {
	if c.lineage.outdated(c.history) {
		return driver.ErrBadConn
	}
	c.inTx = false
	return c.Conn.ResetSession(ctx)
}

// CheckNamedValue turns a value of ours into one of the driver's.
func (c *pgConn) CheckNamedValue(v *driver.NamedValue) (err error) {
	v.Value, err = cleanArg(v.Value)
	return err
}

func cleanArgs(args []any) ([]any, error) {
	clean := make([]any, len(args))
	for i, a := range args {
		var err error
		if clean[i], err = cleanArg(a); err != nil {
			return nil, err
		}
	}
	return clean, nil
}

// cleanArg replaces what PostgreSQL's text cannot hold, bytes that are no UTF-8 and NUL: some of it comes from outside (the
// name that a browser gives itself), and nothing in one record may keep a batch from being written.
func cleanArg(v any) (any, error) {
	plain, err := driver.DefaultParameterConverter.ConvertValue(v)
	if text, ok := plain.(string); ok {
		const replacement = "\uFFFD"
		return strings.ReplaceAll(strings.ToValidUTF8(text, replacement), "\x00", replacement), err
	}
	return plain, err
}

// pgTx is a transaction whose end is bounded by itself.
type pgTx struct {
	conn  *pgConn
	scope *pgScope
}

// errRolledBack says that a commit was answered by a rollback: a statement in it had failed.
var errRolledBack = errors.New("the transaction was rolled back")

func (t *pgTx) Commit() error {
	if t.conn.lineage.outdated(t.conn.history) {
		return errors.Join(driver.ErrBadConn, t.Rollback())
	}
	ctx, cancel := context.WithTimeout(context.Background(), t.scope.limit(pgCommitLimit))
	defer cancel()
	t.scope.committing = true
	tag, err := t.conn.Conn.Conn().Exec(ctx, `COMMIT`)
	if err != nil {
		_ = t.conn.Close()
		return err
	}
	t.conn.inTx = false
	if t.scope.committing = tag.String() != `ROLLBACK`; !t.scope.committing {
		return errRolledBack
	}
	return nil
}

func (t *pgTx) Rollback() error {
	ctx, cancel := context.WithTimeout(context.Background(), t.scope.limit(pgCommitLimit))
	defer cancel()
	if t.conn.Conn.Conn().IsClosed() {
		return nil // the server rolls back by itself
	}
	if _, err := t.conn.Conn.Conn().Exec(ctx, `ROLLBACK`); err != nil {
		return errors.Join(err, t.conn.Close())
	}
	t.conn.inTx = false
	return nil
}

// pgRows are rows that were read whole: they came with the answer to another statement.
type pgRows struct {
	columns []string
	values  [][]driver.Value
}

func readAll(rows pgx.Rows) (*pgRows, error) {
	defer rows.Close()
	all := &pgRows{}
	for _, field := range rows.FieldDescriptions() {
		all.columns = append(all.columns, field.Name)
	}
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return nil, err
		}
		row := make([]driver.Value, len(values))
		for i, v := range values {
			switch v := v.(type) {
			case int32:
				row[i] = int64(v)
			default:
				row[i] = v
			}
		}
		all.values = append(all.values, row)
	}
	return all, rows.Err()
}

func (r *pgRows) Columns() []string { return r.columns }
func (r *pgRows) Close() error      { return nil }

func (r *pgRows) Next(dest []driver.Value) error {
	if len(r.values) == 0 {
		return io.EOF
	}
	copy(dest, r.values[0])
	r.values = r.values[1:]
	return nil
}
