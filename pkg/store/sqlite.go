package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pressly/goose/v3"
	// The driver registers itself as "sqlite".
	_ "modernc.org/sqlite"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// readers is how many queries run at a time beside the writer. They are short, and each connection has a page cache.
const readers = 8

// busyMillis is how long a connection waits for SQLite's own locks. Within one process only a checkpoint takes them.
const busyMillis = "5000"

// preparePrivate makes the file where there is none. SQLite gives its log and index files the mode of the file itself.
func preparePrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("mode %04o lets others read it; chmod 600", info.Mode().Perm())
	}
	return nil
}

// sqliteEngine is the engine of one edge: a file in this process.
type sqliteEngine struct {
	reader  *sql.DB
	inserts map[string][]insertion // of every request by their text, those of most rows first
}

// insertion is an INSERT of so many rows at once.
type insertion struct {
	rows int
	stmt *sql.Stmt
}

func (db *DB) openSQLite(ctx context.Context, path string, lock *os.File) (err error) {
	beside := lock != nil
	if db.lock = lock; !beside {
		if db.use == asSource {
			if _, err := os.Stat(path); err != nil { // before a lock is made beside nothing
				return err
			}
		}
		if db.lock, err = lockFile(path + ".lock"); err != nil {
			return err
		}
	}
	db.engine = &sqliteEngine{}
	if err := preparePrivate(path); err != nil {
		return err
	}
	if db.writer, err = openWriter(path); err != nil {
		return err
	}
	provider, err := newProvider(goose.DialectSQLite3, db.writer, forSQLite)
	if err != nil {
		return err
	}
	if err := db.migrate(ctx, provider, db.writer, beside); err != nil {
		return err
	}
	if db.reader, err = openReader(path); err != nil {
		return err
	}
	engine := &sqliteEngine{reader: db.reader}
	db.engine = engine
	if err := db.checkMaster(ctx); err != nil {
		return err
	}
	if err := db.prepare(ctx); err != nil {
		return err
	}
	return engine.prepareInserts(ctx, db.writer)
}

// prepare makes the statements of every request once; PostgreSQL's driver does so by itself, for each connection.
func (db *DB) prepare(ctx context.Context) error {
	db.hot = make(map[string]*sql.Stmt)
	for text, pool := range map[string]*sql.DB{
		selectSessionByReference: db.reader, selectSession: db.reader, selectServiceToken: db.reader,
		advanceSequence: db.writer,
	} {
		stmt, err := pool.PrepareContext(ctx, text)
		if err != nil {
			return explain(err)
		}
		db.hot[text] = stmt
	}
	return nil
}

// prepareInserts prepares the insertions of a commit of records: most rows share a statement, because what database/sql, the driver and
// SQLite do around each is a good part of what a row costs.
func (s *sqliteEngine) prepareInserts(ctx context.Context, writer *sql.DB) error {
	s.inserts = make(map[string][]insertion)
	for _, text := range []string{insertDecision, insertOutcome} {
		for _, rows := range []int{16, 4, 1} {
			stmt, err := writer.PrepareContext(ctx, ofRows(text, rows))
			if err != nil {
				return explain(err)
			}
			s.inserts[text] = append(s.inserts[text], insertion{rows, stmt})
		}
	}
	return nil
}

// valuesInOrder is the row of an INSERT that consists of its arguments, in order.
var valuesInOrder = regexp.MustCompile(`VALUES \(\$1(, \$\d+)*\)`)

// ofRows is text, an INSERT of one row, for so many. The arguments lose their numbers: to SQLite $1 is a name, and for each argument
// that it binds the driver has the name looked for in a list of all.
func ofRows(text string, rows int) string {
	return valuesInOrder.ReplaceAllStringFunc(text, func(row string) string {
		one := "(?" + strings.Repeat(", ?", strings.Count(row, "$")-1) + ")"
		return "VALUES " + one + strings.Repeat(", "+one, rows-1)
	})
}

func (*sqliteEngine) reading(ctx context.Context, _ id.Tenant) (context.Context, context.CancelFunc) {
	return ctx, func() {}
}

func (*sqliteEngine) writing(ctx context.Context, _ id.Tenant) (context.Context, context.CancelFunc) {
	return ctx, func() {}
}
func (*sqliteEngine) again(context.Context, int, error) bool    { return false }
func (*sqliteEngine) settle(_ context.Context, err error) error { return err }
func (*sqliteEngine) announce(context.Context, *tx) error       { return nil }
func (*sqliteEngine) clock() string                             { return "" }
func (*sqliteEngine) listen(ctx context.Context, _ func())      { <-ctx.Done() }

func (*sqliteEngine) tidy(context.Context, func(context.Context, string, int64) error) error {
	return nil
}

func (s *sqliteEngine) each(ctx context.Context, t *tx, text string, all [][]any, scan func(i int, r row) error) error {
	if inserts := s.inserts[text]; inserts != nil {
		return insertAll(ctx, t, inserts, all)
	}
	stmt := t.db.hot[text]
	if stmt == nil {
		made, err := t.PrepareContext(ctx, text)
		if err != nil {
			return err
		}
		defer func() { _ = made.Close() }()
		stmt = made
	} else {
		stmt = t.StmtContext(ctx, stmt)
	}
	for i, args := range all {
		var err error
		if scan == nil {
			_, err = stmt.ExecContext(ctx, args...)
		} else {
			err = scan(i, stmt.QueryRowContext(ctx, args...))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// insertAll inserts rows in order, as many with one statement as there is one for.
func insertAll(ctx context.Context, t *tx, inserts []insertion, all [][]any) error {
	for _, insert := range inserts {
		if len(all) < insert.rows {
			continue
		}
		stmt := t.StmtContext(ctx, insert.stmt)
		for ; len(all) >= insert.rows; all = all[insert.rows:] {
			if _, err := stmt.ExecContext(ctx, slices.Concat(all[:insert.rows]...)...); err != nil {
				return err
			}
		}
	}
	return nil
}

// hold has nothing to do: the lock on the file keeps other processes out, and this one does not write.
func (*sqliteEngine) hold(context.Context) (func() error, error) {
	return func() error { return nil }, nil
}

func (s *sqliteEngine) check(ctx context.Context) error {
	var verdict string
	if err := s.reader.QueryRowContext(ctx, `PRAGMA integrity_check`).Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return errors.New(verdict)
	}
	return nil
}

func (s *sqliteEngine) close(writer, reader *sql.DB) error {
	for _, inserts := range s.inserts {
		for _, insert := range inserts {
			_ = insert.stmt.Close()
		}
	}
	var faults []error
	// The writer goes last: whoever closes last writes the log back, and a reader may not.
	if reader != nil {
		faults = append(faults, reader.Close())
	}
	if writer != nil {
		faults = append(faults, closeWriter(writer))
	}
	return errors.Join(faults...)
}

func openWriter(path string) (*sql.DB, error) {
	db, err := openFile(path, url.Values{
		"mode":    {"rw"},
		"_txlock": {"immediate"},
		"_pragma": {
			"busy_timeout(" + busyMillis + ")",
			"journal_mode(WAL)",
			// FULL syncs the log at every commit: what was acknowledged survives a power cut.
			"synchronous(FULL)",
			"foreign_keys(1)",
			// After a checkpoint the log is cut back to this, so that one burst does not hold disk for good.
			"journal_size_limit(67108864)",
		},
	})
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(1)
	return db, nil
}

func openReader(path string) (*sql.DB, error) {
	db, err := openFile(path, url.Values{
		"mode":    {"ro"},
		"_pragma": {"busy_timeout(" + busyMillis + ")", "query_only(1)"},
	})
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(readers)
	db.SetMaxIdleConns(readers)
	return db, nil
}

func openFile(path string, options url.Values) (*sql.DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	// Defensive: no statement, ours or injected, can write to SQLite's own structures.
	options.Set("_defensive", "1")
	file := url.URL{Scheme: "file", Path: path, RawQuery: options.Encode()}
	return sql.Open("sqlite", file.String())
}
