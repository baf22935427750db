package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/secret"
)

// Moved says what became of one table.
type Moved struct {
	Table string
	// Rows are in it, of which Before were there already from a move that was broken off.
	Rows, Before int64
	// Replaced counts texts with bytes that PostgreSQL cannot hold; U+FFFD stands for them now.
	Replaced int64
	// Digest is the SHA-256 of all rows in the order of their key, the same on both sides.
	Digest string
}

// movedTable is a table and its primary key.
type movedTable struct{ name, key string }

// moveOrder lists what is moved, what others refer to first. Not moved are those that tell of the store itself or of edges
// that run: see notMoved.
var moveOrder = []movedTable{
	{"tenants", "id"},
	{"hosts", "host"},
	{"sites", "tenant, id"},
	{"apps", "tenant, id"},
	{"ingress", "tenant, site, version"},
	{"users", "tenant, id"},
	{"sessions", "tenant, id"},
	{"session_references", "tenant, hash"},
	{"handoffs", "tenant, hash"},
	{"signing_keys", "kind, number"},
	{"cluster_authority", "id"},
	{"service_tokens", "tenant, id"},
	{"connectors", "tenant, id"},
	{"invites", "tenant, id"},
	{"runs", "tenant, connector, generation"},
	{"codes", "tenant, id"},
	{"buckets", "tenant, bucket"},
	{"known_browsers", "tenant, browser, account"},
	{"audit_heads", "tenant"},
	{"decisions", "tenant, sequence"},
	{"outcomes", "tenant, sequence"},
	{"audit_batches", "id"},
	{"change_head", "id"},
	{"changes", "version"},
}

// notMoved are left as the new store made them; store_check alone becomes the other's.
var notMoved = []string{"goose_db_version", "store_check", "schema_floor", "moves", "commits", "edges", "leases"}

// moveRows go in one transaction.
const moveRows = 500

// Move fills the store at to with everything that is in the one at from, and tells report of each table. No edge may have
// either open: the source is locked meanwhile and stays as it was, whatever happens. The target must be new, or the one into
// which a move of the same source was broken off: then it goes on where that one was. It is refused if it holds anything else.
//
// Both must have this program's schema and the same master.key. At the end the number of rows of each table and a digest of
// them are compared; until they agree, no edge opens the target.
func Move(ctx context.Context, from, to Config, sealer *secret.Sealer, report func(Moved)) error {
	m := &mover{report: report, rows: moveRows, step: func() error { return ctx.Err() }}
	return m.move(ctx, from, to, sealer)
}

type mover struct {
	source, target *DB
	report         func(Moved)
	rows           int
	step           func() error // before each transaction: tests end a move here
}

func (m *mover) move(ctx context.Context, from, to Config, sealer *secret.Sealer) (err error) {
	from.use, to.use = asSource, asTarget
	if m.source, err = Open(ctx, from, sealer); err != nil {
		return fmt.Errorf("from: %w", err)
	}
	defer func() { err = errors.Join(err, m.source.Close()) }()
	if m.target, err = Open(ctx, to, sealer); err != nil {
		return fmt.Errorf("to: %w", err)
	}
	defer func() { err = errors.Join(err, m.target.Close()) }()
	still, err := m.source.engine.hold(ctx)
	if err != nil {
		return fmt.Errorf("from: lock: %w", explain(err))
	}
	defer func() { err = errors.Join(err, still()) }()
	if err := m.begin(ctx); err != nil {
		return err
	}
	for _, table := range moveOrder {
		done, err := m.table(ctx, table)
		if err != nil {
			return fmt.Errorf("table %s: %w", table.name, unfinished(err))
		}
		m.report(done)
	}
	if err := m.step(); err != nil {
		return err
	}
	return unfinished(m.target.update(ctx, everyTenant, func(ctx context.Context, tx *tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE moves SET finished = $1 WHERE id = 1`, millis(m.target.now()))
		return err
	}))
}

// unfinished puts right what the words for an outage promise of one change: of a move, what was copied stays.
func unfinished(err error) error {
	var f *fault.Error
	if !errors.As(err, &f) || !strings.HasSuffix(f.Message, afterOutage) {
		return err
	}
	return fault.New(f.Code, "%s: what was copied stays there; give the command again when the database answers, and it goes on",
		strings.TrimSuffix(f.Message, afterOutage)).Because(f.Unwrap())
}

// begin marks the target as being filled from this source, if it is empty, or finds that mark.
func (m *mover) begin(ctx context.Context) error {
	var proof []byte
	if err := m.source.ask(ctx, everyTenant, `SELECT sealed FROM store_check WHERE id = 1`).Scan(&proof); err != nil {
		return fmt.Errorf("from: %w", err)
	}
	// The proof was sealed with a random nonce when the store was made: no other store has it.
	sum := sha256.Sum256(proof)
	source := hex.EncodeToString(sum[:])
	if err := m.step(); err != nil {
		return err
	}
	return m.target.update(ctx, everyTenant, func(ctx context.Context, tx *tx) error {
		var of string
		var finished int64
		err := tx.QueryRowContext(ctx, `SELECT source, finished FROM moves WHERE id = 1`).Scan(&of, &finished)
		switch {
		case err == nil && of != source:
			return fault.New(fault.Conflict, "to: another store was moved there: make a new database")
		case err == nil && finished != 0:
			return fault.New(fault.Conflict, "to: this store was moved there already, whole")
		case err == nil:
			return nil
		case !missing(err):
			return err
		}
		if err := tx.empty(ctx); err != nil {
			return err
		}
		for _, query := range []string{`DELETE FROM change_head`, `DELETE FROM store_check`} {
			if _, err := tx.ExecContext(ctx, query); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO store_check (id, sealed) VALUES (1, $1)`, proof); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO moves (id, source, finished) VALUES (1, $1, 0)`, source)
		return err
	})
}

// empty refuses a store that anything was put in, or that an edge runs on.
func (t *tx) empty(ctx context.Context) error {
	var version int64
	if err := t.QueryRowContext(ctx, `SELECT version FROM change_head WHERE id = 1`).Scan(&version); err != nil {
		return err
	}
	full := version != 0
	for _, table := range append([]movedTable{{name: "edges"}}, moveOrder...) {
		if table.name == "change_head" {
			continue
		}
		var n int64
		if err := t.QueryRowContext(ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM `+table.name+` LIMIT 1) AS one`).Scan(&n); err != nil {
			return err
		}
		full = full || n > 0
	}
	if full {
		return fault.New(fault.Conflict, "to: there is something in it already: make a new database")
	}
	return nil
}

// table copies what the target has not got, then compares both sides.
func (m *mover) table(ctx context.Context, table movedTable) (Moved, error) {
	done := Moved{Table: table.name}
	columns, err := m.columns(ctx, table)
	if err != nil {
		return done, err
	}
	last, err := m.last(ctx, table)
	if err != nil {
		return done, err
	}
	before, err := m.target.digest(ctx, table, columns, m.rows)
	if err != nil {
		return done, err
	}
	done.Before = before.rows
	for {
		page, err := m.source.page(ctx, table, columns, last, m.rows)
		if err != nil {
			return done, err
		}
		if len(page) == 0 {
			break
		}
		if err := m.step(); err != nil {
			return done, err
		}
		if err := m.put(ctx, table, columns, page); err != nil {
			return done, err
		}
		last = keyOf(table, columns, page[len(page)-1])
	}
	here, err := m.source.digest(ctx, table, columns, m.rows)
	if err != nil {
		return done, err
	}
	there, err := m.target.digest(ctx, table, columns, m.rows)
	if err != nil {
		return done, err
	}
	if here.rows != there.rows || here.sum != there.sum {
		return done, fmt.Errorf("%d rows (%.16s…) became %d (%.16s…): the target is not what the source is; make a new database and begin again",
			here.rows, here.sum, there.rows, there.sum)
	}
	done.Rows, done.Digest = there.rows, there.sum
	if m.target.Shared() {
		done.Replaced = here.replaced
	}
	return done, nil
}

// columns are those of the table, which must be the same on both sides.
func (m *mover) columns(ctx context.Context, table movedTable) ([]string, error) {
	here, err := m.source.columns(ctx, table.name)
	if err != nil {
		return nil, err
	}
	there, err := m.target.columns(ctx, table.name)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(here, there) {
		return nil, fmt.Errorf("its columns are %s here and %s there", strings.Join(here, ", "), strings.Join(there, ", "))
	}
	return here, nil
}

func (db *DB) columns(ctx context.Context, table string) ([]string, error) {
	a := db.ask(ctx, everyTenant, `SELECT * FROM `+table+` LIMIT 0`)
	if a.err != nil {
		return nil, explain(a.err)
	}
	defer a.close()
	names, err := a.rows.Columns()
	slices.Sort(names)
	return names, err
}

// last is the key of the target's last row; nil for none. Rows come in the order of their keys, so that all before it are there.
func (m *mover) last(ctx context.Context, table movedTable) ([]any, error) {
	keys := strings.Split(table.key, ", ")
	found, err := list(m.target.ask(ctx, everyTenant, `SELECT `+table.key+` FROM `+table.name+
		` ORDER BY `+strings.Join(keys, " DESC, ")+` DESC LIMIT 1`), scanAny(len(keys)))
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

func keyOf(table movedTable, columns []string, row []any) (key []any) {
	for name := range strings.SplitSeq(table.key, ", ") {
		key = append(key, row[slices.Index(columns, name)])
	}
	return key
}

func scanAny(columns int) func(row) ([]any, error) {
	return func(r row) ([]any, error) {
		values, into := make([]any, columns), make([]any, columns)
		for i := range values {
			into[i] = &values[i]
		}
		err := r.Scan(into...)
		for i, v := range values {
			if blob, ok := v.([]byte); ok {
				values[i] = some(blob) // SQLite's driver has nil for an empty one
			}
		}
		return values, err
	}
}

// page reads the rows that follow a key.
func (db *DB) page(ctx context.Context, table movedTable, columns []string, after []any, rows int) ([][]any, error) {
	query := `SELECT ` + strings.Join(columns, ", ") + ` FROM ` + table.name
	if after != nil {
		query += ` WHERE (` + table.key + `) > (` + placeholders(len(after)) + `)`
	}
	query += ` ORDER BY ` + table.key + ` LIMIT ` + strconv.Itoa(rows)
	return list(db.ask(ctx, everyTenant, query, after...), scanAny(len(columns)))
}

func placeholders(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = "$" + strconv.Itoa(i+1)
	}
	return strings.Join(all, ", ")
}

func (m *mover) put(ctx context.Context, table movedTable, columns []string, page [][]any) error {
	query := `INSERT INTO ` + table.name + ` (` + strings.Join(columns, ", ") + `) VALUES (` + placeholders(len(columns)) + `)`
	return m.target.update(ctx, everyTenant, func(ctx context.Context, tx *tx) error { return tx.each(ctx, query, page) })
}

// contents is what a table holds.
type contents struct {
	rows, replaced int64
	sum            string
}

// digest reads a whole table. Texts count as PostgreSQL can hold them, so that both sides come to the same.
func (db *DB) digest(ctx context.Context, table movedTable, columns []string, rows int) (contents, error) {
	var c contents
	sum := sha256.New()
	var last []any
	for {
		page, err := db.page(ctx, table, columns, last, rows)
		if err != nil {
			return c, err
		}
		if len(page) == 0 {
			c.sum = hex.EncodeToString(sum.Sum(nil))
			return c, nil
		}
		for _, row := range page {
			c.rows++
			for _, v := range row {
				replaced, err := digestValue(sum, v)
				if err != nil {
					return c, err
				}
				if replaced {
					c.replaced++
				}
			}
		}
		last = keyOf(table, columns, page[len(page)-1])
	}
}

// digestValue adds a value with its type and length, so that no two rows read the same.
func digestValue(sum hash.Hash, v any) (replaced bool, err error) {
	kind := byte('t')
	var text []byte
	switch v := v.(type) {
	case int64:
		kind, text = 'i', binary.BigEndian.AppendUint64(nil, uint64(v))
	case []byte:
		kind, text = 'b', v
	case string:
		clean, err := cleanArg(v)
		if err != nil {
			return false, err
		}
		replaced = clean != v
		text = []byte(clean.(string))
	default:
		return false, fmt.Errorf("a value of type %T", v)
	}
	_, err = sum.Write(append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(text))), text...))
	return replaced, err
}
