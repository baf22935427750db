package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/secret"
)

// PostgreSQL says which database, and as whom.
type PostgreSQL struct {
	// URL is postgres://user@host:port/database with the options of libpq; several hosts, separated by commas, are tried in
	// order for the primary. Without sslmode the server's certificate is verified in full (verify-full), unless the host is a
	// Unix socket's directory or a loopback address. Connections are the edge's own: a pooler in transaction mode between
	// loses what is set for a session.
	URL string
	// Password is the role's, if it has one and the URL does not say it.
	Password secret.Redacted
}

// An edge process keeps up to pgReaders + pgWriters connections and one that listens; twice that while one process replaces
// another. max_connections of PostgreSQL (100 by default) must have room for those of all edges.
const (
	pgReaders = 8
	pgWriters = 6
)

const (
	// pgConnectLimit bounds opening one connection, to each host in turn.
	pgConnectLimit = 3 * time.Second
	// pgStatementLimit bounds a read, and all statements of a write together: the server may hang without a word.
	pgStatementLimit = 5 * time.Second
	// pgCommitLimit bounds the commit itself, which waits for the disk, and for standbys where the server says so.
	pgCommitLimit = 5 * time.Second
	// pgSettleLimit bounds asking what became of a commit that was not answered.
	pgSettleLimit = 5 * time.Second
	// pgAttempts is how often something is tried that had no effect, with pgPause between, doubled each time.
	pgAttempts = 4
	pgPause    = 20 * time.Millisecond
	// pgIdle and pgLife let a pool shrink, and move to where new connections go.
	pgIdle = 5 * time.Minute
	pgLife = 30 * time.Minute
)

// serverLimits are the same bounds at the server, should the edge be gone or cut off: nobody else waits for its locks longer.
var serverLimits = map[string]string{
	"statement_timeout": "8s", "lock_timeout": "4s", "idle_in_transaction_session_timeout": "10s",
}

// tenantSetting is what row security compares a row's tenant with.
const tenantSetting = "sallyport.tenant"

// String is the URL without what is secret.
func (p PostgreSQL) String() string {
	u, err := url.Parse(p.URL)
	if err != nil {
		return "postgres:" // its text may hold a password
	}
	u.RawQuery = ""
	return u.Redacted()
}

// Validate checks the form of the URL without connecting.
func (p PostgreSQL) Validate() error {
	_, err := p.config()
	return err
}

func (p PostgreSQL) config() (*pgx.ConnConfig, error) {
	u, err := url.Parse(p.URL)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, errors.New("want postgres://user@host/database")
	}
	options := u.Query()
	if !options.Has("sslmode") {
		options.Set("sslmode", "verify-full")
		if nearby(u, options) {
			options.Set("sslmode", "disable")
		}
	}
	if !options.Has("target_session_attrs") {
		options.Set("target_session_attrs", "primary")
	}
	if !options.Has("application_name") {
		options.Set("application_name", "sallyport-edge")
	}
	u.RawQuery = options.Encode()
	config, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, fmt.Errorf("the URL cannot be used: %w", err) // pgx leaves passwords out
	}
	if password := p.Password.Reveal(); password != "" {
		config.Password = password
	}
	config.ConnectTimeout = pgConnectLimit
	for name, value := range serverLimits {
		if _, said := config.RuntimeParams[name]; !said {
			config.RuntimeParams[name] = value
		}
	}
	return config, nil
}

// nearby reports whether every host is this machine's own.
func nearby(u *url.URL, options url.Values) bool {
	hosts := strings.Split(u.Host, ",")
	if h := options.Get("host"); h != "" {
		hosts = strings.Split(h, ",")
	}
	for _, host := range hosts {
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		ip := net.ParseIP(strings.Trim(host, "[]"))
		if !strings.HasPrefix(host, "/") && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}

// postgresEngine is the engine of many edges: a database that they share.
type postgresEngine struct {
	hosts  pgHosts
	reader *sql.DB
	writer *sql.DB
	writes atomic.Int64 // that are under way
}

func (db *DB) openPostgres(ctx context.Context, p PostgreSQL) error {
	config, err := p.config()
	if err != nil {
		return err
	}
	config.ValidateConnect = db.lineage.validator(config.ValidateConnect)
	hosts := hostsOf(config)
	if err := db.preparePostgres(ctx, hosts); err != nil {
		return explain(err)
	}
	db.writer = db.openPool(hosts, pgWriters)
	readOnly := hosts.with(func(c *pgx.ConnConfig) { c.RuntimeParams["default_transaction_read_only"] = "on" })
	db.reader = db.openPool(readOnly, pgReaders)
	db.engine = &postgresEngine{hosts: hosts, reader: db.reader, writer: db.writer}
	return db.checkMaster(ctx)
}

func (db *DB) openPool(hosts pgHosts, size int) *sql.DB {
	pool := sql.OpenDB(pgConnector{newHostConnector(hosts), &db.lineage})
	pool.SetMaxOpenConns(size)
	pool.SetMaxIdleConns(size)
	pool.SetConnMaxIdleTime(pgIdle)
	pool.SetConnMaxLifetime(pgLife)
	return pool
}

// migrationLock is the advisory lock under which one edge brings the schema up to date and the others wait ("sallyport").
const migrationLock int64 = 0x73616c6c79706f72

// preparePostgres checks that the database is fit, and brings its schema up to date.
func (db *DB) preparePostgres(ctx context.Context, hosts pgHosts) error {
	pool := sql.OpenDB(newHostConnector(hosts.with(func(c *pgx.ConnConfig) {
		// A step may have to touch the rows of all tenants, and take as long as it takes.
		c.RuntimeParams[tenantSetting] = string(everyTenant)
		c.RuntimeParams["statement_timeout"], c.RuntimeParams["lock_timeout"] = "0", "30s"
		c.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	})))
	defer func() { _ = pool.Close() }()
	held, err := pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = held.Close() }()
	if err := fit(ctx, held); err != nil {
		return err
	}
	// The lock ends with the session, whatever happens.
	if _, err := held.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, migrationLock); err != nil {
		return fmt.Errorf("schema lock: %w", err)
	}
	provider, err := newProvider(goose.DialectPostgres, pool, forPostgres)
	if err != nil {
		return err
	}
	return db.migrate(ctx, provider, pool, true)
}

// fit refuses a server that would lose what was acknowledged, and a role that row security does not hold.
func fit(ctx context.Context, conn *sql.Conn) error {
	var version int
	var fsync, pages, commit, encoding string
	var unbound bool
	err := conn.QueryRowContext(ctx, `SELECT current_setting('server_version_num')::int, current_setting('fsync'),
			current_setting('full_page_writes'), current_setting('synchronous_commit'), current_setting('server_encoding'),
			(SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user)`).
		Scan(&version, &fsync, &pages, &commit, &encoding, &unbound)
	switch {
	case err != nil:
		return err
	case version < 130000:
		return fault.New(fault.Invalid, "PostgreSQL 13 or newer is needed, and this is %d", version/10000)
	case fsync != "on" || pages != "on" || commit == "off":
		return fault.New(fault.Invalid, "fsync, full_page_writes or synchronous_commit is off: a crash of the database would lose "+
			"what was acknowledged; switch them on")
	case encoding != "UTF8":
		return fault.New(fault.Invalid, "its encoding is %s: make the database with ENCODING 'UTF8'", encoding)
	case unbound:
		return fault.New(fault.Invalid, "the edge's role is a superuser or has BYPASSRLS, so that nothing would keep tenants apart "+
			"but the edge's own queries: CREATE ROLE sallyport LOGIN, make it the owner of the database, and name it in the URL")
	}
	return nil
}

func (*postgresEngine) reading(ctx context.Context, of id.Tenant) (context.Context, context.CancelFunc) {
	return context.WithTimeout(withScope(ctx, &pgScope{of: of}), pgStatementLimit)
}

func (p *postgresEngine) writing(ctx context.Context, of id.Tenant) (context.Context, context.CancelFunc) {
	p.writes.Add(1)
	scope := &pgScope{of: of, hurry: hurryOf(ctx)}
	ctx, cancel := context.WithTimeout(withScope(ctx, scope), scope.limit(pgStatementLimit))
	return ctx, func() {
		cancel()
		p.writes.Add(-1)
	}
}

// announce sends no more than a hint; who hears it reads the change log.
func (*postgresEngine) announce(ctx context.Context, t *tx) error {
	_, err := t.ExecContext(ctx, `SELECT pg_notify('`+changesChannel+`', '')`)
	return err
}

// clock goes on within a transaction.
func (*postgresEngine) clock() string {
	return `(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint`
}

// each sends all of them before it reads the first answer: one way to the server and back.
func (*postgresEngine) each(ctx context.Context, t *tx, text string, all [][]any, scan func(i int, r row) error) error {
	batch := &pgx.Batch{}
	for _, args := range all {
		clean, err := cleanArgs(args)
		if err != nil {
			return err
		}
		batch.Queue(text, clean...)
	}
	return t.conn.Raw(func(c any) error {
		answers := c.(*pgConn).Conn.Conn().SendBatch(ctx, batch)
		if scan != nil {
			for i := range all {
				if err := scan(i, answers.QueryRow()); err != nil {
					return errors.Join(err, answers.Close())
				}
			}
		}
		return answers.Close()
	})
}

// hold locks every table against writers, who are told that the store is busy.
func (p *postgresEngine) hold(ctx context.Context) (func() error, error) {
	conn, err := p.checking().with(func(c *pgx.ConnConfig) {
		c.RuntimeParams["idle_in_transaction_session_timeout"], c.RuntimeParams["lock_timeout"] = "0", "10s"
	}).connect(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(moveOrder))
	for i, table := range moveOrder {
		names[i] = table.name
	}
	if _, err := conn.Exec(ctx, `BEGIN; LOCK TABLE `+strings.Join(names, ", ")+` IN SHARE MODE`); err != nil {
		closeConn(conn)
		return nil, err
	}
	return func() error {
		defer closeConn(conn)
		ctx, cancel := context.WithTimeout(context.Background(), pgStatementLimit)
		defer cancel()
		if _, err := conn.Exec(ctx, `COMMIT`); err != nil {
			return fmt.Errorf("the lock on the source was lost, others may have written: %w", err)
		}
		return nil
	}, nil
}

// check has every row of every table read, with what is stored apart from it; the server checks pages as it reads them.
func (p *postgresEngine) check(ctx context.Context) error {
	conn, err := p.checking().connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	rows, err := conn.Query(ctx, `SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename`)
	if err != nil {
		return err
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, table := range tables {
		if _, err := conn.Exec(ctx, `SELECT COALESCE(SUM(LENGTH(t::text)), 0) FROM `+table+` t`); err != nil {
			return fmt.Errorf("table %s: %w", table, err)
		}
	}
	return nil
}

func (p *postgresEngine) checking() pgHosts {
	return p.hosts.with(func(c *pgx.ConnConfig) {
		c.RuntimeParams[tenantSetting] = string(everyTenant)
		c.RuntimeParams["statement_timeout"] = "0"
	})
}

// close waits for the writes that are under way, but not for long; none begins after.
func (p *postgresEngine) close(writer, reader *sql.DB) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	err := errors.Join(reader.Close(), writer.Close()) // connections in use close when they come back
	for p.writes.Load() > 0 && ctx.Err() == nil {
		pause(ctx, 5*time.Millisecond)
	}
	return err
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// unreachable reports whether err tells of the connection and not of the statement.
func unreachable(err error) bool {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return strings.HasPrefix(said.Code, "08") || strings.HasPrefix(said.Code, "57P") || said.Code == pgTooManyConnections
	}
	return lost(err)
}
